// The room page: the door, the room, and what is said when the door stays shut.

import { Room, kept } from '/demo/rollcall.js';
import { cursors } from '/demo/cursors.js';

const MOODS = [['🙂', 'Happy'], ['🤔', 'Thinking'], ['🎉', 'Celebrating'], ['😴', 'Sleepy'], ['❤️', 'Loving it']];
const SVG = 'http://www.w3.org/2000/svg';
/** Drawn, not emoji: they look the same everywhere. */
const ICONS = {
  hourglass: 'M6 3h12M6 21h12M7 3c0 5 4 6 5 9-1 3-5 4-5 9M17 3c0 5-4 6-5 9 1 3 5 4 5 9',
  barred: 'M12 3a9 9 0 1 0 0 18a9 9 0 1 0 0-18M5.7 5.7l12.6 12.6',
  ticket: 'M3 7h18v3a2 2 0 0 0 0 4v3H3v-3a2 2 0 0 0 0-4zM14 7v2M14 11v2M14 15v2',
  link: 'M9 7H7a5 5 0 0 0 0 10h2M15 7h2a5 5 0 0 1 0 10h-2M4 3l16 18',
  door: 'M4 21h16M6 21V3h12v18M14 12v1',
  full: 'M9 11a3.5 3.5 0 1 0 0-7a3.5 3.5 0 0 0 0 7M2 20c0-4 3-6 7-6s7 2 7 6M16 4.5a3.5 3.5 0 0 1 0 6M18 14.5c2.5.8 4 2.6 4 5.5',
  wait: 'M12 3a9 9 0 1 0 0 18a9 9 0 1 0 0-18M12 7v5l3 3',
  wave: 'M9 4H5v16h4M10 12h10M16 8l4 4-4 4',
  alert: 'M12 3L2 20h20zM12 9v5M12 17v.5',
};
const ICON_OF = {
  invite_expired: 'hourglass', room_expired: 'hourglass', credential_expired: 'hourglass',
  invite_revoked: 'barred', removed: 'barred', origin_forbidden: 'barred', room_forbidden: 'barred',
  invite_used_up: 'ticket', invite_not_found: 'link', room_not_found: 'door', room_closed: 'door', token_expired: 'hourglass',
  room_full: 'full', too_many_connections: 'full',
  rate_limited: 'wait', overloaded: 'wait', draining: 'wait', store_unavailable: 'wait', keys_unavailable: 'wait', unreachable: 'wait', left: 'wave',
};
const MOST_GONE = 20;

const $ = (id) => document.getElementById(id);
const invite = readToken();
/** `?guest=2` makes this tab somebody else, for trying things out in one browser. */
const guest = new URLSearchParams(location.search).get('guest') ?? '';
const nameKey = `rollcall-name:${guest}`;
const rows = new Map();
let room = null;

function readToken() {
  const token = location.pathname.split('/').pop();
  try {
    return decodeURIComponent(token);
  } catch {
    return token;
  }
}

function show(id) {
  for (const part of ['door', 'room', 'problem']) $(part).hidden = part !== id;
}

function problem({ code, status, message }, title = 'Something went wrong') {
  say('banner');
  say('expiring');
  draw(ICON_OF[code] ?? 'alert');
  $('problem-title').textContent = title;
  $('problem-detail').textContent = message;
  $('problem-code').textContent = code ?? '';
  const hasLeft = code === 'left';
  $('retry').textContent = hasLeft ? 'Come back in' : 'Try again';
  $('retry').hidden = !(hasLeft || status === 429 || status === 503);
  document.title = `${title} · Rollcall`;
  show('problem');
  $('problem-title').focus();
}

function draw(icon) {
  const svg = document.createElementNS(SVG, 'svg');
  svg.setAttribute('viewBox', '0 0 24 24');
  const path = document.createElementNS(SVG, 'path');
  path.setAttribute('d', ICONS[icon]);
  svg.append(path);
  $('problem-icon').replaceChildren(svg);
}

/** A hue from the id, dark enough for white letters whatever the hue. */
function colour(id) {
  let hash = 0;
  for (const character of id) hash = (hash * 31 + character.charCodeAt(0)) >>> 0;
  return `hsl(${hash % 360} 50% 34%)`;
}

function initials(name) {
  return name.trim().split(/\s+/).slice(0, 2).map((word) => [...word][0] ?? '').join('').toUpperCase();
}

function ago(time) {
  const seconds = Math.max(0, Math.round((room.now() - Date.parse(time)) / 1000));
  if (seconds < 45) return 'just now';
  const minutes = Math.max(1, Math.round(seconds / 60));
  if (minutes < 60) return `${minutes} min ago`;
  const words = new Intl.RelativeTimeFormat('en');
  return minutes < 36 * 60 ? words.format(-Math.round(minutes / 60), 'hour') : words.format(-Math.round(minutes / 1440), 'day');
}

function part(tag, name) {
  const element = document.createElement(tag);
  element.className = name;
  return element;
}

/** The row of a person, made once and kept: rows move and change, but are not swapped under a reader. */
function rowOf(id) {
  let row = rows.get(id);
  if (row) return row;
  const item = document.createElement('li');
  item.dataset.memberId = id;
  row = { item, avatar: part('span', 'avatar'), name: part('span', 'name'), you: part('span', 'you'), note: part('span', 'note'), mood: part('span', 'mood') };
  row.avatar.style.setProperty('--colour', colour(id));
  row.avatar.setAttribute('aria-hidden', 'true');
  row.you.textContent = 'you';
  const line = part('span', 'who');
  line.append(row.name, row.you);
  item.append(row.avatar, line, row.note, row.mood);
  rows.set(id, row);
  return row;
}

