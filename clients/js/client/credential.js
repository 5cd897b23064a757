// By what right a connection is made, and what of it outlives a reload.

import { RefusedError } from './refusal.js';

const PROTOCOL = 'rollcall.v1';
/** Nobody waits for a backend of theirs for longer; a while later it is asked again. */
const TOKEN_LIMIT = 30_000;

/**
 * How to ask for one connection, by WebSocket or by fetch.
 *
 * @typedef {object} Access
 * @property {string} url
 * @property {Record<string, string>} headers
 * @property {string} socketUrl
 * @property {string[]} protocols
 * @property {boolean} isResume
 */

export class Credential {
  #options;
  #base;
  #token;
  #isShown = false;
  /** Tells this seat from others that this tab had, whoever used it then. */
  #seat = '';
  /** @type {string | null} */
  #resume = null;

  /** @param {import('./options.js').Entrance} options @throws {TypeError} for an address that is none */
  constructor(options) {
    this.#options = { ...options };
    this.#token = options.token;
    // A base with a path that ends in no slash would lose its last part.
    this.#base = new URL(options.url ?? globalThis.location?.origin ?? '');
    this.#base.protocol = this.#base.protocol.replace(/^ws/, 'http');
    this.#base.pathname = `${this.#base.pathname.replace(/\/$/, '')}/v1/connect`;
    this.#base.search = this.#base.hash = '';
  }

  /** Whether there may be a fresh access token. */
  get canRenew() {
    return Boolean(this.#options.getToken);
  }

  /**
   * The best there is: the seat one had, else what one came with.
   *
   * @param {AbortSignal} signal
   * @returns {Promise<Access>}
   */
  async access(signal) {
    const { invite, room, name } = this.#options;
    if (!invite && !this.#token) await this.renew(this.#isShown ? 'expired' : 'join', signal);
    if (!this.#isShown) this.#recall();
    this.#isShown = true;
    if (this.#resume) return this.#access({ resume: this.#resume }, 'rollcall.resume.', this.#resume);
    if (invite) return this.#access({ invite, name, client: this.#client() });
    return this.#access({ room }, 'rollcall.bearer.', this.#token);
  }

  /**
   * Has the application make a fresh access token.
   *
   * @param {'join' | 'expiring' | 'expired'} reason
   * @param {AbortSignal} signal
   * @throws {RefusedError} what the application refused with, or `token_unavailable`
   */
  async renew(reason, signal) {
    const limited = AbortSignal.any([signal, AbortSignal.timeout(TOKEN_LIMIT)]);
    let cause;
    try {
      const asked = this.#options.getToken?.({ reason, signal: limited });
      const late = new Promise((_, reject) => limited.addEventListener('abort', () => reject(limited.reason)));
      const token = await Promise.race([asked, late]);
      if (token) return this.#token = token;
    } catch (error) {
      signal.throwIfAborted();
      if (error instanceof RefusedError) throw error;
      cause = error;
    }
    const detail = 'The application gave no token.';
    throw new RefusedError({ code: 'token_unavailable', status: 0, detail }, { cause });
  }

  /** The access token has expired, and the seat that was taken with it. */
  expire() {
    this.#token = undefined;
    this.keep(null);
  }

  /** Remembers what brings the same participant back, past a reload; null forgets it. @param {string | null} resume */
  keep(resume) {
    this.#resume = resume;
    if (this.#seat) this.#stored('sessionStorage', this.#seat, resume);
  }

  /** Takes up the seat that this page had before a reload. */
  #recall() {
    const { invite, room, client = '' } = this.#options;
    const who = invite ?? subject(this.#token);
    if (!who) return;
    this.#seat = ['rollcall:resume', this.#base, who, room, client].join(' ');
    this.#resume = this.#stored('sessionStorage', this.#seat);
  }

  /** Says that it is the same guest again. */
  #client() {
    const key = 'rollcall:client';
    const client = this.#options.client ?? this.#stored('localStorage', key) ?? randomId();
    if (!this.#options.client) this.#stored('localStorage', key, client);
    return this.#options.client = client;
  }

  /**
   * Reads from web storage, or writes to it; null removes.
   *
   * @param {'localStorage' | 'sessionStorage'} area
   * @param {string} key
   * @param {string | null} [value]
   * @returns {string | null}
   */
  #stored(area, key, value) {
    try {
      if (this.#options.storage === false) return null;
      const storage = globalThis[area];
      if (value === undefined) return storage.getItem(key);
      if (value === null) storage.removeItem(key);
      else storage.setItem(key, value);
    } catch {
      // Browsers may deny it, at any time.
    }
    return null;
  }

  /** @param {Record<string, string | undefined>} query @param {string} [prefix] @param {string} [secret] @returns {Access} */
  #access(query, prefix, secret) {
    const url = new URL(this.#base);
    for (const [key, value] of Object.entries(query)) if (value !== undefined) url.searchParams.set(key, value);
    const socketUrl = new URL(url);
    socketUrl.protocol = url.protocol.replace('http', 'ws');
    // Query strings end up in logs.
    socketUrl.searchParams.delete('resume');
    return {
      url: url.href,
      headers: prefix === 'rollcall.bearer.' ? { authorization: `Bearer ${secret}` } : {},
      socketUrl: socketUrl.href,
      protocols: prefix ? [PROTOCOL, prefix + secret] : [PROTOCOL],
      isResume: 'resume' in query,
    };
  }
}

/** Whose access token it is and for where, without a look at its signature: only the server can tell. @param {string} [token] */
function subject(token = '') {
  try {
    const claims = JSON.parse(atob(token.split('.')[1].replaceAll('-', '+').replaceAll('_', '/')));
    // A seat is in one room, whether the token says which or the options do.
    return typeof claims.sub === 'string' ? JSON.stringify([claims.sub, claims.room]) : '';
  } catch {
    return '';
  }
}

/** 128 bits, as some 40 characters. */
function randomId() {
  return crypto.getRandomValues(new Uint32Array(4)).join('-');
}
