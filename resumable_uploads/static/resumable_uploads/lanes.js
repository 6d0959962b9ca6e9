/**
 * How many requests with bytes may be under way at once, over all files.
 * Knows neither files nor requests.
 */

import { callOff } from "./signals.js";

/** @typedef {{order: number, enter: () => void}} Waiter */

/** A number of lanes; whoever has the lowest order gets the next free one. */
export class Lanes {
  #free;
  /** @type {Waiter[]} */
  #waiters = [];

  /** @param {number} count */
  constructor(count) {
    this.#free = Math.max(1, count);
  }

  /**
   * Wait for a lane.
   *
   * @param {number} order
   * @param {AbortSignal} [signal]
   * @returns {Promise<() => void>} gives the lane back; may be called twice
   */
  async take(order, signal) {
    signal?.throwIfAborted();
    if (this.#free > 0) this.#free -= 1;
    else await this.#queue(order, signal);
    return this.#giveBackOnce();
  }

  /**
   * @param {number} order
   * @param {AbortSignal} [signal]
   * @returns {Promise<void>}
   */
  #queue(order, signal) {
    return callOff(signal, (enter) => {
      const waiter = { order, enter };
      this.#waiters.push(waiter);
      return () => {
        this.#waiters = this.#waiters.filter((other) => other !== waiter);
      };
    });
  }

  #giveBackOnce() {
    let held = true;
    return () => {
      if (held) this.#passOn();
      held = false;
    };
  }

  #passOn() {
    if (this.#waiters.length === 0) {
      this.#free += 1;
      return;
    }
    const next = this.#waiters.reduce((a, b) => (b.order < a.order ? b : a));
    this.#waiters = this.#waiters.filter((other) => other !== next);
    next.enter();
  }
}
