// The room page: the door, the room, and what is said when the door stays shut.

import { Room } from '/demo/rollcall.js';
import { cursors } from '/demo/cursors.js';

const MOODS = ['🙂', '🤔', '🎉', '😴', '❤️'];
const ICONS = {
  invite_expired: '⌛', room_expired: '⌛', 4410: '⌛', invite_revoked: '🚫', invite_used_up: '🎟️', invite_not_found: '🔗',
  room_not_found: '🚪', 4404: '🚪', removed: '🙅', 4403: '🙅', room_full: '🪑', too_many_connections: '🗂️',
  rate_limited: '⏳', overloaded: '⏳', draining: '⏳', store_unavailable: '⏳',
};

const $ = (id) => document.getElementById(id);
const invite = decodeURIComponent(location.pathname.split('/').pop());
/** `?guest=2` makes this tab somebody else, for trying things out in one browser. */
const guest = new URLSearchParams(location.search).get('guest') ?? '';
const nameKey = `rollcall-name:${guest}`;
let room = null;

function show(id) {
  for (const part of ['door', 'room', 'problem']) $(part).hidden = part !== id;
}

function problem({ code, status, message }, title = 'Something went wrong') {
  $('banner').hidden = true;
  $('problem-icon').textContent = ICONS[code] ?? '🤷';
  $('problem-title').textContent = title;
  $('problem-detail').textContent = message;
  $('problem-code').textContent = code ?? '';
  $('retry').hidden = !(status === 429 || status === 503);
  document.title = `${title} · Rollcall`;
  show('problem');
  $('problem-title').focus();
}

function colour(id) {
  let hash = 0;
  for (const character of id) hash = (hash * 31 + character.charCodeAt(0)) >>> 0;
  return `hsl(${hash % 360} 50% 34%)`;
}

function initials(name) {
  return name.split(/\s+/).slice(0, 2).map((word) => [...word][0] ?? '').join('').toUpperCase();
}

function ago(time) {
  const seconds = Math.max(0, Math.round((Date.now() - Date.parse(time)) / 1000));
  if (seconds < 45) return 'just now';
  const words = new Intl.RelativeTimeFormat('en', { numeric: 'always' });
  if (seconds < 3600) return words.format(-Math.max(1, Math.round(seconds / 60)), 'minute');
  return words.format(-Math.round(seconds / 3600), 'hour');
}

function person(member, hasLeft) {
  const item = document.createElement('li');
  item.dataset.memberId = member.id;
  if (hasLeft) item.dataset.departed = '';
  const avatar = document.createElement('span');
  avatar.className = 'avatar';
  avatar.textContent = initials(member.name);
  avatar.style.setProperty('--colour', colour(member.id));
  avatar.setAttribute('aria-hidden', 'true');
  const name = document.createElement('span');
  name.className = 'name';
  name.textContent = member.name;
  const note = document.createElement('span');
  note.className = 'note';
  const isSelf = member.id === room.self.participant_id;
  const words = hasLeft ? `last seen ${ago(member.last_seen_at)}` : member.status === 'idle' ? 'away' : 'here';
  note.textContent = isSelf ? `${words} · you` : words;
  if (!hasLeft) avatar.dataset.status = member.status;
  const mood = document.createElement('span');
  mood.className = 'mood';
  mood.textContent = hasLeft ? '' : (typeof member.state.mood === 'string' ? member.state.mood.slice(0, 4) : '');
  item.append(avatar, name, note, mood);
  return item;
}

function render() {
  const byName = (a, b) => a.name.localeCompare(b.name) || a.id.localeCompare(b.id);
  const here = [...room.members.values()].sort(byName);
  const gone = [...room.departed.values()].sort((a, b) => b.last_seen_at.localeCompare(a.last_seen_at)).slice(0, 20);
  $('count').textContent = room.occupancy;
  $('roster').replaceChildren(...here.map((member) => person(member, false)), ...gone.map((member) => person(member, true)));
  const title = room.room.metadata.title || 'A room';
  $('title').textContent = title;
  document.title = `${title} (${room.occupancy}) · Rollcall`;
  const mood = room.members.get(room.self.participant_id)?.state.mood;
  for (const button of $('moods').children) button.setAttribute('aria-pressed', String(button.textContent === mood));
}

function banner(text) {
  $('banner').textContent = text ?? '';
  $('banner').hidden = !text;
}

function enter(name) {
  room = new Room({ invite, name, guest });
  banner('Connecting …');
  room.addEventListener('change', () => { show('room'); render(); });
  room.addEventListener('connection', ({ detail }) => {
    const words = { connecting: 'Connecting …', reconnecting: 'Connection lost. Coming back …' };
    banner(words[detail]);
    $('room').classList.toggle('stale', detail === 'reconnecting');
  });
  room.addEventListener('refused', ({ detail }) => problem(detail));
  room.addEventListener('join', ({ detail }) => { $('live').textContent = `${detail.name} joined`; });
  room.addEventListener('leave', ({ detail }) => { $('live').textContent = `${detail.name} left`; });
  room.addEventListener('expiring', ({ detail }) => {
    const time = new Date(detail.expires_at).toLocaleTimeString([], { hour: '2-digit', minute: '2-digit' });
    banner(`This room ends at ${time}.`);
  });
  cursors($('table'), room, colour);
  room.join();
}

for (const mood of MOODS) {
  const button = document.createElement('button');
  button.type = 'button';
  button.textContent = mood;
  button.dataset.test = `mood-${mood}`;
  button.addEventListener('click', () => room.update({ mood }));
  $('moods').append(button);
}

$('door').addEventListener('submit', (event) => {
  event.preventDefault();
  const name = $('name').value.trim();
  if (!name) return;
  localStorage.setItem(nameKey, name);
  $('door').hidden = true;
  enter(name);
});

$('idle').addEventListener('click', () => {
  const isIdle = $('idle').getAttribute('aria-pressed') !== 'true';
  $('idle').setAttribute('aria-pressed', String(isIdle));
  room.setStatus(isIdle ? 'idle' : 'active');
});

$('copy').addEventListener('click', async () => {
  try {
    await navigator.clipboard.writeText(location.origin + location.pathname);
    $('copy').textContent = 'Copied';
  } catch {
    $('copy').textContent = 'Copy it from the address bar';
  }
});

$('leave').addEventListener('click', () => {
  room.leave();
  problem({ code: 'left', message: 'Your seat is free. The link brings you back.' }, 'You left');
  $('problem-icon').textContent = '👋';
});

$('retry').addEventListener('click', () => location.reload());
setInterval(() => { if (room?.room && !$('room').hidden) render(); }, 30_000);

// The link is asked before a name is: nobody should introduce themselves to a closed door.
const remembered = localStorage.getItem(nameKey) ?? '';
const isBack = sessionStorage.getItem(`rollcall-resume:${guest}:${invite}`) !== null;
if (isBack && remembered) {
  enter(remembered);
} else {
  try {
    const found = await new Room({ invite, name: remembered || 'Guest', guest }).ask();
    $('title').textContent = found.metadata.title || '';
    $('name').value = remembered;
    show('door');
    $('name').focus();
  } catch (error) {
    problem(error.code ? error : { code: 'unreachable', status: 503, message: 'The server cannot be reached. Please try again in a moment.' });
  }
}
