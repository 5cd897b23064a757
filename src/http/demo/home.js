// The start page: makes a room and its first invite link, and lists the rooms there are.

import { invitePanel } from './invite.js';

const LOOK_EVERY = 5_000;
const MOST_LISTED = 20;
const $ = (id) => document.getElementById(id);
const showLink = invitePanel($('made'));

async function call(path, options) {
  let response;
  try {
    response = await fetch(path, options);
  } catch {
    throw new Error('The server cannot be reached. Please try again in a moment.');
  }
  const answer = await response.json().catch(() => ({}));
  if (!response.ok) throw new Error(answer.detail ?? `The server answered ${response.status}.`);
  return answer;
}

function post(path, body) {
  return call(path, {
    method: 'POST',
    headers: { 'content-type': 'application/json' },
    body: JSON.stringify(body),
  });
}

/** The link as this browser reaches the server, whatever the server thinks its address is. */
async function invite(room) {
  const { url, token } = await post(`/v1/rooms/${encodeURIComponent(room)}/invites`, {});
  const { pathname } = new URL(url, location.origin);
  // An --invite-url elsewhere is the application's page, not this demo's.
  const path = pathname.startsWith('/join/') ? pathname : `/join/${encodeURIComponent(token)}`;
  return location.origin + path;
}

function fail(error) {
  $('failure').textContent = error?.message ?? '';
  $('failure').hidden = !error;
}

// A browser says nothing of a field that it cannot show.
$('make').addEventListener('invalid', () => { $('limits').open = true; }, true);

$('make').addEventListener('submit', async (event) => {
  event.preventDefault();
  fail(null);
  $('make-room').disabled = true;
  try {
    const title = $('title').value.trim();
    const limits = { max_age_seconds: Number($('max-age').value) || null, max_participants: Number($('max-participants').value) || null };
    const wishes = Object.fromEntries(Object.entries(limits).filter(([, limit]) => limit));
    const room = await post('/v1/rooms', { metadata: title ? { title } : {}, ...wishes });
    const link = await invite(room.id);
    showLink(link);
    $('enter').href = link;
    $('enter-guest').href = `${link}?guest=2`;
    $('made').hidden = false;
    $('made-title').focus();
    await list();
  } catch (error) {
    fail(error);
  } finally {
    $('make-room').disabled = false;
  }
});

const rows = new Map();

async function list() {
  const { items, next_cursor } = await call(`/v1/rooms?limit=${MOST_LISTED}`);
  $('rooms').hidden = items.length === 0;
  $('more-rooms').hidden = next_cursor === null;
  const ids = new Set(items.map((room) => room.id));
  for (const [id, { item }] of rows) {
    if (ids.has(id)) continue;
    item.remove();
    rows.delete(id);
  }
  items.forEach((room, index) => {
    const { item } = fill(rows.get(room.id) ?? row(room), room);
    if ($('list').children[index] !== item) $('list').insertBefore(item, $('list').children[index] ?? null);
  });
}

function fill(made, room) {
  const title = String(room.metadata?.title || room.id);
  made.name.textContent = title;
  made.online.textContent = `${room.online ?? 0} here`;
  made.enter.setAttribute('aria-label', `Enter ${title}`);
  return made;
}

function row({ id }) {
  const item = document.createElement('li');
  item.dataset.roomId = id;
  const name = document.createElement('span');
  const online = document.createElement('span');
  online.className = 'count';
  const enter = document.createElement('button');
  enter.type = 'button';
  enter.textContent = 'Enter';
  enter.addEventListener('click', async () => {
    try {
      location.href = await invite(id);
    } catch (error) {
      fail(error);
    }
  });
  item.append(name, online, enter);
  const made = { item, name, online, enter };
  rows.set(id, made);
  return made;
}

// A list that cannot be read now is read later; making a room says what is wrong.
const look = () => list().catch((error) => console.warn(error.message));
setInterval(() => { if (!document.hidden) look(); }, LOOK_EVERY);
look();
