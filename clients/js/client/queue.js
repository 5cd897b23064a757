// Events that wait for an asynchronous reader.

/** So many may wait. */
const MOST = 1_000;

/** @typedef {import('./room.js').RoomEvent} RoomEvent */

export class EventQueue {
  /** @type {RoomEvent[]} */
  #events = [];
  #isOver = false;
  /** @type {Error | null} */
  #error = null;
  #wake = () => {};

  /** As a slow connection does: who falls behind loses what waits and is told that the roster is new. @param {RoomEvent} event */
  push(event) {
    if (this.#events.length >= MOST) this.#events = [{ type: 'sync', detail: { resumed: false } }];
    this.#events.push(event);
    this.#wake();
  }

  /** @param {Error | null} error */
  end(error) {
    this.#isOver = true;
    this.#error = error;
    this.#wake();
  }

  /** @returns {AsyncGenerator<RoomEvent, void, void>} */
  async* read() {
    for (;;) {
      const event = this.#events.shift();
      if (event) yield event;
      else if (this.#error) throw this.#error;
      else if (this.#isOver) return;
      else await new Promise((resolve) => { this.#wake = () => resolve(undefined); });
    }
  }
}
