// A client of the protocol (rollcall.v1): keeps a roster true, comes back by itself, and knows when not to.

const FIRST_WAIT = 500;
const LONGEST_WAIT = 15_000;
const DEAF_AFTER = 2; // heartbeats in a row that nothing was heard after; counted, as browsers slow down the timers of hidden tabs
const NEVER_AGAIN = [1000, 1002, 1007, 1009];

const CLOSED = {
  1002: ['protocol_error', 'The connection broke the protocol.'],
  1007: ['not_utf8', 'The connection sent text that is not UTF-8.'],
  1009: ['too_large', 'The connection sent a message that is too large.'],
  4400: ['bad_messages', 'The connection sent too many messages the server could not read.'],
  4401: ['token_expired', 'Your access has expired.'],
  4403: ['removed', 'You were removed from this room.'],
  4404: ['room_closed', 'This room was closed.'],
  4410: ['room_expired', 'This room has expired.'],
};

/** A refusal: a problem's `code` and `status`, the words for people in `message`, `retryAfter` in milliseconds. */
export class RefusedError extends Error {
  constructor({ code, status, detail, retry_after_ms: retryAfter }) {
    super(detail);
    Object.assign(this, { name: 'RefusedError', code, status, retryAfter });
  }

  /** Whether waiting may change the answer. */
  get isPassing() { return this.status === 429 || (this.status >= 500 && this.status < 600); }
}

/** What a client does after a close (PROTOCOL.md, "Close codes"). An invite has no fresh token to offer after 4401. */
export function comesBack(code) {
  if (code === 4408 || code === 4429) return true;
  return !NEVER_AGAIN.includes(code) && !(code >= 4400 && code < 4500);
}

/** Full jitter: anything up to a ceiling that doubles with every failure. */
export function backOff(failures, random = Math.random) {
  return random() * Math.min(LONGEST_WAIT, FIRST_WAIT * 2 ** failures);
}

/** Web storage, or memory where the browser denies it. */
function storage(name) {
  try {
    const area = globalThis[name];
    area.setItem('rollcall-probe', '1');
    area.removeItem('rollcall-probe');
    return area;
  } catch {
    const map = new Map();
    return { getItem: (key) => map.get(key) ?? null, setItem: (key, value) => map.set(key, value), removeItem: (key) => map.delete(key) };
  }
}

export const kept = storage('localStorage');
const perTab = storage('sessionStorage');

function randomId() {
  return Array.from(crypto.getRandomValues(new Uint8Array(16)), (byte) => byte.toString(16).padStart(2, '0')).join('');
}

/** This browser's own id: the same link opened twice is one guest. */
function clientId(guest) {
  const key = `rollcall-client:${guest}`;
  const id = kept.getItem(key) ?? randomId();
  kept.setItem(key, id);
  return id;
}

/**
 * A room joined by an invite.
 *
 * Events: `change` (roster, room or self), `join` and `leave` (a member), `broadcast`, `expiring`, `trouble` (an error about
 * one message), `connection` (connecting, open, reconnecting, closed), `waiting` (why it has to, if that is known), `refused`
 * (a RefusedError; it does not come back).
 */
export class Room extends EventTarget {
  members = new Map();
  departed = new Map();
  occupancy = 0;
  roster = 'full';
  self = null;
  room = null;
  connection = 'connecting';
  #invite; #name; #guest; #socket; #beat; #retry; #lastFrame = 0; #unanswered = 0; #frameBefore = 0; #ahead = 0;
  #failures = 0; #state = {}; #status = 'active'; #isOver = false;

  /** `guest` tells several people in one browser apart. */
  constructor({ invite, name, guest = '' }) {
    super();
    this.#invite = invite;
    this.#name = name;
    this.#guest = guest;
  }

  get #resumeKey() { return `rollcall-resume:${this.#guest}:${this.#invite}`; }

