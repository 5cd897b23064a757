// The operator's page: asks for the key where one is needed, shows a view by the address, and looks again every few seconds.

import { ApiError, get, key } from './api.js';
import { overview } from './overview.js';
import { make } from './parts.js';
import { room } from './room.js';
import { rooms } from './rooms.js';

const LOOK_EVERY = 5_000;
const $ = (id) => document.getElementById(id);

let view = null;
let timer = null;
/** Looks so far. Only the newest draws: an answer that was overtaken is old news. */
let looks = 0;

function say(id, text) {
  $(id).textContent = text ?? '';
  $(id).hidden = !text;
}

/** Asks for what the view shows, and draws it; not while nobody sees it. */
async function look() {
  clearTimeout(timer);
  looks += 1;
  if (!view || document.hidden) return;
  const mine = looks;
  try {
    const draw = await view.load();
    if (mine !== looks) return;
    draw();
    say('trouble');
    $('main').dataset.state = 'loaded';
  } catch (error) {
    if (mine !== looks) return;
    fail('trouble', error);
  }
  if (view) timer = setTimeout(look, LOOK_EVERY);
}

function fail(place, error) {
  if (error instanceof ApiError && error.status === 401) return askForKey(key.get() ? 'This key is not the right one.' : '');
  say(place, error.message);
}

/** What a button does. Its words are told before anything else can go wrong, and it cannot be pressed twice meanwhile. */
async function act(deed, button) {
  if (button.ariaBusy === 'true') return;
  button.ariaBusy = 'true';
  const row = button.closest('tr')?.dataset.key;
  say('failure');
  try {
    const words = await deed();
    if (words) say('news', words);
  } catch (error) {
    fail('failure', error);
  } finally {
    button.ariaBusy = 'false';
  }
  await look();
  // What may be done next is where one was.
  if (!button.isConnected && row) document.querySelector(`tr[data-key="${CSS.escape(row)}"] button`)?.focus();
}

/** The address may be anybody's handiwork. */
function decoded(text) {
  try {
    return decodeURIComponent(text);
  } catch {
    return text;
  }
}

function route() {
  const [, page, id] = location.hash.split('/');
  if (page === 'rooms' && id) return room(act, decoded(id));
  return page === 'rooms' ? rooms(act) : overview(act);
}

function show() {
  view = route();
  document.title = `${view.title} · Rollcall`;
  delete $('main').dataset.state;
  $('main').replaceChildren(view.element);
  for (const link of document.querySelectorAll('nav a')) {
    const isHere = location.hash.startsWith('#/rooms') === link.hash.startsWith('#/rooms');
    link.ariaCurrent = isHere ? 'page' : 'false';
  }
  $('forget').hidden = !key.get();
  look();
}

function askForKey(words) {
  view = null;
  key.forget();
  $('forget').hidden = true;
  say('trouble', words);
  say('failure');
  say('news');
  const input = make('input', { id: 'key', type: 'password', autocomplete: 'current-password', required: true, 'data-test': 'key' });
  const form = make('form', { class: 'card narrow', onsubmit: (event) => {
    event.preventDefault();
    const given = input.value.trim();
    if (!key.isPossible(given)) return say('trouble', 'This key is not the right one.');
    key.set(given);
    say('trouble');
    show();
  } }, make('h1', {}, 'API key'), make('label', { for: 'key' }, 'One of the server\'s API keys; kept until this tab is closed'), make('p', { class: 'row' }, input, make('button', { class: 'primary', 'data-test': 'enter' }, 'Enter')));
  $('main').replaceChildren(form);
  $('main').dataset.state = 'asking';
  input.focus();
}

$('forget').addEventListener('click', () => askForKey(''));
addEventListener('hashchange', () => {
  if (!view) return;
  say('failure');
  show();
  $('main').focus();
});
document.addEventListener('visibilitychange', look);

// Without a key only dev mode answers: then none is asked for.
try {
  await get('/v1/admin/stats');
  show();
} catch (error) {
  if (error.status !== 401) show();
  fail('trouble', error);
}
