/**
 * How large the chunks of a new upload are: as wished, as the line is fast, and never
 * larger than what a proxy has let through. Knows no upload.
 */

const KIB = 1024;
const MIB = 1024 * KIB;
/** A chunk should be on its way for about so many seconds: what a cut may cost. */
const SECONDS = 5;
const SMALLEST = 256 * KIB;
const LARGEST = 64 * MIB;
/** Less than this says more about buffers than about the line, in bytes and seconds. */
const TELLING = 256 * KIB;
const QUICKEST = 0.02;

/** @typedef {number | ((file: File, limits: import("./limits.js").Limits) => number)} Wish */

export class Sizing {
  #rate = 0;

  /** @param {{wish?: Wish | null, adapt?: boolean}} [options] bytes */
  constructor({ wish = null, adapt = true } = {}) {
    this.wish = wish;
    this.adapt = adapt;
    /** What something on the way has refused is out of the question. */
    this.most = Infinity;
  }

  /**
   * Note that a chunk has arrived.
   *
   * @param {number} bytes
   * @param {number} milliseconds
   */
  note(bytes, milliseconds) {
    if (bytes < TELLING) return;
    const rate = bytes / Math.max(milliseconds / 1000, QUICKEST);
    this.#rate = this.#rate ? 0.7 * this.#rate + 0.3 * rate : rate;
  }

  /**
   * Say how large the chunks of a file shall be.
   *
   * @param {File} file
   * @param {import("./limits.js").Limits} limits
   * @returns {number | null} bytes; null: the server may choose
   */
  sizeFor(file, limits) {
    const wished = typeof this.wish === "function" ? this.wish(file, limits) : this.wish;
    const size = wished ?? this.#adapted(file, limits) ?? this.#bounded(limits);
    return size && this.#within(Math.min(size, this.most), file.size, limits);
  }

  /**
   * The server's own choice may be too much for what is in between.
   *
   * @param {import("./limits.js").Limits} limits
   */
  #bounded({ chunk_size: usual = Infinity }) {
    return this.most < usual ? this.most : null;
  }

  /**
   * @param {File} file
   * @param {import("./limits.js").Limits} limits
   */
  #adapted(file, { chunk_size: usual }) {
    if (!this.adapt || !this.#rate || !usual || file.size <= SMALLEST) return null;
    const ideal = Math.min(Math.max(SECONDS * this.#rate, SMALLEST), LARGEST);
    const size = 2 ** Math.floor(Math.log2(ideal));
    // Close to the server's choice that one is kept: it is what the site was set up for.
    return size >= 2 * usual || size <= usual / 2 ? size : null;
  }

  /**
   * @param {number} size
   * @param {number} fileSize
   * @param {import("./limits.js").Limits} limits
   */
  #within(size, fileSize, { max_chunk_size: most = Infinity, max_chunks: count }) {
    const least = count ? Math.ceil(fileSize / count) : 1;
    return Math.max(1, least, Math.min(size, most));
  }
}
