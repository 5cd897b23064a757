// The browser client of Rollcall. README.md says what it does; each file in client/ what it is for.

export { RefusedError } from './client/refusal.js';
export { ask, join, Room } from './client/room.js';

/** @typedef {import('./client/options.js').Options} Options */
/** @typedef {import('./client/options.js').Entrance} Entrance */
/** @typedef {import('./client/options.js').GetToken} GetToken */
/** @typedef {import('./client/options.js').StatusWish} StatusWish */
/** @typedef {import('./client/connection.js').ConnectionState} ConnectionState */
/** @typedef {import('./client/room.js').RoomEvent} RoomEvent */
/** @typedef {import('./client/room.js').RoomEvents} RoomEvents */
/** @typedef {import('./client/roster.js').Departed} Departed */
/** @typedef {import('./client/wire.js').Member} Member */
/** @typedef {import('./client/wire.js').State} State */
/** @typedef {import('./client/wire.js').Room} RoomInfo */
