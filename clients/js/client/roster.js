// Who is here, by what the frames say. No sockets, no timers.

/** @typedef {import('./wire.js').Member} Member */
/** @typedef {Member & { reason: import('./wire.js').LeaveReason | null }} Departed */
/** @typedef {['join' | 'update', Member] | ['leave', Departed]} Change */

export class Roster {
  /** @type {Map<string, Member>} */
  #members = new Map();
  /** @type {readonly Member[] | null} */
  #list = null;
  #isKnown = false;
  /** @type {'full' | 'count'} */
  mode = 'full';
  occupancy = 0;

  /** By the time of joining: everybody sees the same order. The same array until something changes. */
  get list() {
    return this.#list ??= Object.freeze([...this.#members.values()].sort(byJoining));
  }

  /** @param {string} id */
  find(id) {
    return this.#members.get(id) ?? null;
  }

  /**
   * Takes the roster of a `welcome` or `sync`, and returns what differs from the one before, if there was one.
   *
   * @param {{ roster: 'full' | 'count', occupancy: number, members?: Member[] }} frame
   * @param {string} heard when anything was heard last: whoever is missing was here until then
   * @returns {Change[]}
   */
  replace({ roster, occupancy, members = [] }, heard) {
    const before = this.#members;
    const isTold = this.#isKnown && this.mode === 'full' && roster === 'full';
    this.#isKnown = true;
    this.mode = roster;
    this.occupancy = occupancy;
    this.#members = new Map();
    /** @type {Change[]} */
    const changes = [];
    for (const member of members) {
      const known = before.get(member.id);
      const isSame = known && looksSame(known, member);
      this.#members.set(member.id, isSame ? known : Object.freeze(member));
      if (!isSame) changes.push([known ? 'update' : 'join', member]);
    }
    for (const member of before.values()) {
      if (this.#members.has(member.id)) continue;
      const last_seen_at = member.last_seen_at > heard ? member.last_seen_at : heard;
      changes.push(['leave', { ...member, last_seen_at, reason: null }]);
    }
    if (changes.length) this.#list = null;
    return isTold ? changes : [];
  }

  /**
   * Applies a `presence` frame, by id: it may name who was in the `welcome` already.
   *
   * @param {Extract<import('./wire.js').ServerMessage, { type: 'presence' }>} frame
   * @returns {Change[]}
   */
  apply({ occupancy, joined = [], updated = [], left = [] }) {
    this.occupancy = occupancy;
    /** @type {Change[]} */
    const changes = [];
    for (const member of joined) {
      const known = this.#members.get(member.id);
      // A newcomer is in its own `welcome` and in the frame that tells everybody.
      if (known && looksSame(known, member)) continue;
      this.#put(member);
      changes.push([known ? 'update' : 'join', member]);
    }
    for (const change of updated) {
      const known = this.#members.get(change.id);
      if (!known) continue;
      const member = { ...known, ...change };
      this.#put(member);
      changes.push(['update', member]);
    }
    for (const departure of left) {
      const known = this.#members.get(departure.id);
      if (!known) continue;
      this.#members.delete(known.id);
      changes.push(['leave', { ...known, ...departure }]);
    }
    if (changes.length) this.#list = null;
    return changes;
  }

  /** @param {Member} member */
  #put(member) {
    this.#members.set(member.id, Object.freeze(member));
  }
}

/** @param {Member} a @param {Member} b */
function byJoining(a, b) {
  if (a.joined_at !== b.joined_at) return a.joined_at < b.joined_at ? -1 : 1;
  return a.id < b.id ? -1 : 1;
}

/** `last_seen_at` is a sample of the moment, and no difference. @param {Member} a @param {Member} b */
function looksSame(a, b) {
  return a.name === b.name && a.status === b.status && JSON.stringify(a.state) === JSON.stringify(b.state);
}
