// A browser and a server made of scripts: every test has its own, with its own time, and leaves nothing behind.

import assert from 'node:assert/strict';
import { setMaxListeners } from 'node:events';
import { readFileSync } from 'node:fs';
import { test } from 'node:test';
import FakeTimers from '@sinonjs/fake-timers';
import { Room } from '../client.js';

export const golden = (name) => JSON.parse(readFileSync(new URL(`../../../protocol/golden/${name}.json`, import.meta.url), 'utf8'));

export const MINUTE = 60_000;
export const HOUR = 60 * MINUTE;
export const INVITE = { url: 'https://presence.example', invite: 'INVITE' };
const START = Date.parse('2026-11-24T10:00:00.000Z');
const EVENTS = ['sync', 'join', 'update', 'leave', 'broadcast', 'room', 'expiring', 'connection', 'refused', 'error'];

// One signal ends a dozen listeners, which Node takes for a leak.
setMaxListeners(0);

/** Runs a test in a world of its own, and fails it for what is left over. */
export function scripted(name, run) {
  test(name, async () => {
    const world = new World();
    try {
      await run(world);
      await world.end();
    } finally {
      world.restore();
    }
  });
}

/** A token that looks like a JWT; nobody here checks signatures. */
export const jwt = (claims) => ['e30', Buffer.from(JSON.stringify(claims)).toString('base64url'), 'c2ln'].join('.');

export const member = (id, change = {}) => ({
  id,
  user_id: null,
  name: id,
  status: 'active',
  state: {},
  joined_at: '2026-11-24T09:00:00.000Z',
  last_seen_at: '2026-11-24T10:00:00.000Z',
  ...change,
});

/** The same numbers for the same seed. */
export function seeded(seed) {
  let state = seed >>> 0;
  const next = () => {
    state = (Math.imul(state, 1_664_525) + 1_013_904_223) >>> 0;
    return state / 2 ** 32;
  };
  return { next, below: (limit) => Math.floor(next() * limit), pick: (list) => list[Math.floor(next() * list.length)] };
}

class World {
  sockets = [];
  asked = [];
  /** What Math.random says: 1 shows the ceiling. */
  random = 1;
  #answer = () => { throw new TypeError('Failed to fetch'); };
  #once = [];
  #rooms = [];
  #kept = new Map();
  #verdictLimits = new Set();

  constructor() {
    this.clock = FakeTimers.install({
      now: START,
      toFake: ['setTimeout', 'clearTimeout', 'setInterval', 'clearInterval', 'Date', 'performance'],
    });
    this.window = new Listeners();
    this.document = Object.assign(new Listeners(), { hidden: false });
    const world = this;
    this.#replace('WebSocket', class extends Socket {
      constructor(url, protocols) {
        super(url, protocols);
        world.sockets.push(this);
      }
    });
    this.#replace('fetch', (url, init) => this.#fetch(url, init));
    this.#replace('document', this.document);
    this.#replace('location', new URL('https://page.example/somewhere'));
    this.#replace('localStorage', new Storage());
    this.#replace('sessionStorage', new Storage());
    for (const method of ['addEventListener', 'removeEventListener', 'dispatchEvent']) {
      this.#replace(method, (...args) => this.window[method](...args));
    }
    this.#replace('random', () => this.random, Math);
    // Node's own would run by real time.
    this.#replace('timeout', (limit) => {
      const controller = new AbortController();
      const timer = setTimeout(() => {
        this.#verdictLimits.delete(timer);
        controller.abort(new DOMException('too late', 'TimeoutError'));
      }, limit);
      this.#verdictLimits.add(timer);
      return controller.signal;
    }, AbortSignal);
  }

  /** Puts a global in place for this test only; undefined takes it away. */
  global(key, value) {
    this.#replace(key, value);
  }

  join(options) {
    const room = new Room({ ...(options?.token || options?.getToken ? { url: INVITE.url } : INVITE), ...options });
    const log = [];
    for (const type of EVENTS) room.addEventListener(type, ({ detail }) => log.push([type, detail]));
    room.log = log;
    room.told = (...types) => log.filter(([type]) => types.includes(type)).map(([, detail]) => detail);
    this.#rooms.push(room);
    return room;
  }

  /** A room whose first connection is open. */
  async enter(options, welcome) {
    const room = this.join(options);
    await this.tick();
    this.socket.welcome(welcome);
    return room;
  }

  get socket() {
    return this.sockets.at(-1);
  }

  tick(milliseconds = 0) {
    return this.clock.tickAsync(milliseconds);
  }

  /** How long until there is another socket; null when there is none within `limit`. */
  async next(limit = HOUR) {
    const { length } = this.sockets;
    const start = this.clock.now;
    await this.tick();
    while (this.sockets.length === length) {
      if (!this.clock.countTimers() || this.clock.now - start > limit) return null;
      await this.clock.nextAsync();
    }
    return this.clock.now - start;
  }

  /** What every request from now on is answered with: a function, or a status, a body and headers. */
  answer(status, body, headers) {
    this.#answer = answerer(status, body, headers);
  }

  /** What the next request that nothing waits for yet is answered with. */
  answerOnce(status, body, headers) {
    this.#once.push(answerer(status, body, headers));
  }

  /** The document's or the window's event. */
  fire(type, fields = {}, target = this.window) {
    target.dispatchEvent(Object.assign(new Event(type), fields));
  }

  see(isVisible) {
    this.document.hidden = !isVisible;
    this.fire('visibilitychange', {}, this.document);
  }

  async end() {
    for (const room of this.#rooms) room.leave();
    for (const socket of this.sockets) {
      if (socket.readyState !== 0) continue;
      socket.open();
      assert.equal(socket.closedWith, 1000, 'a socket that opens after leaving is closed as left');
    }
    await this.tick();
    assert.equal(this.clock.countTimers() - this.#verdictLimits.size, 0, 'timers are left');
    assert.deepEqual([...this.window.live, ...this.document.live], [], 'listeners are left');
    assert.deepEqual(this.sockets.filter(({ readyState }) => readyState < 2), [], 'sockets are left');
  }

  restore() {
    for (const [key, { target, descriptor }] of this.#kept) {
      if (descriptor) Object.defineProperty(target, key, descriptor);
      else delete target[key];
    }
    this.clock.uninstall();
  }

  #replace(key, value, target = globalThis) {
    if (!this.#kept.has(key)) this.#kept.set(key, { target, descriptor: Object.getOwnPropertyDescriptor(target, key) });
    Object.defineProperty(target, key, { value, configurable: true, writable: true });
  }

  #fetch(url, { headers = {}, signal, ...rest } = {}) {
    this.asked.push({ url: new URL(url), headers, signal, ...rest });
    const answer = this.#once.shift() ?? this.#answer;
    return new Promise((resolve, reject) => {
      const abort = () => reject(signal.reason);
      if (signal?.aborted) return abort();
      signal?.addEventListener('abort', abort);
      Promise.resolve().then(answer).then(resolve, reject);
    });
  }
}

