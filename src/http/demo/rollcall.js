// A client of the protocol (rollcall.v1): keeps a roster true, comes back by itself, and knows when not to.

const FIRST_WAIT = 500;
const LONGEST_WAIT = 15_000;
/** Refusals that waiting may change; after all others the door stays shut. */
const PASSING = new Set([429, 503]);

/** A refusal, with the words for people in `message`. */
export class RefusedError extends Error {
  constructor({ code, status, detail, retry_after_ms: retryAfter }) {
    super(detail);
    Object.assign(this, { code, status, retryAfter });
  }
}

/** What a client does after a close (PROTOCOL.md, "Close codes"). */
function comesBack(code) {
  if ([1000, 1002, 1007, 1009].includes(code)) return false;
  if (code === 4408 || code === 4429) return true;
  return !(code >= 4400 && code < 4500);
}

function hex(bytes) {
  return Array.from(crypto.getRandomValues(new Uint8Array(bytes)), (b) => b.toString(16).padStart(2, '0')).join('');
}

/** This browser's own id, so that the link opened twice is one guest. */
function clientId(guest) {
  const key = `rollcall-client:${guest}`;
  let id = localStorage.getItem(key);
  if (!id) localStorage.setItem(key, (id = hex(16)));
  return id;
}

/**
 * A room that one joins by an invite. Events: `change`, `join`, `leave`, `broadcast`, `expiring`, `connection`, `refused`.
 */
export class Room extends EventTarget {
  members = new Map();
  departed = new Map();
  self = null;
  room = null;
  connection = 'connecting';
  #invite; #name; #guest; #socket; #beat; #retry; #failures = 0; #state = {}; #status = 'active'; #over = false;

  constructor({ invite, name, guest = '' }) {
    super();
    this.#invite = invite;
    this.#name = name;
    this.#guest = guest;
  }

  get #resumeKey() { return `rollcall-resume:${this.#guest}:${this.#invite}`; }

  #query() {
    const resume = sessionStorage.getItem(this.#resumeKey);
    return resume
      ? new URLSearchParams({ resume })
      : new URLSearchParams({ invite: this.#invite, name: this.#name, client: clientId(this.#guest) });
  }

  /** Asks for the verdict without entering: an admitted room, or a RefusedError. */
  async ask() {
    const response = await fetch(`/v1/connect?${this.#query()}`, { cache: 'no-store' });
    const answer = await response.json();
    if (response.ok) return answer.room;
    if (response.status === 401 && sessionStorage.getItem(this.#resumeKey)) {
      sessionStorage.removeItem(this.#resumeKey);
      return this.ask();
    }
    throw new RefusedError(answer);
  }

  /** Asks, then connects; from then on comes back by itself. */
  async join() {
    try {
      await this.ask();
    } catch (error) {
      const final = error instanceof RefusedError && !PASSING.has(error.status);
      if (final) return this.#end(error);
      return this.#again(error.retryAfter);
    }
    if (!this.#over) this.#connect();
  }

  #connect() {
    const url = new URL(`/v1/connect?${this.#query()}`, location.href);
    url.protocol = url.protocol.replace('http', 'ws');
    const socket = new WebSocket(url, ['rollcall.v1']);
    this.#socket = socket;
    let hint;
    socket.addEventListener('message', ({ data }) => {
      const message = JSON.parse(data);
      if (message.type === 'reconnect') hint = message.after_ms;
      else this.#hear(message);
    });
    socket.addEventListener('close', ({ code, reason }) => {
      if (socket !== this.#socket) return;
      clearInterval(this.#beat);
      if (this.#over) return;
      if (comesBack(code)) this.#again(hint);
      else this.#end(new RefusedError({ code: String(code), status: code - 4000, detail: closeDetail(code, reason) }));
    });
  }

  #again(wait) {
    if (this.#over) return;
    const ceiling = Math.min(LONGEST_WAIT, FIRST_WAIT * 2 ** this.#failures++);
    this.#set('connection', this.self ? 'reconnecting' : 'connecting');
    clearTimeout(this.#retry);
    this.#retry = setTimeout(() => this.join(), wait ?? Math.random() * ceiling);
  }

  #end(error) {
    this.#over = true;
    this.#set('connection', 'closed');
    sessionStorage.removeItem(this.#resumeKey);
    this.#tell('refused', error);
  }

  #set(field, value) {
    if (this[field] === value) return;
    this[field] = value;
    this.#tell(field, value);
  }

  #tell(type, detail) { this.dispatchEvent(new CustomEvent(type, { detail })); }

  #hear(message) {
    switch (message.type) {
      case 'welcome': return this.#welcome(message);
      case 'sync': this.#replace(message); break;
      case 'presence': this.#apply(message); break;
      case 'room': this.room = message.room; break;
      case 'broadcast': return this.#tell('broadcast', message);
      case 'room_expiring': return this.#tell('expiring', message);
      default: return;
    }
    this.#tell('change');
  }

  #welcome(message) {
    this.#failures = 0;
    this.self = message.self;
    this.room = message.room;
    sessionStorage.setItem(this.#resumeKey, message.self.resume_token);
    this.#replace(message);
    clearInterval(this.#beat);
    this.#beat = setInterval(() => this.send({ type: 'heartbeat' }), message.heartbeat_interval_ms);
    this.#set('connection', 'open');
    if (!message.resumed && Object.keys(this.#state).length) this.send({ type: 'update', state: this.#state });
    if (this.#status !== 'active') this.send({ type: 'update', status: this.#status });
    this.#tell('change');
  }

  #replace({ members = [], occupancy }) {
    this.members = new Map(members.map((member) => [member.id, member]));
    this.occupancy = occupancy;
    for (const id of this.members.keys()) this.departed.delete(id);
  }

  #apply({ occupancy, joined = [], updated = [], left = [] }) {
    this.occupancy = occupancy;
    for (const member of joined) {
      const isNew = !this.members.has(member.id);
      this.members.set(member.id, member);
      this.departed.delete(member.id);
      if (isNew) this.#tell('join', member);
    }
    for (const update of updated) Object.assign(this.members.get(update.id) ?? {}, update);
    for (const { id, reason, last_seen_at } of left) {
      const member = { ...this.members.get(id), reason, last_seen_at };
      this.members.delete(id);
      this.departed.set(id, member);
      this.#tell('leave', member);
    }
  }

  send(message) {
    if (this.#socket?.readyState === WebSocket.OPEN) this.#socket.send(JSON.stringify(message));
  }

  /** Merges into one's own state. */
  update(state) {
    Object.assign(this.#state, state);
    this.send({ type: 'update', state });
  }

  setStatus(status) {
    this.#status = status;
    this.send({ type: 'update', status });
  }

  broadcast(event, payload) { this.send({ type: 'broadcast', event, payload }); }

  leave() {
    this.#over = true;
    clearTimeout(this.#retry);
    this.send({ type: 'leave' });
    sessionStorage.removeItem(this.#resumeKey);
    this.#set('connection', 'closed');
  }
}

function closeDetail(code, reason) {
  const words = {
    4400: 'The connection was closed because of too many unreadable messages.',
    4401: 'Your access has expired.',
    4403: 'You were removed from this room.',
    4404: 'This room has been closed.',
    4410: 'This room has expired.',
  };
  return words[code] ?? `The connection was closed (${reason || code}).`;
}
