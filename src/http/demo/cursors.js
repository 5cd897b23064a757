// Live cursors on the shared table: by mouse, finger or arrow keys, at most 20 a second, the latest position wins.

import { colour, element } from './words.js';

const EVERY = 50;
const FADE_AFTER = 5_000;
const STEP = 0.03;
const KEYS = { ArrowLeft: [-STEP, 0], ArrowRight: [STEP, 0], ArrowUp: [0, -STEP], ArrowDown: [0, STEP] };

/** Until the signal is aborted. */
export function cursors(table, room, signal) {
  const shown = new Map();
  let place = { x: 0.5, y: 0.5 };

  const point = (x, y) => {
    place = { x: round(clamp(x)), y: round(clamp(y)) };
    room.broadcast('cursor', place, { throttle: EVERY });
  };
  const follow = (event) => {
    const box = table.getBoundingClientRect();
    point((event.clientX - box.left) / box.width, (event.clientY - box.top) / box.height);
  };
  table.addEventListener('pointermove', follow, { signal });
  table.addEventListener('pointerdown', follow, { signal });
  table.addEventListener('keydown', (event) => {
    const step = KEYS[event.key];
    if (!step) return;
    event.preventDefault();
    point(place.x + step[0], place.y + step[1]);
    // Who moves by keys sees no pointer of their own.
    move(room.id, 'you', place);
  }, { signal });
  signal.addEventListener('abort', () => { for (const id of [...shown.keys()]) remove(id); });

  room.on('broadcast', ({ from, event, payload }) => {
    if (event !== 'cursor' || !Number.isFinite(payload?.x) || !Number.isFinite(payload?.y)) return;
    // The sender may be gone already, or not named yet.
    const member = room.members.find(({ id }) => id === from);
    if (member) move(from, member.name, payload);
  });
  room.on('leave', ({ id }) => remove(id));

  function move(id, name, { x, y }) {
    const cursor = shown.get(id) ?? add(id, name);
    cursor.element.style.setProperty('--x', `${clamp(x) * 100}%`);
    cursor.element.style.setProperty('--y', `${clamp(y) * 100}%`);
    clearTimeout(cursor.timer);
    cursor.timer = setTimeout(() => remove(id), FADE_AFTER);
  }

  function add(id, name) {
    const cursor = { element: element('span', 'cursor', name), timer: null };
    cursor.element.dataset.cursor = id;
    cursor.element.style.setProperty('--colour', colour(id));
    table.append(cursor.element);
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