function answerer(status, body, headers) {
  if (typeof status === 'function') return status;
  return () => new Response(typeof body === 'string' ? body : JSON.stringify(body), { status, headers });
}

/** Knows who listens. */
class Listeners extends EventTarget {
  live = new Set();

  addEventListener(type, listener, options) {
    if (options?.signal?.aborted) return;
    const entry = { type, listener };
    this.live.add(entry);
    options?.signal?.addEventListener('abort', () => this.live.delete(entry));
    super.addEventListener(type, listener, options);
  }

  removeEventListener(type, listener, options) {
    for (const entry of this.live) if (entry.type === type && entry.listener === listener) this.live.delete(entry);
    super.removeEventListener(type, listener, options);
  }
}

/** A browser's socket, with a script at its other end. */
class Socket extends EventTarget {
  static CONNECTING = 0;
  static OPEN = 1;
  static CLOSING = 2;
  static CLOSED = 3;
  readyState = 0;
  sent = [];
  closedWith = null;
  onopen = null;

  constructor(url, protocols = []) {
    super();
    this.url = new URL(url);
    if (!/^wss?:$/.test(this.url.protocol)) throw new DOMException(`no address: ${url}`, 'SyntaxError');
    for (const protocol of protocols) {
      if (!/^[!#$%&'*+\-.^_`|~0-9A-Za-z]+$/.test(protocol)) throw new DOMException(`no protocol: ${protocol}`, 'SyntaxError');
    }
    this.protocols = protocols;
    this.at = Date.now();
    this.addEventListener('open', (event) => this.onopen?.(event));
  }

  send(text) {
    if (this.readyState === 0) throw new DOMException('still connecting', 'InvalidStateError');
    if (this.readyState === 1) this.sent.push(JSON.parse(text));
  }

  close(code = 1005) {
    if (code !== 1005 && code !== 1000 && !(code >= 3000 && code <= 4999)) throw new DOMException(`no code: ${code}`, 'InvalidAccessError');
    if (this.readyState > 1) return;
    this.closedWith = code;
    const isConnecting = this.readyState === 0;
    this.readyState = 2;
    queueMicrotask(() => this.end(isConnecting ? 1006 : code));
  }

  // The script.

  open() {
    this.readyState = 1;
    this.dispatchEvent(new Event('open'));
  }

  say(message) {
    if (this.readyState !== 1) return;
    this.dispatchEvent(Object.assign(new Event('message'), { data: typeof message === 'string' ? message : JSON.stringify(message) }));
  }

  welcome(change = {}) {
    if (this.readyState === 0) this.open();
    const members = change.roster === 'count' ? undefined : [member('me'), member('ada')];
    this.say({
      ...golden('server/welcome'),
      self: { participant_id: 'me', connection_id: 'c1', resume_token: 'r1.seat' },
      server_time: new Date().toISOString(),
      occupancy: change.members?.length ?? 2,
      members,
      ...change,
    });
  }

  ack() {
    this.say({ type: 'heartbeat_ack', server_time: new Date().toISOString() });
  }

  /** The server closes; before the upgrade, it refuses. */
  end(code = 1006, reason = '') {
    if (this.readyState === 3) return;
    this.readyState = 3;
    this.dispatchEvent(Object.assign(new Event('close'), { code, reason, wasClean: code !== 1006 }));
  }

  heard(type) {
    return this.sent.filter((message) => message.type === type);
  }
}

class Storage {
  entries = new Map();
  getItem(key) { return this.entries.get(String(key)) ?? null; }
  setItem(key, value) { this.entries.set(String(key), String(value)); }
  removeItem(key) { this.entries.delete(String(key)); }
}
