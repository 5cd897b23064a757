'use client';
// React bindings: a room for a tree of components, which re-render only for what they read.

import { createContext, createElement, useCallback, useContext, useEffect, useRef, useState, useSyncExternalStore } from 'react';
import { join } from './client.js';

/** @typedef {import('./client.js').Room} Room */
/** @typedef {import('./client.js').Member} Member */
/** @typedef {import('./client/room.js').RoomEvents} RoomEvents */

/** @type {import('react').Context<Room | null>} */
const RoomContext = createContext(/** @type {Room | null} */ (null));

const ROSTER = /** @type {const} */ (['sync', 'join', 'leave', 'update']);
const CONNECTION = /** @type {const} */ (['connection']);
/** @type {readonly Member[]} */
const NOBODY = Object.freeze([]);

/**
 * Is in a room for as long as it is mounted. Other options than `state`, `status`, the times and functions make it leave and
 * enter anew when they change; of `getToken` the latest is asked.
 *
 * @param {import('./client.js').Options & { children?: import('react').ReactNode }} props
 */
export function RoomProvider({ children, ...options }) {
  const [room, setRoom] = useState(/** @type {Room | null} */ (null));
  const latest = useLatest(options);
  const held = useRef(/** @type {{ room?: Room, entrance?: string, timer?: ReturnType<typeof setTimeout> }} */ ({}));
  const { url, invite, token, getToken, room: id, name, client, storage } = options;
  const entrance = JSON.stringify([url, invite, token, Boolean(getToken), id, name, client, storage]);

  // In an effect: a render may be thrown away, and must not take a seat.
  useEffect(() => {
    const seat = held.current;
    clearTimeout(seat.timer);
    if (!seat.room || seat.entrance !== entrance) {
      seat.room?.leave();
      const entered = { ...latest.current };
      if (entered.getToken) entered.getToken = (why) => /** @type {any} */ (latest.current.getToken)(why);
      seat.room = join(entered);
      seat.entrance = entrance;
      setRoom(seat.room);
    }
    return () => {
      // StrictMode unmounts and mounts again in one go: nobody is to see that.
      seat.timer = setTimeout(() => {
        seat.room?.leave();
        seat.room = undefined;
      });
    };
  }, [entrance, latest]);

  return createElement(RoomContext.Provider, { value: room }, children);
}

/** The room, for `update`, `leave` and events; null until the provider has mounted. */
export function useRoom() {
  return useContext(RoomContext);
}

/** Who is here; the members that did not change are the same objects as before. */
export function useMembers() {
  return useRoomValue(ROSTER, (room) => room.members, NOBODY);
}

/** One member, or null. @param {string | null} id */
export function useMember(id) {
  return useRoomValue(ROSTER, (room) => (id === null ? null : byId(room.members).get(id) ?? null), null);
}

/** @type {WeakMap<readonly Member[], Map<string, Member>>} */
const indexes = new WeakMap();

/** One index for each list: a page with a `useMember` for everybody would else look through it once for each. @param {readonly Member[]} members */
function byId(members) {
  let index = indexes.get(members);
  if (!index) indexes.set(members, index = new Map(members.map((member) => [member.id, member])));
  return index;
}

/** Oneself as the others see one, or null. */
export function useSelf() {
  return useRoomValue(ROSTER, (room) => room.self, null);
}

/** How many are here. */
export function useOccupancy() {
  return useRoomValue(ROSTER, (room) => room.occupancy, 0);
}

/** `connecting`, `open`, `reconnecting` or `closed`. */
export function useConnection() {
  return useRoomValue(CONNECTION, (room) => room.connection, 'connecting');
}

/** Why the room is not open, as far as the server said: a RefusedError, or null. */
export function useProblem() {
  return useRoomValue(CONNECTION, (room) => room.problem, null);
}

/**
 * Hears broadcasts of one event, and returns the function that sends them.
 *
 * @param {string} event
 * @param {(payload: any, from: string | null) => void} [listener] of which the latest is called
 * @param {{ to?: string[], throttle?: number }} [options]
 * @returns {(payload?: unknown, more?: { to?: string[], throttle?: number }) => boolean} the same until the room or event changes
 */
export function useBroadcast(event, listener, options) {
  const room = useRoom();
  const latest = useLatest({ listener, options });
  useEffect(() => room?.on('broadcast', (message) => {
    if (message.event === event) latest.current.listener?.(message.payload, message.from);
  }), [room, event, latest]);
  return useCallback(
    (payload, more) => room?.broadcast(event, payload, { ...latest.current.options, ...more }) ?? false,
    [room, event, latest],
  );
}

/**
 * @template T
 * @param {readonly (keyof RoomEvents)[]} types a constant
 * @param {(room: Room) => T} read the same until one of these events
 * @param {T} before the room is there
 * @returns {T}
 */
function useRoomValue(types, read, before) {
  const room = useRoom();
  const subscribe = useCallback((/** @type {() => void} */ changed) => {
    const stops = types.map((type) => room?.on(type, changed));
    return () => stops.forEach((stop) => stop?.());
  }, [room, types]);
  return useSyncExternalStore(subscribe, () => (room ? read(room) : before), () => before);
}

/** What was rendered last, for functions that are called later. @template T @param {T} value */
function useLatest(value) {
  const latest = useRef(value);
  useEffect(() => { latest.current = value; });
  return latest;
}
