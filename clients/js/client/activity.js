// Whether the person is there, by what the page sees of them.

/** Timers of more than 24 days fire at once. */
const LONGEST = 1e9;
const INPUT = ['pointermove', 'pointerdown', 'keydown', 'wheel', 'touchstart', 'scroll'];

export class Activity {
  #idleAfter;
  #idleAfterHidden;
  #changed;
  #life;
  #isAuto = true;
  #seen = Date.now();
  /** @type {ReturnType<typeof setTimeout> | undefined} */
  #timer;
  /** @type {import('./wire.js').Status} */
  status = 'active';

  /**
   * @param {import('./options.js').Habits} habits
   * @param {(status: import('./wire.js').Status) => void} changed
   * @param {AbortSignal} life
   */
  constructor({ status = 'auto', idleAfter = 300_000, idleAfterHidden = 60_000 }, changed, life) {
    this.#idleAfter = idleAfter;
    this.#idleAfterHidden = idleAfterHidden === false ? idleAfter : idleAfterHidden;
    this.#changed = changed;
    this.#life = life;
    const onInput = () => {
      this.#seen = Date.now();
      if (this.status === 'idle') this.#look();
    };
    const onVisibility = () => {
      // Whoever is away already does not come back by a screen that goes dark.
      if (!document.hidden || this.status === 'active') this.#seen = Date.now();
      this.#look();
    };
    const options = { signal: life, capture: true, passive: true };
    for (const type of INPUT) globalThis.addEventListener?.(type, onInput, options);
    globalThis.document?.addEventListener('visibilitychange', onVisibility, options);
    life.addEventListener('abort', () => clearTimeout(this.#timer));
    this.wish(status);
  }

  /** @param {import('./options.js').StatusWish} status */
  wish(status) {
    this.#isAuto = status === 'auto';
    this.#seen = Date.now();
    if (status === 'auto') return this.#look();
    clearTimeout(this.#timer);
    this.#set(status);
  }

  /** Input only moves a time: one timer looks at it when it may matter. */
  #look() {
    if (!this.#isAuto || this.#life.aborted) return;
    clearTimeout(this.#timer);
    const limit = globalThis.document?.hidden ? this.#idleAfterHidden : this.#idleAfter;
    // Without a page there is nobody to look at.
    if (limit === false || !globalThis.document) return this.#set('active');
    const left = this.#seen + limit - Date.now();
    this.#set(left > 0 ? 'active' : 'idle');
    if (left > 0) this.#timer = setTimeout(() => this.#look(), Math.min(left, LONGEST));
  }

  /** @param {import('./wire.js').Status} status */
  #set(status) {
    if (this.status === status) return;
    this.status = status;
    this.#changed(status);
  }
}
