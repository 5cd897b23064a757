// One seat's way to the server: connects, finds out why it may not, comes back, and notices when nobody answers.

import { RefusedError, closedWith, comesBack, isSeatGone, verdict } from './refusal.js';

const FIRST_WAIT = 500;
const LONGEST_WAIT = 15_000;
/** A connection that lasted this long was a good one: the next wait is short again. */
const GOOD_AFTER = 15_000;
/** From the attempt to the welcome. The server gives a handshake 10 s and a join 3. */
const WELCOME_LIMIT = 15_000;
/** How long an answer to a heartbeat may take, and when there is reason to doubt that there will be one. */
const ACK_LIMIT = 10_000;
const WAKE_LIMIT = 3_000;
/** Not 1000, which would mean leaving: the seat is to be kept. */
const BACK_SOON = 4000;
const LEAVING = 'leaving';
const LONGEST_HINT = 3_600_000;

/** @typedef {'connecting' | 'open' | 'reconnecting' | 'closed'} ConnectionState */
/** @typedef {import('./wire.js').ServerMessage} ServerMessage */

/**
 * What a connection tells its owner. `closed` is the last: with a refusal, or null after leaving.
 *
 * @typedef {object} Owner
 * @property {() => void} changed `state`, `problem` or `retryAt` did
 * @property {(message: ServerMessage) => void} heard
 * @property {() => void} lost
 * @property {() => void} beat
 * @property {(refusal: RefusedError | null) => void} closed
 */

export class Connection {
  /** @type {ConnectionState} */
  state = 'connecting';
  /** @type {RefusedError | null} */
  problem = null;
  /** @type {number | null} */
  retryAt = null;
  #credential;
  #owner;
  #life = new AbortController();
  /** Of what is going on: an attempt, or a question. Aborting it silences its socket. */
  #step = new AbortController();
  /** @type {WebSocket | null} */
  #socket = null;
  /** @type {ReturnType<typeof setTimeout> | undefined} */
  #timer;
  /** @type {ReturnType<typeof setInterval> | undefined} */
  #beats;
  /** @type {ReturnType<typeof setTimeout> | undefined} */
  #doubt;
  /** When the doubt is to be settled. */
  #due = 0;
  #failures = 0;
  #welcomedAt = 0;
  #mayHurry = false;
  #isRenewed = false;
  /** When the handshake did that is under way. */
  #began = 0;

