// The room page: the door, the room, and what is said when the door stays shut.

import { ask, join } from '/client.js';
import { cursors } from './cursors.js';
import { invitePanel } from './invite.js';
import { showRefusal } from './refusals.js';
import { RosterView } from './roster.js';
import { announcer, clock, say, write } from './words.js';

const MOODS = [['🙂', 'Happy'], ['🤔', 'Thinking'], ['🎉', 'Celebrating'], ['😴', 'Sleepy'], ['❤️', 'Loving it']];
/** A room that has a last minute to speak of says so. */
const WARN_BEFORE = 5 * 60_000;

const $ = (id) => document.getElementById(id);
const invite = lastPart(location.pathname);
/** `?guest=2` makes this tab somebody else, for trying things out in one browser. */
const guest = new URLSearchParams(location.search).get('guest');
const announce = announcer($('live'));
const roster = new RosterView($('roster'));
const showLink = invitePanel($('invite'));
let room = null;
let endsAt = null;

function lastPart(path) {
  const part = path.split('/').pop();
  try {
    return decodeURIComponent(part);
  } catch {
    return part;
  }
}

/** Where the browser keeps nothing, a name is typed again. */
function kept(key, value) {
  try {
    if (value !== undefined) localStorage.setItem(key, value);
    return localStorage.getItem(key) ?? '';
  } catch {
    return '';
  }
}

function entrance(name) {
  if (guest === null) return { invite, name };
  const key = `rollcall-demo-client:${guest}`;
  return { invite, name, client: kept(key) || kept(key, crypto.getRandomValues(new Uint32Array(4)).join('-')) };
}

function show(id) {
  for (const part of ['door', 'room', 'problem']) $(part).hidden = part !== id;
}

function refuse(error) {
  say($('banner-text'));
  $('banner').hidden = true;
  say($('expiring'));
  show('problem');
  showRefusal($('problem'), error, () => location.reload());
}

/** At most once a frame, however much happens. */
let isDue = false;
function render() {
  if (isDue) return;
  isDue = true;
  requestAnimationFrame(() => {
    isDue = false;
    if (!room?.info || room.connection === 'closed') return;
    roster.render(room);
    write($('count'), String(room.occupancy));
    $('crowd').hidden = room.roster === 'full';
    const title = String(room.info.metadata.title || 'A room');
    write($('title'), title);
    write($('room-title'), title);
    document.title = `${title} (${room.occupancy}) · Rollcall`;
    const mood = room.self?.state.mood;
    for (const button of $('moods').children) button.setAttribute('aria-pressed', String(button.dataset.mood === mood));
  });
}

/** What has a time in it is looked at every second. */
function tick() {
  const { retryAt, problem } = room;
  const isAway = room.connection === 'connecting' || room.connection === 'reconnecting';
  $('banner').hidden = !isAway;
  $('room').classList.toggle('stale', room.connection === 'reconnecting');
  $('try-now').hidden = retryAt === null || problem?.retryAfter !== undefined;
  if (isAway) {
    const why = room.connection === 'connecting' ? 'Connecting …' : 'Connection lost. You see who was here.';
    const next = retryAt && retryAt - Date.now() > 1_000 ? ` Next try in ${clock(retryAt - Date.now())}.` : room.connection === 'reconnecting' ? ' Reconnecting …' : '';
    // That nobody answers is what "lost" says already.
    const said = problem?.code === 'unreachable' ? why : problem?.detail ?? why;
    write($('banner-text'), `${said}${next}`);
  }
  const left = endsAt === null ? Infinity : endsAt - room.now();
  say($('expiring'), left < WARN_BEFORE ? `This room ends in ${clock(left)}.` : '');
}

function enter(name) {
  room = join(entrance(name));
  cursors($('table'), room);
  showLink(location.origin + location.pathname);
  room.on('sync', () => {
    show('room');
    render();
  });
  for (const type of ['join', 'leave', 'update', 'room']) room.on(type, render);
  room.on('room', ({ expires_at }) => { endsAt = expires_at && Date.parse(expires_at); });
  room.on('expiring', ({ expires_at }) => {
    endsAt = Date.parse(expires_at);
    announce(`This room ends at ${new Date(endsAt).toLocaleTimeString([], { hour: '2-digit', minute: '2-digit' })}.`);
  });
  room.on('join', (member) => {
    roster.joined(member);
    announce(`${member.name} joined`);
  });
  room.on('leave', (member) => {
    roster.left(member);
    announce(`${member.name} left`);
  });
  room.on('connection', tick);
  room.on('error', ({ code, detail }) => console.warn(`${code}: ${detail}`));
  room.on('refused', refuse);
  tick();
  setInterval(tick, 1_000);
  // "3 min ago" grows older by itself.
  setInterval(render, 15_000);
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
  kept(`rollcall-name:${guest ?? ''}`, name);
  $('door').hidden = true;
  enter(name);
});

$('idle').addEventListener('click', () => {
  const isIdle = $('idle').getAttribute('aria-pressed') !== 'true';
  $('idle').setAttribute('aria-pressed', String(isIdle));
  room.setStatus(isIdle ? 'idle' : 'auto');
});

$('try-now').addEventListener('click', () => room.retry());

$('leave').addEventListener('click', () => {
  room.leave();
  refuse({ code: 'left' });
});

// The link is asked before a name is: nobody should introduce themselves to a closed door.
const remembered = kept(`rollcall-name:${guest ?? ''}`);
const wasReloaded = performance.getEntriesByType('navigation')[0]?.type === 'reload';
if (wasReloaded && remembered) {
  enter(remembered);
} else {
  try {
    const { metadata } = await ask(entrance(remembered || 'Guest'));
    $('title').textContent = String(metadata.title ?? '');
    $('name').value = remembered;
    show('door');
    $('name').focus();
  } catch (error) {
    refuse(error);
  }
}
