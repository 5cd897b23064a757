// The rooms, a page at a time.

import { get } from './api.js';
import { Table, button, make, when } from './parts.js';

const LIMIT = 50;

export function rooms(act) {
  /** The cursors of the pages before this one, and this one's. */
  const pages = [''];
  const table = new Table('Rooms', [
    ['Room', ({ id }) => make('a', { href: `#/rooms/${encodeURIComponent(id)}` }, id)],
    ['Title', ({ metadata }) => (typeof metadata.title === 'string' ? metadata.title : '')],
    ['Here', ({ online }) => String(online), true],
    ['Made', ({ created_at }) => when(created_at)],
  ], { 'data-test': 'rooms' });
  const empty = make('p', { class: 'note', hidden: true }, 'There are no rooms here.');
  /** The cursor of the page after the one that is shown. */
  let next = null;
  const earlier = button(act, 'Earlier', 'earlier', () => {
    if (pages.length > 1) pages.pop();
  }, { disabled: true });
  const later = button(act, 'Later', 'later', () => {
    if (next) pages.push(next);
    next = null;
  }, { disabled: true });
  const find = make('form', { class: 'row', onsubmit: (event) => {
    event.preventDefault();
    const id = new FormData(find).get('id').trim();
    if (id) location.hash = `#/rooms/${encodeURIComponent(id)}`;
  } }, make('label', { for: 'find' }, 'Go to a room by its id'), make('input', { id: 'find', name: 'id', 'data-test': 'find', autocomplete: 'off' }), make('button', {}, 'Go'));

  return {
    element: make('div', {}, make('h1', {}, 'Rooms'), find, make('section', { class: 'card' }, table.element, empty, make('p', { class: 'actions' }, earlier, later))),
    title: 'Rooms',
    async load() {
      const query = new URLSearchParams({ limit: LIMIT, ...(pages.at(-1) ? { cursor: pages.at(-1) } : {}) });
      const { items, next_cursor } = await get(`/v1/rooms?${query}`);
      return () => {
        next = next_cursor;
        table.fill(items, ({ id }) => id);
        empty.hidden = items.length > 0;
        earlier.disabled = pages.length < 2;
        later.disabled = next === null;
      };
    },
  };
}
