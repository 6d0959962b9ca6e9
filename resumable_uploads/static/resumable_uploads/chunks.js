/**
 * Which chunks of one file are there, on their way, and still to be sent.
 * Arithmetic only: never reads a byte of the file.
 */

/** The chunks of one file, 0-based; all have `chunkSize` bytes, the last the rest. */
export class ChunkPlan {
  /** @type {number[]} in ascending order */
  #waiting = [];
  /** @type {Set<number>} */
  #taken = new Set();

  /**
   * @param {{size: number, chunkSize: number, missing: [number, number][]}} facts
   *   sizes in bytes, `missing` inclusive ranges of chunk numbers
   */
  constructor({ size, chunkSize, missing }) {
    this.size = size;
    this.chunkSize = chunkSize;
    this.confirmed = size;
    for (const [first, last] of missing) {
      for (let number = first; number <= last; number += 1) {
        this.#waiting.push(number);
        this.confirmed -= this.sizeOf(number);
      }
    }
  }

  /** Are all chunks there? */
  get finished() {
    return this.#waiting.length === 0 && this.#taken.size === 0;
  }

  /** How many chunks are still to be sent or on their way. */
  get left() {
    return this.#waiting.length + this.#taken.size;
  }

  /**
   * Take the first chunk that nobody is sending.
   *
   * @returns {number | null}
   */
  take() {
    const number = this.#waiting.shift();
    if (number === undefined) return null;
    this.#taken.add(number);
    return number;
  }

  /**
   * Put back a chunk that did not arrive.
   *
   * @param {number} number
   */
  giveBack(number) {
    if (!this.#taken.delete(number)) return;
    const place = this.#waiting.findIndex((other) => other > number);
    this.#waiting.splice(place < 0 ? this.#waiting.length : place, 0, number);
  }

  /**
   * Note that the server has recorded a chunk.
   *
   * @param {number} number
   */
  done(number) {
    if (this.#taken.delete(number)) this.confirmed += this.sizeOf(number);
  }

  /**
   * @param {number} number
   * @returns {[number, number]} the first byte, and the one after the last
   */
  rangeOf(number) {
    const start = number * this.chunkSize;
    return [start, Math.min(start + this.chunkSize, this.size)];
  }

  /**
   * @param {number} number
   * @returns {number} bytes
   */
  sizeOf(number) {
    const [start, end] = this.rangeOf(number);
    return end - start;
  }
}
