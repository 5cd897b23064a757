// What pages are made of. Words of others are only ever set as text.

import { now } from './api.js';

/** `make('li', { class: 'x', onclick }, 'text', child)` */
export function make(tag, properties = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(properties)) {
    if (name.startsWith('on')) element.addEventListener(name.slice(2), value);
    else if (value === true) element.setAttribute(name, '');
    else if (value !== false && value !== null && value !== undefined) element.setAttribute(name, value);
  }
  element.append(...children.filter((child) => child !== null));
  return element;
}

/** "3 min ago". */
export function ago(time) {
  if (!time) return '–';
  const seconds = Math.max(0, (now() - Date.parse(time)) / 1000);
  if (seconds < 45) return 'just now';
  const words = new Intl.RelativeTimeFormat('en', { style: 'short' });
  if (seconds < 3_000) return words.format(-Math.max(1, Math.round(seconds / 60)), 'minute');
  if (seconds < 129_600) return words.format(-Math.round(seconds / 3_600), 'hour');
  return words.format(-Math.round(seconds / 86_400), 'day');
}

/** "1 h 5 min", "40 s". */
export function span(seconds) {
  if (seconds === null || seconds === undefined) return 'never';
  if (seconds < 60) return `${Math.round(seconds)} s`;
  const minutes = Math.round(seconds / 60);
  return minutes < 60 ? `${minutes} min` : [`${Math.floor(minutes / 60)} h`, minutes % 60 ? `${minutes % 60} min` : ''].join(' ').trim();
}

/** "1 room", "2 rooms". */
export const count = (number, thing) => `${number} ${thing}${number === 1 ? '' : 's'}`;

/** A button, by the name that tests know; what it does is told of by `act`. */
export const button = (act, name, test, deed, more = {}) => make('button', {
  type: 'button', class: 'small', 'data-test': test, onclick: ({ currentTarget }) => act(deed, currentTarget), ...more,
}, name);

export const when = (time) => make('time', { datetime: time, title: new Date(time).toLocaleString() }, ago(time));

/** A table whose body is kept in step with a list: rows stay where their key stays, and cells that say the same are not touched. */
export class Table {
  #rows = new Map();
  #body = make('tbody');
  #columns;

  /** @param columns [heading, cell(item) → string or node, is it a number?] */
  constructor(caption, columns, properties = {}) {
    this.#columns = columns;
    const headings = columns.map(([heading, , isNumber]) => make('th', { scope: 'col', class: isNumber ? 'number' : null }, heading));
    this.element = make('div', { class: 'scroll', tabindex: '0', role: 'region', 'aria-label': caption },
      make('table', properties, make('caption', { class: 'visually-hidden' }, caption), make('thead', {}, make('tr', {}, ...headings)), this.#body));
  }

  fill(items, keyOf) {
    const focused = this.#body.contains(document.activeElement) ? document.activeElement : null;
    const keys = new Set(items.map(keyOf));
    for (const [key, { row }] of this.#rows) {
      if (keys.has(key)) continue;
      row.remove();
      this.#rows.delete(key);
    }
    items.forEach((item, index) => {
      const { row, cells } = this.#row(keyOf(item));
      this.#columns.forEach(([, read], column) => write(cells[column], read(item) ?? '–'));
      if (this.#body.children[index] !== row) this.#body.insertBefore(row, this.#body.children[index] ?? null);
    });
    // A row that is moved loses it.
    if (focused?.isConnected && document.activeElement !== focused) focused.focus();
  }

  #row(key) {
    const known = this.#rows.get(key);
    if (known) return known;
    const cells = this.#columns.map(([, , isNumber]) => ({ element: make('td', { class: isNumber ? 'number' : null }), said: null }));
    const made = { row: make('tr', { 'data-key': key }, ...cells.map(({ element }) => element)), cells };
    this.#rows.set(key, made);
    return made;
  }
}

/** Nobody's button is replaced under their finger by one that is the same. */
function write(cell, content) {
  const said = content.outerHTML ?? content;
  if (cell.said === said) return;
  cell.said = said;
  cell.element.replaceChildren(content);
}
