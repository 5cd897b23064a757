// What goes out, and when: never more than the server takes, and the latest wins.

/** The server takes 30 messages a second of a connection and bursts of 60; heartbeats and fresh tokens need room too. */
const RATE = 25;
const BURST = 50;
/** Patches that nobody has confirmed are kept one by one up to this many, then merged as far as that goes. */
const MOST_WAITING = 1_000;

/** So many broadcasts may wait for their turn. */
const MOST_SLOTS = 100;

/** @typedef {import('./options.js').State} State */
/** @typedef {import('./wire.js').ClientMessage} ClientMessage */

/** A message that waits for its turn, or when its like was sent last. @typedef {{ message: ClientMessage | null, sent: number, every: number }} Slot */

export class Outbox {
  #send;
  #updateInterval;
  #isOpen = false;
  /** By what replaces what waits; '' is the update. @type {Map<unknown, Slot>} */
  #slots = new Map();
  #tokens = BURST;
  #filled = performance.now();
  /** @type {ReturnType<typeof setTimeout> | undefined} */
  #timer;
  /** The participant's state, as far as it is of our making. @type {State} */
  #state = {};
  /** Patches not sent yet. @type {State[]} */
  #waiting = [];
  /** Patches sent, of which the server has not shown yet that it has them. @type {State[]} */
  #unconfirmed = [];
  /** How many of those went out before each heartbeat whose answer is awaited. @type {number[]} */
  #marks = [];
  /** @type {import('./wire.js').Status} */
  #status = 'active';

  /** @param {(message: ClientMessage) => void} send @param {number} updateInterval */
  constructor(send, updateInterval) {
    this.#send = send;
    this.#updateInterval = updateInterval;
  }

  /** @param {object} given */
  update(given) {
    const patch = copy(given);
    this.#state = merge(this.#state, patch);
    add(this.#waiting, patch, 0);
    this.#queue('', { type: 'update' }, this.#updateInterval);
  }

  /** @param {import('./wire.js').Status} status */
  setStatus(status) {
    this.#status = status;
    if (this.#isOpen) this.#send({ type: 'update', status });
  }

  /**
   * @param {string} event
   * @param {unknown} payload
   * @param {{ to?: string[], throttle?: number }} options
   * @returns {boolean}
   */
  broadcast(event, payload, { to, throttle = 0 }) {
    // Only what is throttled replaces its like.
    const key = throttle ? JSON.stringify([event, to]) : {};
    if (!this.#isOpen || (this.#slots.size >= MOST_SLOTS && !this.#slots.has(key))) return false;
    this.#queue(key, copy({ type: 'broadcast', event, payload, to }), throttle);
    return true;
  }

  /**
   * A connection is open.
   *
   * @param {boolean} isResumed the seat, and with it the state, was kept
   * @param {State | undefined} state what the server has of ours, if it says so
   */
  open(isResumed, state) {
    this.#isOpen = true;
    this.#tokens = BURST;
    this.#marks = [];
    // Another connection may have held the seat: what was deleted meanwhile is deleted again.
    const patches = [...(isResumed ? [] : [this.#state]), ...this.#pending()];
    this.#waiting = [];
    this.#unconfirmed = [];
    for (const patch of patches) if (Object.keys(patch).length) add(this.#waiting, patch, 0);
    if (this.#status !== 'active') this.#send({ type: 'update', status: this.#status });
    if (isResumed && state) this.learn(state);
    if (this.#waiting.length) this.#queue('', { type: 'update' }, this.#updateInterval);
  }

  /** The server has this state of ours: another connection, or one before, may have changed it. @param {State} state */
  learn(state) {
    this.#state = this.#pending().reduce(merge, state);
  }

  /** The connection is gone, and with it what others were to be told. */
  close() {
    this.#isOpen = false;
    clearTimeout(this.#timer);
    this.#slots.clear();
  }

  heartbeat() {
    this.#marks.push(this.#unconfirmed.length);
    this.#send({ type: 'heartbeat' });
  }

  /** The server had everything that was sent before the heartbeat that it answers. */
  confirm() {
    const mark = this.#marks.shift() ?? 0;
    this.#unconfirmed.splice(0, mark);
    this.#marks = this.#marks.map((other) => other - mark);
  }

  #pending() {
    return [...this.#unconfirmed, ...this.#waiting];
  }

  /** @param {State} patch */
  #sendPatch(patch) {
    add(this.#unconfirmed, patch, this.#unconfirmed.length < MOST_WAITING ? Infinity : this.#marks.at(-1) ?? 0);
    this.#send({ type: 'update', state: patch });
  }

  /** @param {unknown} key @param {ClientMessage} message @param {number} every milliseconds between two */
  #queue(key, message, every) {
    const slot = this.#slots.get(key);
    this.#slots.set(key, { message, every, sent: slot?.sent ?? -Infinity });
    if (this.#isOpen) this.#pump();
  }

  #pump() {
    clearTimeout(this.#timer);
    const now = performance.now();
    this.#tokens = Math.min(BURST, this.#tokens + ((now - this.#filled) * RATE) / 1000);
    this.#filled = now;
    let next = Infinity;
    for (const [key, slot] of this.#slots) {
      let wait = Math.max(slot.sent + slot.every - now, slot.message ? ((1 - this.#tokens) * 1000) / RATE : 0);
      if (wait <= 0 && slot.message) {
        this.#go(slot, now);
        wait = slot.every;
      }
      if (wait > 0 || slot.message) next = Math.min(next, wait);
      else this.#slots.delete(key);
    }
    if (next < Infinity) this.#timer = setTimeout(() => this.#pump(), next);
  }

  /** @param {Slot} slot @param {number} now */
  #go(slot, now) {
    const message = /** @type {ClientMessage} */ (slot.message);
    slot.message = null;
    slot.sent = now;
    if (message.type !== 'update') {
      this.#tokens -= 1;
      return this.#send(message);
    }
    for (const patch of this.#waiting.splice(0, this.#tokens)) {
      this.#tokens -= 1;
      this.#sendPatch(patch);
    }
    if (this.#waiting.length) slot.message = message;
  }
}

/** As the server will read it, whatever the application does with it later. @template T @param {T} value @returns {any} */
const copy = (value) => JSON.parse(JSON.stringify(value));

/** @param {unknown} value @returns {value is State} */
const isObject = (value) => typeof value === 'object' && value !== null && !Array.isArray(value);

/** RFC 7396. @param {unknown} target @param {State} patch @returns {State} */
export function merge(target, patch) {
  const merged = isObject(target) ? { ...target } : {};
  for (const [key, value] of Object.entries(patch)) {
    if (value === null) delete merged[key];
    else merged[key] = isObject(value) ? merge(merged[key], value) : value;
  }
  return merged;
}

/** Adds a patch to those that wait: into the last where one patch can say both. @param {State[]} patches @param {State} patch @param {number} fixed */
function add(patches, patch, fixed) {
  const both = patches.length > fixed ? compose(patches[patches.length - 1], patch) : null;
  if (both) patches[patches.length - 1] = both;
  else patches.push(patch);
}

/**
 * The one patch that does what two do. There is none where the first replaces what is no object by what the second merges into.
 *
 * @param {State} first
 * @param {State} second
 * @returns {State | null}
 */
export function compose(first, second) {
  const both = { ...first };
  for (const [key, value] of Object.entries(second)) {
    const before = both[key];
    if (!isObject(value) || before === undefined) both[key] = value;
    else if (!isObject(before)) return null;
    else {
      const inner = compose(before, value);
      if (!inner) return null;
      both[key] = inner;
    }
  }
  return both;
}
