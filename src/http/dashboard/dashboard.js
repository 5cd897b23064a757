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
let isLooking = false;

function say(id, text) {
  $(id).textContent = text ?? '';
  $(id).hidden = !text;
}

/** One look at a time; none while nobody sees it. */
async function look() {
  clearTimeout(timer);
  if (!view || isLooking || document.hidden) return;
  isLooking = true;
  const looked = view;
  try {
    await looked.load();
    say('trouble');
    $('main').dataset.state = 'loaded';
  } catch (error) {
    if (looked === view) fail(error);
  } finally {
    isLooking = false;
  }
  if (looked !== view) return look();
  if (view) timer = setTimeout(look, LOOK_EVERY);
}

function fail(error) {
  if (error instanceof ApiError && error.status === 401) return askForKey(key.get() ? 'This key is not the right one.' : '');
  say('trouble', error.message);
}

/** What a button does: its words are told, its failure too, and it cannot be pressed twice meanwhile. */
async function act(deed) {
  const pressed = document.activeElement;
  if (pressed instanceof HTMLButtonElement) pressed.disabled = true;
  try {
    const words = await deed();
    if (words) say('news', words);
    say('trouble');
  } catch (error) {
    fail(error);
  } finally {
    if (pressed instanceof HTMLButtonElement) pressed.disabled = false;
    if (pressed?.isConnected) pressed.focus();
  }
}

const tools = { act, refresh: () => view?.load() };

function route() {
  const [, page, id] = location.hash.split('/');
  if (page === 'rooms' && id) return room(tools, decodeURIComponent(id));
  return page === 'rooms' ? rooms(tools) : overview(tools);
}

function show() {
  view = route();
  document.title = `${view.title} · Rollcall`;
  delete $('main').dataset.state;
  $('main').replaceChildren(view.element);
  for (const link of document.querySelectorAll('nav a')) {
    const isHere = location.hash.startsWith('#/rooms') === link.hash.startsWith('#/rooms');
    link.toggleAttribute('aria-current', isHere);
  }
  $('forget').hidden = !key.get();
  look();
}

function askForKey(words) {
  view = null;
  key.forget();
  $('forget').hidden = true;
  say('trouble', words);
  say('news');
  const input = make('input', { id: 'key', type: 'password', autocomplete: 'current-password', required: true, 'data-test': 'key' });
  const form = make('form', { class: 'card narrow', onsubmit: (event) => {
    event.preventDefault();
    key.set(input.value.trim());
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
  show();
  $('main').focus();
});
document.addEventListener('visibilitychange', look);

// Without a key only dev mode answers: then none is asked for.
try {
  await get('/v1/admin/stats');
  show();
} catch (error) {
  if (error.status === 401) askForKey(key.get() ? 'This key is not the right one.' : '');
  else {
    show();
    fail(error);
  }
}