function person(member, hasLeft) {
  const { item, avatar, name, you, note, mood } = rowOf(member.id);
  item.toggleAttribute('data-departed', hasLeft);
  write(avatar, initials(member.name));
  avatar.dataset.status = hasLeft ? 'gone' : member.status;
  write(name, member.name);
  you.hidden = member.id !== room.self.participant_id;
  write(note, hasLeft ? `last seen ${ago(member.last_seen_at)}` : member.status === 'idle' ? 'away' : 'here');
  const felt = member.state?.mood;
  write(mood, !hasLeft && typeof felt === 'string' ? [...felt].slice(0, 4).join('') : '');
  return item;
}

function write(element, text) {
  if (element.textContent !== text) element.textContent = text;
}

function render() {
  const self = room.self.participant_id;
  const byName = (a, b) => (b.id === self) - (a.id === self) || a.name.localeCompare(b.name) || (a.id < b.id ? -1 : 1);
  const here = [...room.members.values()].sort(byName);
  const gone = [...room.departed.values()].sort((a, b) => (a.last_seen_at < b.last_seen_at ? 1 : -1)).slice(0, MOST_GONE);
  const items = [...here.map((member) => person(member, false)), ...gone.map((member) => person(member, true))];
  arrange($('roster'), items);
  write($('count'), String(room.occupancy));
  $('crowd').hidden = room.roster === 'full';
  const title = String(room.room.metadata.title || 'A room');
  write($('title'), title);
  document.title = `${title} (${room.occupancy}) · Rollcall`;
  const mood = room.members.get(self)?.state?.mood;
  for (const button of $('moods').children) button.setAttribute('aria-pressed', String(button.dataset.mood === mood));
}

/** Puts the items in order, touching only those out of place. */
function arrange(list, items) {
  const wanted = new Set(items);
  for (const item of [...list.children]) {
    if (wanted.has(item)) continue;
    item.remove();
    rows.delete(item.dataset.memberId);
  }
  items.forEach((item, index) => {
    if (list.children[index] !== item) list.insertBefore(item, list.children[index] ?? null);
  });
}

function say(id, text = '') {
  write($(id), text);
  $(id).hidden = !text;
}

/** Spoken in small lots: a queue at the door is one sentence, not twenty interruptions. */
const news = [];
function announce(text) {
  news.push(text);
  if (news.length > 1) return;
  setTimeout(() => {
    const words = news.splice(0);
    $('live').textContent = words.length > 4 ? `${words.length} people came or went` : words.join(', ');
  }, 400);
}

function enter(name) {
  room = new Room({ invite, name, guest });
  say('banner', 'Connecting …');
  room.addEventListener('change', () => { show('room'); render(); });
  room.addEventListener('connection', ({ detail }) => {
    const words = { connecting: 'Connecting …', reconnecting: 'Connection lost. Reconnecting …' };
    say('banner', words[detail]);
    $('room').classList.toggle('stale', detail === 'reconnecting');
  });
  room.addEventListener('waiting', ({ detail }) => {
    if (detail) say('banner', `${detail.message} Reconnecting …`);
  });
  room.addEventListener('trouble', ({ detail }) => console.warn(`${detail.code}: ${detail.detail}`));
  room.addEventListener('refused', ({ detail }) => problem(detail));
  room.addEventListener('join', ({ detail }) => announce(`${detail.name} joined`));
  room.addEventListener('leave', ({ detail }) => announce(`${detail.name} left`));
  room.addEventListener('expiring', ({ detail }) => {
    const time = new Date(detail.expires_at).toLocaleTimeString([], { hour: '2-digit', minute: '2-digit' });
    say('expiring', `This room ends at ${time}.`);
  });
  cursors($('table'), room, colour);
  return room.join();
}

for (const [mood, word] of MOODS) {
  const button = document.createElement('button');
  button.type = 'button';
  button.textContent = mood;
  button.title = word;
  button.dataset.test = `mood-${mood}`;
  button.dataset.mood = mood;
  button.setAttribute('aria-label', word);
  button.setAttribute('aria-pressed', 'false');
  // Pressed again, a mood is taken back.
  button.addEventListener('click', () => room.update({ mood: button.getAttribute('aria-pressed') === 'true' ? null : mood }));
  $('moods').append(button);
}

$('door').addEventListener('submit', (event) => {
  event.preventDefault();
  const name = $('name').value.trim();
  if (!name) return;
  kept.setItem(nameKey, name);
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
  setTimeout(() => { $('copy').textContent = 'Copy the link'; }, 3_000);
});

$('leave').addEventListener('click', () => {
  room.leave();
  problem({ code: 'left', message: 'Your seat is free. The link brings you back.' }, 'You left');
});

addEventListener('online', () => room?.retryNow());
$('retry').addEventListener('click', () => location.reload());
setInterval(() => { if (room?.self && !$('room').hidden) render(); }, 15_000);

// The link is asked before a name is: nobody should introduce themselves to a closed door.
const remembered = kept.getItem(nameKey) ?? '';
const visitor = new Room({ invite, name: remembered || 'Guest', guest });
if (visitor.canResume && remembered) {
  await enter(remembered);
} else {
  try {
    const found = await visitor.ask();
    $('title').textContent = String(found.metadata.title ?? '');
    $('name').value = remembered;
    show('door');
    $('name').focus();
  } catch (error) {
    problem(error.code ? error : { code: 'unreachable', status: 503, message: 'The server cannot be reached. Please try again in a moment.' });
  }
}
