// Live cursors on the shared table, through broadcasts: at most 15 a second, the latest position wins.

const EVERY = 1000 / 15;
const FADE_AFTER = 5_000;

export function cursors(table, room, colour) {
  const shown = new Map();
  let latest = null;
  let timer = null;

  const flush = () => {
    timer = null;
    if (!latest) return;
    room.broadcast('cursor', latest);
    latest = null;
    timer = setTimeout(flush, EVERY);
  };

  const point = (event) => {
    const box = table.getBoundingClientRect();
    latest = { x: round((event.clientX - box.left) / box.width), y: round((event.clientY - box.top) / box.height) };
    if (!timer) flush();
  };
  table.addEventListener('pointermove', point);
  table.addEventListener('pointerdown', point);

  room.addEventListener('broadcast', ({ detail: { from, event, payload } }) => {
    // The sender may be gone already, or not named yet.
    const member = room.members.get(from);
    if (event !== 'cursor' || !member || !Number.isFinite(payload?.x) || !Number.isFinite(payload?.y)) return;
    const cursor = shown.get(from) ?? add(from, member.name);
    cursor.element.style.left = `${clamp(payload.x) * 100}%`;
    cursor.element.style.top = `${clamp(payload.y) * 100}%`;
    clearTimeout(cursor.timer);
    cursor.timer = setTimeout(() => remove(from), FADE_AFTER);
  });

  room.addEventListener('leave', ({ detail: { id } }) => remove(id));

  function add(id, name) {
    const element = document.createElement('span');
    element.className = 'cursor';
    element.dataset.cursor = id;
    element.textContent = name;
    element.style.setProperty('--colour', colour(id));
    table.append(element);
    const cursor = { element, timer: null };
    shown.set(id, cursor);
    return cursor;
  }

  function remove(id) {
    const cursor = shown.get(id);
    if (!cursor) return;
    clearTimeout(cursor.timer);
    cursor.element.remove();
    shown.delete(id);
  }
}

const round = (value) => Math.round(value * 1000) / 1000;
const clamp = (value) => Math.min(1, Math.max(0, value));
