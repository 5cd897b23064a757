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
};

export async function call(method, path, body) {
  const headers = key.get() ? { authorization: `Bearer ${key.get()}` } : {};
  if (body) headers['content-type'] = 'application/json';
  let response;
  try {
    response = await fetch(path, { method, headers, body: body && JSON.stringify(body), signal: AbortSignal.timeout(LIMIT) });
  } catch {
    throw new ApiError();
  }
  const answer = await response.json().catch(() => ({}));
  if (!response.ok) throw new ApiError({ status: response.status, code: answer.code, detail: answer.detail ?? `The server answered ${response.status}.` });
  return answer;
}

export const get = (path) => call('GET', path);
export const post = (path, body = {}) => call('POST', path, body);
export const remove = (path) => call('DELETE', path);

/** `/v1/rooms/ID/…`, whatever the id is made of. */
export const roomPath = (id, ...rest) => ['/v1/rooms', encodeURIComponent(id), ...rest].join('/');
