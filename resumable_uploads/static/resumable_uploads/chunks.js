/**
 * Which chunks of one file are there, on their way, and still to be sent.
 * Arithmetic only: never reads a byte of the file.
 */

/** The chunks of one file, 0-based; all have `chunkSize` bytes, the last the rest. */
export class ChunkPlan {
  /** @type {number[]} in the order of sending */
  #waiting = [];
  /** @type {Set<number>} */
  #taken = new Set();

  /**
   * @param {{size: number, chunkSize: number, missing: [number, number][],
   *   endsFirst?: boolean}} facts sizes in bytes, `missing` inclusive ranges of chunk
   *   numbers, `endsFirst`: the last one follows the first, for who looks at headers
   */
  constructor({ size, chunkSize, missing, endsFirst = false }) {
    this.size = size;
    this.chunkSize = chunkSize;
    this.early = endsFirst ? Math.ceil(size / chunkSize) - 1 : -1;
    this.confirmed = size;
    for (const [first, last] of missing) {
      for (let number = first; number <= last; number += 1) {
        this.#waiting.push(number);
        this.confirmed -= this.sizeOf(number);
      }
    }
    if (this.#waiting.at(-1) === this.early) this.#putBack(this.#waiting.pop() ?? 0);
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
    if (this.#taken.delete(number)) this.#putBack(number);
  }

  /** @param {number} number */
  #putBack(number) {
    const rank = this.#rankOf(number);
    const place = this.#waiting.findIndex((other) => this.#rankOf(other) > rank);
    this.#waiting.splice(place < 0 ? this.#waiting.length : place, 0, number);
  }

  /** @param {number} number */
  #rankOf(number) {
    return number === this.early ? Math.min(number, 0.5) : number;
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
