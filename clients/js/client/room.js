// A room as an application sees it: who is here, oneself, and what happens.

import { Activity } from './activity.js';
import { Connection } from './connection.js';
import { Credential } from './credential.js';
import { EventQueue } from './queue.js';
import { checkEntrance } from './options.js';
import { Outbox } from './outbox.js';
import { isSeatGone, verdict } from './refusal.js';
import { Roster } from './roster.js';

/** @typedef {import('./wire.js').ServerMessage} ServerMessage */
/** @typedef {import('./wire.js').Member} Member */
/** @typedef {import('./wire.js').State} State */

/**
 * What happens in a room, and what is told of it.
 *
 * @typedef {object} RoomEvents
 * @property {{ resumed: boolean }} sync
 * @property {Member} join
 * @property {Member} update
 * @property {import('./roster.js').Departed} leave
 * @property {{ from: string | null, event: string, payload?: any }} broadcast
 * @property {import('./wire.js').Room} room
 * @property {{ expires_at: string, reason: import('./wire.js').ExpiryReason | 'token' }} expiring
 * @property {import('./connection.js').ConnectionState} connection
 * @property {import('./refusal.js').RefusedError} refused
 * @property {{ code: import('./wire.js').ErrorCode, detail: string, ref?: string | number | null }} error
 */

/** @typedef {{ [K in keyof RoomEvents]: { type: K, detail: RoomEvents[K] } }[keyof RoomEvents]} RoomEvent */

/**
 * Enters a room, and comes back to it until it is left, aborted or refused. Returns at once.
 *
 * @param {import('./options.js').Options} options
 * @returns {Room}
 * @throws {TypeError} when the options make no sense
 */
export function join(options) {
  return new Room(options);
}

/**
 * Asks for the verdict without entering; changes nothing on the server.
 *
 * @param {import('./options.js').Entrance} options
 * @returns {Promise<import('./wire.js').Room>}
 * @throws {import('./refusal.js').RefusedError} the refusal, or `unreachable`
 */
export async function ask(options) {
  checkEntrance(options);
  const signal = options.signal ?? new AbortController().signal;
  const credential = new Credential(options);
  const access = await credential.access(signal);
  try {
    return await verdict(access, signal);
  } catch (error) {
    if (!access.isResume || !isSeatGone(/** @type {any} */ (error))) throw error;
    credential.keep(null);
    return verdict(await credential.access(signal), signal);
  }
}

/** Made by `join`. */
export class Room extends EventTarget {
  #credential;
  #connection;
  #outbox;
  #activity;
  #canRenew;
  #roster = new Roster();
  /** @type {import('./wire.js').Room | null} */
  #info = null;
  /** @type {string | null} */
  #id = null;
  /** How far the server's clock is ahead of ours, in milliseconds. */
  #ahead = 0;
  #heardAt = '';
  /** @type {(room: Room) => void} */
  #open = () => {};
  /** @type {(why: Error) => void} */
  #refuse = () => {};
  /**
   * Resolves at the first welcome; rejects when there will be none.
   *
   * @readonly
   * @type {Promise<Room>}
   */
  opened = new Promise((resolve, reject) => {
    this.#open = resolve;
    this.#refuse = reject;
  });
  /** @type {Set<EventQueue>} */
  #queues = new Set();

