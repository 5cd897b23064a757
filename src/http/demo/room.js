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
/** One stay in the room, until it is over. */
let stay = new AbortController();
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
function kept(key, value, area = 'localStorage') {
  try {
    const storage = globalThis[area];
    if (value !== undefined) storage.setItem(key, value);
    return storage.getItem(key) ?? '';
  } catch {
    return '';
  }
}

const remembered = (name) => kept(`rollcall-demo-name:${guest ?? ''}`, name);

/** Whether this tab is in the room, so that a reload goes back in and does not stand at the door. */
const isIn = (value) => kept(`rollcall-demo-in:${invite} ${guest ?? ''}`, value, 'sessionStorage');

function entrance(name) {
  if (guest === null) return { invite, name };
  const key = `rollcall-demo-client:${guest}`;
  return { invite, name, client: kept(key) || kept(key, crypto.getRandomValues(new Uint32Array(4)).join('-')) };
}

/** One of the parts, or none. */
function show(id) {
  for (const part of ['door', 'room', 'problem']) $(part).hidden = part !== id;
  if (id !== 'problem') write($('problem-code'), '');
}

/** It is over, or never began; `retry` is what may be tried. */
function refuse(error, retry = begin) {
  stay.abort();
  isIn('');
  endsAt = null;
  $('banner').hidden = true;
  say($('expiring'));
  show('problem');
  showRefusal($('problem'), error, retry);
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

function whyAway() {
  const { problem } = room;
  // That nobody answers is what "lost" says already.
  if (problem && problem.code !== 'unreachable') return problem.detail;
  return room.connection === 'connecting' ? 'Connecting …' : 'Connection lost. You see who was here.';
}

/** Says once what the banner goes on saying. */
function told(before, connection) {
  if (connection === 'reconnecting' && before === 'open') announce(whyAway());
  if (connection === 'open' && before === 'reconnecting') announce('You are connected again.');
  return connection;
}

/** What has a time in it is looked at every second. */
function tick() {
  const { retryAt, problem } = room;
  const isAway = room.connection === 'connecting' || room.connection === 'reconnecting';
  $('banner').hidden = !isAway;
  $('room').classList.toggle('stale', room.connection === 'reconnecting');
  $('try-now').hidden = retryAt === null || problem?.retryAfter !== undefined;
  if (isAway) {
    const next = retryAt && retryAt - Date.now() > 1_000 ? ` Next try in ${clock(retryAt - Date.now())}.` : room.connection === 'reconnecting' ? ' Reconnecting …' : '';
    write($('banner-text'), `${whyAway()}${next}`);
  }
  const left = endsAt === null ? Infinity : endsAt - room.now();
  say($('expiring'), left < WARN_BEFORE ? `This room ends in ${clock(left)}.` : '');
}

function enter(name) {
  show(null);
  stay = new AbortController();
  room = join(entrance(name));
  isIn('yes');
  $('idle').setAttribute('aria-pressed', 'false');
  $('leave').onclick = () => {
    room.leave();
    refuse({ code: 'left' }, () => enter(name));
  };
  cursors($('table'), room, stay.signal);
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
  let before = room.connection;
  room.on('connection', (connection) => {
    before = told(before, connection);
    if (connection !== 'closed') tick();
  });
  room.on('error', ({ code, detail }) => console.warn(`${code}: ${detail}`));
  room.on('refused', (error) => refuse(error));
  tick();
  // "3 min ago" grows older by itself.
  const timers = [setInterval(tick, 1_000), setInterval(render, 15_000)];
  stay.signal.addEventListener('abort', () => timers.forEach(clearInterval));
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
  remembered(name);
  enter(name);
});

$('idle').addEventListener('click', () => {
  const isIdle = $('idle').getAttribute('aria-pressed') !== 'true';
  $('idle').setAttribute('aria-pressed', String(isIdle));
  room.setStatus(isIdle ? 'idle' : 'auto');
});

$('try-now').addEventListener('click', () => room.retry());

/** The link is asked before a name is: nobody should introduce themselves to a closed door. */
async function begin() {
  try {
    const { metadata } = await ask(entrance(remembered() || 'Guest'));
    $('title').textContent = String(metadata.title ?? '');
    document.title = 'Come in · Rollcall';
    $('name').value = remembered();
    show('door');
    $('name').focus();
  } catch (error) {
    refuse(error);
  }
}

const wasReloaded = performance.getEntriesByType('navigation')[0]?.type === 'reload';
if (wasReloaded && isIn() && remembered()) enter(remembered());
else await begin();