  /** @param {import('./credential.js').Credential} credential @param {Owner} owner */
  constructor(credential, owner) {
    this.#credential = credential;
    this.#owner = owner;
    /** @param {EventTarget | undefined} target @param {string} type @param {(event: any) => void} listener */
    const listen = (target, type, listener) => target?.addEventListener?.(type, listener, { signal: this.#life.signal });
    listen(globalThis, 'online', () => this.wake());
    listen(globalThis, 'offline', () => this.state === 'open' && this.#ask(WAKE_LIMIT));
    listen(globalThis, 'pagehide', ({ persisted }) => persisted && this.#suspend());
    listen(globalThis, 'pageshow', ({ persisted }) => persisted && this.wake());
    listen(globalThis.document, 'resume', () => this.wake());
    listen(globalThis.document, 'visibilitychange', () => document.hidden || this.wake());
  }

  /** Aborted when it is over. */
  get life() {
    return this.#life.signal;
  }

  /** @param {import('./wire.js').ClientMessage} message */
  send(message) {
    this.#socket?.send(JSON.stringify(message));
  }

  /** Goes, or goes on, at once. */
  async attempt() {
    const { signal } = this.#next();
    this.#away(this.problem, null);
    // Whoever is told may leave.
    if (signal.aborted) return;
    try {
      const access = await this.#credential.access(signal);
      if (!signal.aborted) this.#connect(access, signal);
    } catch (error) {
      if (!signal.aborted) this.#refused(error instanceof RefusedError ? error : impossible(error));
    }
  }

  /**
   * Something happened that may have changed the network: asks whether the server is there, or waits no longer, neither for its
   * turn, unless the server said how long, nor for an attempt that may hang.
   */
  wake() {
    const isDue = this.#timer
      ? this.#mayHurry || /** @type {number} */ (this.retryAt) <= Date.now()
      : performance.now() - this.#began > WAKE_LIMIT;
    if (this.state === 'open') this.#ask(WAKE_LIMIT);
    else if (isDue) this.attempt();
  }

  /** Leaves for good. */
  leave() {
    this.send({ type: 'leave' });
    this.#end(null);
  }

  /** @param {import('./credential.js').Access} access @param {AbortSignal} signal */
  #connect(access, signal) {
    const socket = new WebSocket(access.socketUrl, access.protocols);
    this.#began = performance.now();
    let isOpen = false;
    /** @type {number | undefined} */
    let hint;
    /** @param {number} code @param {string} [reason] */
    const lost = (code, reason = '') => {
      this.#next();
      if (isOpen) this.#closed(code, reason, hint);
      else this.#question(access);
    };
    const limit = setTimeout(() => lost(1006), WELCOME_LIMIT);
    signal.addEventListener('abort', () => {
      clearTimeout(limit);
      if (signal.reason !== LEAVING) socket.close(BACK_SOON);
      // Closed while it opens, it would be a lost connection to the server, which would keep the seat for a while.
      else if (socket.readyState === WebSocket.CONNECTING) socket.onopen = () => socket.close(1000);
      else socket.close(1000);
    });
    socket.addEventListener('open', () => { isOpen = true; }, { signal });
    socket.addEventListener('close', ({ code, reason }) => lost(code, reason), { signal });
    socket.addEventListener('message', ({ data }) => {
      const message = parse(data);
      if (!message) return;
      clearTimeout(this.#doubt);
      this.#doubt = undefined;
      switch (message.type) {
        case 'welcome':
          clearTimeout(limit);
          return this.#welcomed(socket, message);
        case 'reconnect':
          hint = message.after_ms;
          return;
        case 'heartbeat_ack':
          this.#isRenewed = false;
      }
      this.#owner.heard(message);
    }, { signal });
  }

  /** @param {WebSocket} socket @param {Extract<ServerMessage, { type: 'welcome' }>} message */
  #welcomed(socket, message) {
    const { self, heartbeat_interval_ms: interval } = message;
    this.#socket = socket;
    this.#welcomedAt = performance.now();
    this.#credential.keep(self.resume_token);
    const limit = Math.min(ACK_LIMIT, Math.max(interval, WAKE_LIMIT));
    clearInterval(this.#beats);
    this.#beats = setInterval(() => this.#ask(limit), interval);
    Object.assign(this, { state: 'open', problem: null, retryAt: null });
    // The roster is there when "open" is told, and a listener may leave on seeing it.
    this.#owner.heard(message);
    if (this.#socket === socket) this.#owner.changed();
  }

  /**
   * Sends a heartbeat: whatever comes next answers it.
   *
   * @param {number} limit
   * @param {boolean} isAgain
   */
  #ask(limit, isAgain = false) {
    const asked = performance.now();
    this.#owner.beat();
    // Asking again and again must not put off the verdict.
    if (this.#doubt && !isAgain && this.#due <= asked + limit) return;
    this.#due = asked + limit;
    clearTimeout(this.#doubt);
    this.#doubt = setTimeout(() => {
      // So late a timer means that the page slept or is slowed down: what came meanwhile may still wait to be read.
      if (!isAgain && performance.now() - asked > 2 * limit) return this.#ask(limit, true);
      this.#next();
      this.#again();
    }, limit);
  }

  /** @param {number} code @param {string} reason @param {number} [hint] milliseconds */
  #closed(code, reason, hint) {
    const fate = comesBack(code);
    if (fate === 'back_off') this.#again(hint);
    else if (fate === 'never' || !this.#renew()) this.#end(code === 1000 ? null : closedWith(code, reason));
  }

  /** The connection was refused, and browsers do not say why: the same address does. @param {import('./credential.js').Access} access */
  async #question(access) {
    const { signal } = this.#step;
    try {
      await verdict(access, signal);
      const detail = 'The connection does not open. A proxy may be in the way.';
      throw new RefusedError({ code: 'upgrade_missing', status: 0, detail });
    } catch (error) {
      if (signal.aborted) return;
      const refusal = /** @type {RefusedError} */ (error);
      if (access.isResume && isSeatGone(refusal)) {
        this.#credential.keep(null);
        this.attempt();
      } else if (refusal.status !== 401 || !this.#renew()) {
        this.#refused(refusal);
      }
    }
  }

  /** Once, until a heartbeat has been answered. @returns {boolean} */
  #renew() {
    if (this.#isRenewed || !this.#credential.canRenew) return false;
    this.#isRenewed = true;
    this.#credential.expire();
    this.attempt();
    return true;
  }

  /** @param {RefusedError} refusal */
  #refused(refusal) {
    if (refusal.isPassing) this.#again(refusal.retryAfter, refusal);
    else this.#end(refusal);
  }

  /** @param {number} [hint] the server's own wish wins, in milliseconds @param {RefusedError | null} [problem] */
  #again(hint, problem = null) {
    const wait = Math.min(hint ?? backOff(this.#failures++), LONGEST_HINT);
    this.#mayHurry = hint === undefined;
    this.#timer = setTimeout(() => this.attempt(), wait);
    this.#away(problem, Date.now() + wait);
  }

  /** The page goes into the back/forward cache, where it must not hold a connection. */
  #suspend() {
    // It holds none, and is not to forget what the server asked for.
    if (this.#timer && !this.#mayHurry) return;
    this.#next();
    // Nothing is under way: any wake is due.
    this.#began = -Infinity;
    this.#away(null, null);
  }

  /** @param {RefusedError | null} refusal */
  #end(refusal) {
    this.#next(refusal ? undefined : LEAVING);
    this.#life.abort();
    this.#credential.keep(null);
    Object.assign(this, { state: 'closed', problem: refusal, retryAt: null });
    this.#owner.changed();
    this.#owner.closed(refusal);
  }

  /** Ends what was going on, and begins something else. @param {string} [reason] */
  #next(reason) {
    clearTimeout(this.#timer);
    clearTimeout(this.#doubt);
    clearInterval(this.#beats);
    this.#timer = this.#doubt = undefined;
    // Until a handshake does: the application is not hurried, whom a person may have to show their password.
    this.#began = Infinity;
    if (this.#socket) {
      if (performance.now() - this.#welcomedAt > GOOD_AFTER) this.#failures = 0;
      this.#owner.lost();
    }
    this.#socket = null;
    this.#step.abort(reason);
    return this.#step = new AbortController();
  }

  /** @param {RefusedError | null} problem @param {number | null} retryAt */
  #away(problem, retryAt) {
    const state = this.state === 'connecting' ? 'connecting' : 'reconnecting';
    Object.assign(this, { state, problem, retryAt });
    this.#owner.changed();
  }
}

/** Full jitter: anything up to a ceiling that doubles with every failure. @param {number} failures */
function backOff(failures) {
  return Math.random() * Math.min(LONGEST_WAIT, FIRST_WAIT * 2 ** failures);
}

/** A credential that cannot be sent, such as a token with a space in it. @param {unknown} error */
function impossible(error) {
  return new RefusedError({ code: 'bad_request', status: 400, detail: String(error) }, { cause: error });
}

/** @param {unknown} text @returns {ServerMessage | null} */
function parse(text) {
  try {
    return JSON.parse(String(text));
  } catch {
    return null;
  }
}
