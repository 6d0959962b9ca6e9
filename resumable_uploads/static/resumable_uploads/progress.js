/**
 * How fast bytes move, and how long the rest will take.
 */

/** Speed over the last seconds, in bytes per second. */
export class Speedometer {
  /** @type {{at: number, moved: number}[]} oldest first */
  #marks = [];
  #moved = 0;

  /**
   * @param {{window?: number, step?: number, now?: () => number}} [options]
   *   milliseconds
   */
  constructor(options = {}) {
    this.window = options.window ?? 10_000;
    this.step = options.step ?? 200;
    this.now = options.now ?? Date.now;
  }

  /**
   * Note that bytes have moved.
   *
   * @param {number} bytes
   */
  add(bytes) {
    const at = this.now();
    if (this.#marks.length === 0) this.#marks.push({ at, moved: this.#moved });
    this.#moved += Math.max(0, bytes);
    const last = this.#marks[this.#marks.length - 1];
    if (at - last.at >= this.step) this.#marks.push({ at, moved: this.#moved });
    this.#forget(at);
  }

  /** Begin anew, after a pause. */
  reset() {
    this.#marks = [];
  }

  /** Bytes per second, 0 while unknown. */
  get rate() {
    const at = this.now();
    this.#forget(at);
    const first = this.#marks[0];
    // The first moments say little: the system's buffers swallow what they can.
    if (!first || at - first.at < 2 * this.step) return 0;
    return (1000 * (this.#moved - first.moved)) / (at - first.at);
  }

  /**
   * @param {number} bytes what is left
   * @returns {number | null} seconds
   */
  timeFor(bytes) {
    const rate = this.rate;
    return rate > 0 ? bytes / rate : null;
  }

  /** @param {number} at */
  #forget(at) {
    while (this.#marks.length > 1 && at - this.#marks[1].at > this.window) {
      this.#marks.shift();
    }
  }
}
