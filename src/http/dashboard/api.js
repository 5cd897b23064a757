// The management API, with the operator's key, which no longer than this tab is kept.

const LIMIT = 10_000;
const KEY = 'rollcall-admin-key';

/** An answer that is no success: `status`, `code`, and words for people. */
export class ApiError extends Error {
  constructor({ status = 0, code = 'unreachable', detail = 'The server cannot be reached.' } = {}) {
    super(detail);
    Object.assign(this, { status, code });
  }
}

export const key = {
  get: () => sessionStorage.getItem(KEY),
  set: (value) => sessionStorage.setItem(KEY, value),
  forget: () => sessionStorage.removeItem(KEY),
  /** What no header can carry is no key. */
  isPossible: (value) => /^[\x21-\x7e]+$/.test(value),
};

/** How far the server's clock is ahead of ours, in milliseconds. */
let ahead = 0;

/** The time by the server's clock, to the second. */
export const now = () => Date.now() + ahead;

async function call(method, path, { body, limit = LIMIT } = {}) {
  const headers = key.get() ? { authorization: `Bearer ${key.get()}` } : {};
  if (body) headers['content-type'] = 'application/json';
  let response;
  try {
    response = await fetch(path, { method, headers, body: body && JSON.stringify(body), signal: AbortSignal.timeout(limit) });
  } catch (error) {
    if (error.name !== 'TimeoutError') throw new ApiError();
    throw new ApiError({ code: 'timeout', detail: 'The server did not answer in time. What it was asked for may be done all the same.' });
  }
  ahead = Date.parse(response.headers.get('date')) - Date.now() || 0;
  const answer = await response.json().catch(() => ({}));
  if (!response.ok) throw new ApiError({ status: response.status, code: answer.code, detail: answer.detail ?? `The server answered ${response.status}.` });
  return answer;
}

export const get = (path) => call('GET', path);
export const post = (path, body = {}, limit = LIMIT) => call('POST', path, { body, limit });
export const remove = (path) => call('DELETE', path);

/** `/v1/rooms/ID/…`, whatever the id is made of. */
export const roomPath = (id, ...rest) => ['/v1/rooms', encodeURIComponent(id), ...rest].join('/');