  /** @param {import('./options.js').Options} options */
  constructor(options) {
    super();
    checkEntrance(options);
    const { state, signal, updateInterval = 50 } = options;
    this.#outbox = new Outbox((message) => this.#connection.send(message), updateInterval);
    // It may throw, which it must before anything listens.
    if (state) this.update(state);
    this.#canRenew = Boolean(options.getToken);
    this.#credential = new Credential(options);
    this.#connection = new Connection(this.#credential, {
      changed: () => this.#tell('connection', this.connection),
      heard: (message) => this.#hear(message),
      lost: () => this.#outbox.close(),
      beat: () => this.#outbox.heartbeat(),
      closed: (refusal) => this.#over(refusal),
    });
    this.#activity = new Activity(options, (status) => this.#outbox.setStatus(status), this.#connection.life);
    // Whoever does not look at it is told by `refused`.
    this.opened.catch(() => {});
    if (signal?.aborted) this.leave();
    else this.#connection.attempt();
    signal?.addEventListener('abort', () => this.leave(), { signal: this.#connection.life });
  }

  /** Who is here, by the time of joining: the same frozen array until something changes. */
  get members() { return this.#roster.list; }

  /** Oneself as the others see one; null before the first welcome, for observers, and in a room that is only counted. */
  get self() { return this.#id === null ? null : this.#roster.find(this.#id); }

  /** One's participant id. */
  get id() { return this.#id; }

  /** How many are here. */
  get occupancy() { return this.#roster.occupancy; }

  /** Whether `members` lists them, or there are too many for that. */
  get roster() { return this.#roster.mode; }

  /** The room's settings and metadata. */
  get info() { return this.#info; }

  get connection() { return this.#connection.state; }

  /** Why it is not open, as far as that is known. */
  get problem() { return this.#connection.problem; }

  /** When it tries again, as `Date.now()` counts; null while it does not wait. */
  get retryAt() { return this.#connection.retryAt; }

  /** The server's time in milliseconds, as far as this clock can tell. */
  now() { return Date.now() + this.#ahead; }

  /** Merges into one's own state (RFC 7396): null deletes. Kept until it can be sent, and sent again to a new seat. @param {object} patch */
  update(patch) {
    if (typeof patch !== 'object' || patch === null || Array.isArray(patch)) throw new TypeError('a patch is an object');
    this.#outbox.update(patch);
  }

  /** @param {import('./options.js').StatusWish} status */
  setStatus(status) {
    this.#activity.wish(status);
  }

  /**
   * Says something to everybody else here, at most once, in order, and only over the connection there is.
   *
   * @param {string} event 1 to 64 characters
   * @param {unknown} [payload]
   * @param {{ to?: string[], throttle?: number }} [options] participants to tell; the least time between two of this event, in
   *   milliseconds, of which the latest wins
   * @returns {boolean} false: it cannot be sent now
   */
  broadcast(event, payload = null, options = {}) {
    return this.#outbox.broadcast(event, payload, options);
  }

  /** Waits no longer, unless the server said how long. */
  retry() {
    this.#connection.wake();
  }

  /** Leaves for good: the others see it at once. */
  leave() {
    if (!this.#connection.life.aborted) this.#connection.leave();
  }

  /**
   * Listens, and returns what stops it.
   *
   * @template {keyof RoomEvents} K
   * @param {K} type
   * @param {(detail: RoomEvents[K]) => void} listener
   * @param {{ signal?: AbortSignal }} [options]
   * @returns {() => void}
   */
  on(type, listener, options) {
    /** @param {any} event */
    const relay = (event) => listener(event.detail);
    this.addEventListener(type, relay, options);
    return () => this.removeEventListener(type, relay);
  }

  /**
   * Everything that happens from now on; ends when the room is left, and throws when it is refused.
   *
   * @returns {AsyncGenerator<RoomEvent, void, void>}
   */
  async* [Symbol.asyncIterator]() {
    const queue = new EventQueue();
    if (this.#connection.life.aborted) queue.end(this.problem);
    this.#queues.add(queue);
    try {
      yield* queue.read();
    } finally {
      this.#queues.delete(queue);
    }
  }

  /** @param {ServerMessage} message */
  #hear(message) {
    switch (message.type) {
      case 'welcome': return this.#welcome(message);
      case 'sync': return this.#sync(message);
      case 'presence': return this.#present(message);
      case 'heartbeat_ack':
        this.#outbox.confirm();
        return this.#setClock(message.server_time);
      case 'room':
        this.#info = message.room;
        return this.#tell('room', message.room);
      case 'token_expiring': return this.#renew(message.expires_at);
      case 'room_expiring': return this.#tell('expiring', message);
      case 'broadcast':
      case 'error': return this.#tell(message.type, message);
    }
  }

  /** @param {Extract<ServerMessage, { type: 'welcome' }>} message */
  #welcome(message) {
    const { self, room, server_time, resumed } = message;
    const isOther = JSON.stringify(room) !== JSON.stringify(this.#info);
    this.#id = self.participant_id;
    this.#info = room;
    const changes = this.#roster.replace(message, this.#heardAt);
    this.#setClock(server_time);
    // Before anything is told: listeners may speak, or leave.
    this.#outbox.open(resumed, this.self?.state);
    this.#synced(changes, resumed);
    if (isOther) this.#tell('room', room);
    this.#open(this);
  }

  /** @param {Extract<ServerMessage, { type: 'sync' }>} message */
  #sync(message) {
    const changes = this.#roster.replace(message, this.#heardAt);
    if (this.self) this.#outbox.learn(this.self.state);
    this.#synced(changes, false);
  }

  /** @param {import('./roster.js').Change[]} changes @param {boolean} resumed */
  #synced(changes, resumed) {
    for (const [type, detail] of changes) this.#tell(type, detail);
    this.#tell('sync', { resumed });
  }

  /** @param {Extract<ServerMessage, { type: 'presence' }>} message */
  #present(message) {
    const changes = this.#roster.apply(message);
    this.#heardAt = new Date(this.now()).toISOString();
    for (const [type, detail] of changes) {
      if (type === 'update' && detail.id === this.#id) this.#outbox.learn(detail.state);
      this.#tell(type, detail);
    }
    // In a crowd only the number moves.
    if (this.roster === 'count') this.#tell('sync', { resumed: false });
  }

  /** @param {string} expires_at */
  async #renew(expires_at) {
    if (!this.#canRenew) return this.#tell('expiring', { expires_at, reason: 'token' });
    try {
      const token = await this.#credential.renew('expiring', this.#connection.life);
      this.#connection.send({ type: 'token', token });
    } catch {
      // The server will say that it has expired, and then there is another try.
    }
  }

  /** @param {import('./refusal.js').RefusedError | null} refusal */
  #over(refusal) {
    if (refusal) this.#tell('refused', refusal);
    this.#refuse(refusal ?? new DOMException('The room was left.', 'AbortError'));
    for (const queue of this.#queues) queue.end(refusal);
  }

  /** @param {string} server_time */
  #setClock(server_time) {
    this.#ahead = Date.parse(server_time) - Date.now();
    this.#heardAt = server_time;
  }

  /** @template {keyof RoomEvents} K @param {K} type @param {RoomEvents[K]} detail */
  #tell(type, detail) {
    for (const queue of this.#queues) queue.push(/** @type {any} */ ({ type, detail }));
    this.dispatchEvent(new CustomEvent(type, { detail }));
  }
}
