// What the server says no with, and what a client does after a close.

/** Nobody waits for a verdict for longer than this: the server answers a join within 3 s. */
const VERDICT_LIMIT = 10_000;

/** Close codes after which there is no way back, with words for people. @type {Record<number, [code: string, detail: string]>} */
const FINAL = {
  1002: ['protocol_error', 'This page broke the protocol.'],
  1007: ['not_utf8', 'This page sent text that is not UTF-8.'],
  1009: ['too_large', 'This page sent too large a message.'],
  4400: ['bad_messages', 'This page sent too many bad messages.'],
  4401: ['token_expired', 'Your access has expired.'],
  4403: ['removed', 'You were removed from this room.'],
  4404: ['room_closed', 'This room was closed.'],
  4410: ['room_expired', 'This room has expired.'],
};

/** A join that may not happen, or a seat that was taken away. */
export class RefusedError extends Error {
  /** @param {{ code: string, status: number, detail: string, retry_after_ms?: number }} problem @param {ErrorOptions} [options] */
  constructor({ code, status, detail, retry_after_ms }, options) {
    super(detail, options);
    this.name = 'RefusedError';
    /** For programs: a problem's code, or what a close code stands for. */
    this.code = code;
    /** The HTTP status, the close code, or 0 where there was neither. */
    this.status = status;
    /** For people. */
    this.detail = detail;
    /** Milliseconds that the server asked to wait, if it did. @type {number | undefined} */
    this.retryAfter = retry_after_ms;
  }

  /** Whether waiting may change the answer. */
  get isPassing() {
    const { status } = this;
    return !status || status === 408 || status === 429 || (status >= 500 && status < 600);
  }
}

/**
 * Whether a resume was refused for its seat, which says nothing about what one came with. Not so a removal.
 *
 * @param {RefusedError} refusal
 */
export const isSeatGone = ({ status }) => [401, 404, 410].includes(status);

/**
 * What a client does after a close with this code: the protocol's table.
 *
 * @param {number} code
 * @returns {'never' | 'once' | 'back_off'}
 */
export function comesBack(code) {
  if (code === 4401) return 'once';
  if (code === 4408 || code === 4429) return 'back_off';
  if (code >= 4400 && code < 4500) return 'never';
  return code in FINAL || code === 1000 ? 'never' : 'back_off';
}

/** @param {number} status @param {string} reason */
export function closedWith(status, reason) {
  const [code, detail] = FINAL[status] ?? [`close_${status}`, reason || 'The server closed the connection.'];
  return new RefusedError({ code, status, detail });
}

/**
 * Asks for the verdict: the room, or a RefusedError; where no Rollcall answers, one with the code `unreachable`.
 *
 * @param {{ url: string, headers: Record<string, string> }} access
 * @param {AbortSignal} signal
 * @returns {Promise<import('./wire.js').Room>}
 */
export async function verdict({ url, headers }, signal) {
  try {
    const limited = AbortSignal.any([signal, AbortSignal.timeout(VERDICT_LIMIT)]);
    const response = await fetch(url, { headers, cache: 'no-store', signal: limited });
    const answer = await response.json();
    if (answer.verdict === 'admit') return answer.room;
    // A proxy's or a stranger's answer is not a verdict.
    if (typeof answer.code !== 'string' || answer.status !== response.status) throw answer;
    const seconds = Number(response.headers.get('retry-after'));
    throw new RefusedError({ retry_after_ms: seconds ? seconds * 1000 : undefined, ...answer });
  } catch (error) {
    signal.throwIfAborted();
    if (error instanceof RefusedError) throw error;
    // CORS hides an answer to an origin that is not allowed as if there were none.
    const detail = 'The server cannot be reached, or does not know this page.';
    throw new RefusedError({ code: 'unreachable', status: 0, detail }, { cause: error });
  }
}
