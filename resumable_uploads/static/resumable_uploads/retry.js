/**
 * When to try again: back-off with jitter, Retry-After, and the line to the server,
 * which all files share, so that a server that comes back is not stormed.
 */

import { callOff, pause } from "./signals.js";

/**
 * Return how long to wait before another try: twice as long each time, half of it
 * left to chance so that clients do not come back all at once.
 *
 * @param {number} failures how many tries failed, from 1
 * @param {{base?: number, cap?: number, retryAfter?: number | null,
 *   random?: () => number}} [options] seconds
 * @returns {number} milliseconds
 */
export function delayAfter(failures, options = {}) {
  const { base = 1, cap = 30, retryAfter = null, random = Math.random } = options;
  const full = Math.min(cap, base * 2 ** (failures - 1));
  const chosen = full / 2 + (random() * full) / 2;
  return 1000 * (retryAfter === null ? chosen : retryAfter + random());
}

/**
 * Read a Retry-After header: seconds, or a date.
 *
 * @param {string | null | undefined} value
 * @param {number} [now] milliseconds since 1970
 * @returns {number | null} seconds, at most an hour
 */
export function retryAfterSeconds(value, now = Date.now()) {
  if (!value) return null;
  const seconds = /^\s*\d+\s*$/.test(value)
    ? Number(value)
    : (Date.parse(value) - now) / 1000;
  return Number.isNaN(seconds) ? null : Math.min(Math.max(seconds, 0), 3600);
}

/**
 * @typedef {{round: number, probing: boolean}} Pass
 * @typedef {{onLine: boolean, listen: (event: string, call: () => void,
 *   signal: AbortSignal) => void}} Network
 */

/** @type {Network} */
const BROWSER = {
  get onLine() {
    return globalThis.navigator?.onLine ?? true;
  },
  listen: (event, call, signal) => globalThis.addEventListener?.(event, call, { signal }),
};

/**
 * The line to the server. While it is in trouble one request at a time tries it, after
 * a growing pause; the others wait. "change" events tell of trouble and of its end.
 */
export class Line extends EventTarget {
  #closing = new AbortController();
  #failures = 0;
  #round = 0;
  #probing = false;
  /** @type {Set<() => void>} those who wait for the probe's end */
  #crowd = new Set();
  /** @type {Set<() => void>} those who wait for the next try */
  #sleepers = new Set();

  /**
   * @param {{base?: number, cap?: number, random?: () => number,
   *   now?: () => number, network?: Network,
   *   isOutage?: (problem: any) => boolean}} [options] seconds
   */
  constructor(options = {}) {
    super();
    this.options = options;
    this.network = options.network ?? BROWSER;
    this.now = options.now ?? Date.now;
    /** When the trouble began, in milliseconds since 1970, or null. */
    this.troubledSince = /** @type {number | null} */ (null);
    /** When the line is tried next, in milliseconds since 1970. */
    this.nextTry = 0;
    const { signal } = this.#closing;
    this.network.listen("online", () => this.tryNow(), signal);
    this.network.listen("offline", () => this.#tell(), signal);
  }

  /** Is the line in trouble? */
  get troubled() {
    return this.#failures > 0;
  }

  /** Does the browser know that there is no network? */
  get offline() {
    return !this.network.onLine;
  }

  /**
   * Use the line for one request.
   *
   * @template T
   * @param {() => Promise<T>} request
   * @param {AbortSignal} [signal]
   * @returns {Promise<T>}
   */
  async use(request, signal) {
    signal?.throwIfAborted();
    const pass = await this.#enter(signal);
    try {
      const answer = await request();
      this.#worked();
      return answer;
    } catch (problem) {
      this.#judge(problem, pass, signal);
      throw problem;
    } finally {
      if (pass.probing) this.#endProbe();
    }
  }

  /** Listen to the browser no longer. */
  close() {
    this.#closing.abort();
  }

  /** End the pause before the next try. */
  tryNow() {
    this.nextTry = this.now();
    for (const wake of [...this.#sleepers]) wake();
  }

  /**
   * @param {AbortSignal} [signal]
   * @returns {Promise<Pass>}
   */
  async #enter(signal) {
    while (this.troubled) {
      if (!this.#probing) return this.#probe(signal);
      await this.#waitFor(this.#crowd, signal);
    }
    return { round: this.#round, probing: false };
  }

  /**
   * @param {AbortSignal} [signal]
   * @returns {Promise<Pass>}
   */
  async #probe(signal) {
    this.#probing = true;
    try {
      await this.#sleep(signal);
    } catch (called) {
      this.#endProbe();
      throw called;
    }
    return { round: this.#round, probing: true };
  }

  /** @param {AbortSignal} [signal] */
  async #sleep(signal) {
    // "Offline" is sometimes a mistake of the browser's: after the longest pause the
    // line is tried all the same.
    const longest = 1000 * (this.options.cap ?? 30);
    const until = this.offline ? this.now() + longest : this.nextTry;
    if (until <= this.now()) return;
    const alarm = new AbortController();
    const called = () => alarm.abort(signal?.reason);
    signal?.addEventListener("abort", called, { once: true });
    try {
      await Promise.race([
        pause(until - this.now(), alarm.signal),
        this.#waitFor(this.#sleepers, alarm.signal),
      ]);
    } finally {
      signal?.removeEventListener("abort", called);
      alarm.abort();
    }
  }

  /**
   * @param {Set<() => void>} place
   * @param {AbortSignal} [signal]
   * @returns {Promise<void>}
   */
  #waitFor(place, signal) {
    return callOff(signal, (resolve) => {
      const wake = () => {
        place.delete(wake);
        resolve();
      };
      place.add(wake);
      return () => place.delete(wake);
    });
  }

  /**
   * @param {any} problem
   * @param {Pass} pass
   * @param {AbortSignal} [signal]
   */
  #judge(problem, pass, signal) {
    if (signal?.aborted) return;
    if (this.options.isOutage?.(problem) ?? true) this.#failed(problem, pass);
    else this.#worked();
  }

  #worked() {
    if (!this.troubled) return;
    this.#failures = 0;
    this.troubledSince = null;
    this.#tell();
  }

  /**
   * @param {any} problem
   * @param {Pass} pass
   */
  #failed(problem, pass) {
    // Requests that were under way together fail together: that is one outage.
    if (pass.round !== this.#round) return;
    this.#round += 1;
    this.#failures += 1;
    this.troubledSince ??= this.now();
    const retryAfter = problem?.retryAfter ?? null;
    const delay = delayAfter(this.#failures, { ...this.options, retryAfter });
    this.nextTry = this.now() + delay;
    this.#tell();
  }

  #endProbe() {
    this.#probing = false;
    for (const wake of [...this.#crowd]) wake();
  }

  #tell() {
    this.dispatchEvent(new Event("change"));
  }
}
