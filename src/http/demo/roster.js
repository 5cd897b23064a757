// The list of people: rows are made once, and move and change in place, so that nothing is swapped under a reader.

import { ago, colour, element, initials, write } from './words.js';

/** So many of those who left are remembered. */
const MOST_GONE = 20;
/** "Guest 2" before "Guest 10". */
const order = new Intl.Collator(undefined, { numeric: true });

export class RosterView {
  #list;
  #rows = new Map();
  /** Whoever left, the latest first. */
  #gone = new Map();

  constructor(list) {
    this.#list = list;
  }

  left(member) {
    this.#gone.delete(member.id);
    this.#gone = new Map([[member.id, member], ...this.#gone].slice(0, MOST_GONE));
  }

  joined({ id }) {
    this.#gone.delete(id);
  }

  /** Yourself first, then by name, then whoever left. Rows of members that are the same objects as before are not touched. */
  render(room) {
    const byName = (a, b) => (b.id === room.id) - (a.id === room.id) || order.compare(a.name, b.name) || (a.id < b.id ? -1 : 1);
    const here = [...room.members].sort(byName);
    for (const { id } of here) this.#gone.delete(id);
    this.#arrange([...here.map((member) => this.#here(member, room)), ...[...this.#gone.values()].map((member) => this.#away(member, room))]);
  }

  #here(member, room) {
    const row = this.#row(member.id);
    if (row.shown === member) return row.item;
    row.shown = member;
    row.item.removeAttribute('data-departed');
    row.avatar.dataset.status = member.status;
    row.you.hidden = member.id !== room.id;
    const { mood } = member.state;
    write(row.mood, typeof mood === 'string' ? [...mood].slice(0, 4).join('') : '');
    this.#fill(row, member, member.status === 'idle' ? 'away' : 'here');
    return row.item;
  }

  #away(member, room) {
    const row = this.#row(member.id);
    row.shown = null;
    row.item.setAttribute('data-departed', '');
    row.avatar.dataset.status = 'gone';
    row.you.hidden = true;
    write(row.mood, '');
    this.#fill(row, member, `last seen ${ago(member.last_seen_at, room.now())}`);
    return row.item;
  }

  #fill(row, { name }, note) {
    write(row.avatar, initials(name));
    write(row.name, name);
    write(row.note, note);
  }

  #row(id) {
    const known = this.#rows.get(id);
    if (known) return known;
    const item = document.createElement('li');
    item.dataset.memberId = id;
    const row = {
      item, shown: null, avatar: element('span', 'avatar'), name: element('span', 'name'), you: element('span', 'you', 'you'),
      note: element('span', 'note'), mood: element('span', 'mood'),
    };
    row.avatar.style.setProperty('--colour', colour(id));
    row.avatar.setAttribute('aria-hidden', 'true');
    const line = element('span', 'who');
    line.append(row.name, row.you);
    item.append(row.avatar, line, row.note, row.mood);
    this.#rows.set(id, row);
    return row;
  }

  #arrange(items) {
    const wanted = new Set(items);
    for (const [id, { item }] of this.#rows) {
      if (wanted.has(item)) continue;
      item.remove();
      this.#rows.delete(id);
    }
    let place = this.#list.firstChild;
    for (const item of items) {
      if (item === place) place = place.nextSibling;
      else this.#list.insertBefore(item, place);
    }
  }
}
