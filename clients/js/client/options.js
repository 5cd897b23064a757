// What `join` and `ask` may be told.

/**
 * @typedef {object} Entrance
 * @property {string | URL} [url] where the server is, by default where the page is from; a path is kept
 * @property {string} [invite] the token of an invite link
 * @property {string} [token] an access token (JWT)
 * @property {GetToken} [getToken] asked for an access token at the start, before it expires and after it has
 * @property {string} [room] the room's id, where a token is good for more than one
 * @property {string} [name] a guest's display name, 1 to 64 characters
 * @property {string} [client] 16 to 64 characters that say "the same guest again"; by default kept in `localStorage`
 * @property {boolean} [storage] false: nothing is kept in the browser, and a reload is somebody new
 * @property {AbortSignal} [signal] aborting leaves
 */

/**
 * @typedef {object} Habits
 * @property {object} [state] the participant's state at first
 * @property {StatusWish} [status] by default `auto`: idle by itself
 * @property {number | false} [idleAfter] milliseconds without input until `auto` means idle, by default 5 minutes
 * @property {number | false} [idleAfterHidden] the same for a page that is not to be seen, by default 1 minute
 * @property {number} [updateInterval] milliseconds between two updates, by default 50
 */

/** @typedef {Entrance & Habits} Options */
/** @typedef {import('./wire.js').State} State */
/** @typedef {import('./wire.js').Status | 'auto'} StatusWish */
/** @typedef {(why: { reason: 'join' | 'expiring' | 'expired', signal: AbortSignal }) => string | Promise<string>} GetToken */

/** @param {Entrance} options */
export function checkEntrance({ invite, token, getToken }) {
  if ([invite, token, getToken].filter(Boolean).length !== 1) {
    throw new TypeError('exactly one of "invite", "token" and "getToken" is needed');
  }
}