  /** Whether this tab has been in the room before. */
  get canResume() { return perTab.getItem(this.#resumeKey) !== null; }

  /** The server's time in milliseconds, as far as this clock can tell. */
  now() { return Date.now() + this.#ahead; }

  #url() {
    const resume = perTab.getItem(this.#resumeKey);
    const query = resume ? { resume } : { invite: this.#invite, name: this.#name, client: clientId(this.#guest) };
    return new URL(`/v1/connect?${new URLSearchParams(query)}`, location.href);
  }

  /** Asks for the verdict without entering: the room, or a RefusedError. */
  async ask() {
    const response = await fetch(this.#url(), { cache: 'no-store' });
    const answer = await response.json();
    if (response.ok) return answer.room;
    if (response.status === 401 && this.canResume) {
      perTab.removeItem(this.#resumeKey);
      return this.ask();
    }
    const seconds = Number(response.headers.get('retry-after')) || undefined;
    throw new RefusedError({ retry_after_ms: seconds && seconds * 1000, ...answer });
  }

  /** Asks, then connects; from then on comes back by itself. */
  async join() {
    try {
      await this.ask();
    } catch (error) {
      if (this.#isOver) return;
      if (error instanceof RefusedError && !error.isPassing) this.#end(error);
      else this.#again(error.retryAfter, error);
      return;
    }
    if (!this.#isOver) this.#connect();
  }

  /** Does not wait any longer: the network is back, or somebody asked. */
  retryNow() {
    if (!this.#retry) return;
    clearTimeout(this.#retry);
    this.#retry = null;
    this.join();
  }

  #connect() {
    const url = this.#url();
    url.protocol = url.protocol.replace('http', 'ws');
    const socket = new WebSocket(url, ['rollcall.v1']);
    this.#socket = socket;
    let hint;
    socket.addEventListener('message', ({ data }) => {
      if (socket !== this.#socket) return;
      this.#frameBefore = this.#lastFrame;
      this.#lastFrame = performance.now();
      this.#unanswered = 0;
      const message = JSON.parse(data);
      if (message.type === 'reconnect') hint = message.after_ms;
      else this.#hear(message);
    });
    socket.addEventListener('close', ({ code, reason }) => { if (socket === this.#socket) this.#closed(code, reason, hint); });
  }

  #closed(code, reason, hint) {
    clearInterval(this.#beat);
    this.#socket = null;
    if (this.#isOver) return;
    if (comesBack(code)) return this.#again(hint);
    const [name, words] = CLOSED[code] ?? [reason || `close_${code}`, 'The server closed the connection.'];
    this.#end(new RefusedError({ code: name, status: code, detail: words }));
  }

  #again(wait, reason) {
    this.#set('connection', this.self ? 'reconnecting' : 'connecting');
    clearTimeout(this.#retry);
    this.#retry = setTimeout(() => this.retryNow(), wait ?? backOff(this.#failures));
    this.#failures += 1;
    this.#tell('waiting', reason);
  }

  #end(error) {
    this.#isOver = true;
    perTab.removeItem(this.#resumeKey);
    this.#set('connection', 'closed');
    if (error) this.#tell('refused', error);
  }

  #set(field, value) {
    if (this[field] === value) return;
    this[field] = value;
    this.#tell(field, value);
  }

  #tell(type, detail) { this.dispatchEvent(new CustomEvent(type, { detail })); }

  #hear(message) {
    switch (message.type) {
      case 'welcome': this.#welcome(message); break;
      case 'sync': this.#replace(message); break;
      case 'presence': this.#apply(message); break;
      case 'room': this.room = message.room; break;
      case 'broadcast': return this.#tell('broadcast', message);
      case 'room_expiring': return this.#tell('expiring', message);
      case 'error': return this.#tell('trouble', message);
      default: return;
    }
    this.#tell('change');
  }

  #welcome(message) {
    this.#failures = 0;
    this.self = message.self;
    this.room = message.room;
    this.#ahead = Date.parse(message.server_time) - Date.now();
    perTab.setItem(this.#resumeKey, message.self.resume_token);
    this.#replace(message);
    clearInterval(this.#beat);
    this.#beat = setInterval(() => this.#heartbeat(), message.heartbeat_interval_ms);
    // A new seat knows nothing of the old one's state; a kept seat may know more than this page, after a reload.
    const hasState = Object.keys(this.#state).length > 0;
    if (message.resumed) this.#state = { ...this.members.get(this.self.participant_id)?.state, ...this.#state };
    else if (hasState) this.send({ type: 'update', state: this.#state });
    if (this.#status !== 'active') this.send({ type: 'update', status: this.#status });
    this.#set('connection', 'open');
  }

  #heartbeat() {
    if (this.#unanswered < DEAF_AFTER) {
      this.#unanswered += 1;
      return this.send({ type: 'heartbeat' });
    }
    // Nothing comes in: the network is gone and nobody said so. Its close event may take minutes.
    const deaf = this.#socket;
    this.#closed(1006);
    // An empty close frame, should it arrive after all, would mean leaving.
    deaf?.close(4000, 'silent');
  }

  /** The roster as the server has it; who is missing in it went while nobody told us. */
  #replace({ roster, members = [], occupancy }) {
    const before = this.members;
    this.members = new Map(members.map((member) => [member.id, member]));
    this.occupancy = occupancy;
    this.roster = roster;
    for (const id of this.members.keys()) this.departed.delete(id);
    if (roster === 'count') return;
    // They were here when last anything was heard; `last_seen_at` in a roster is an older sample.
    const heard = new Date(this.now() - (performance.now() - this.#frameBefore)).toISOString();
    for (const [id, member] of before) {
      if (this.members.has(id)) continue;
      const gone = { ...member, last_seen_at: heard > member.last_seen_at ? heard : member.last_seen_at };
      this.departed.set(id, gone);
      this.#tell('leave', gone);
    }
  }

  #apply({ occupancy, joined = [], updated = [], left = [] }) {
    this.occupancy = occupancy;
    for (const member of joined) {
      const isNew = !this.members.has(member.id);
      this.members.set(member.id, member);
      this.departed.delete(member.id);
      if (isNew) this.#tell('join', member);
    }
    for (const update of updated) {
      const member = this.members.get(update.id);
      if (member) this.members.set(update.id, { ...member, ...update });
    }
    for (const { id, reason, last_seen_at } of left) {
      const known = this.members.get(id);
      if (!known) continue;
      const member = { ...known, reason, last_seen_at };
      this.members.delete(id);
      this.departed.set(id, member);
      this.#tell('leave', member);
    }
  }

  send(message) {
    if (this.#socket?.readyState !== WebSocket.OPEN) return false;
    this.#socket.send(JSON.stringify(message));
    return true;
  }

  /** Merges into one's own state; null removes a field. Kept, and sent again to a new seat. */
  update(patch) {
    for (const [key, value] of Object.entries(patch)) {
      if (value === null) delete this.#state[key];
      else this.#state[key] = value;
    }
    return this.send({ type: 'update', state: patch });
  }

  setStatus(status) {
    this.#status = status;
    return this.send({ type: 'update', status });
  }

  broadcast(event, payload) { return this.send({ type: 'broadcast', event, payload }); }

  /** Leaves for good: the others see it at once. */
  leave() {
    clearTimeout(this.#retry);
    this.#retry = null;
    clearInterval(this.#beat);
    // The server closes after `leave`; a socket that is not open yet has to be closed from here.
    if (!this.send({ type: 'leave' })) this.#socket?.close();
    this.#end();
  }
}
