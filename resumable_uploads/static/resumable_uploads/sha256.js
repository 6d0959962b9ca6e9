/**
 * SHA-256, all at once or piece by piece. `crypto.subtle` is missing on plain-http sites,
 * where a file must have the same identity, and takes no stream.
 */

const ROUNDS = constants(64, (prime) => fraction(Math.cbrt(prime)));
const START = constants(8, (prime) => fraction(Math.sqrt(prime)));

/** A digest that grows with what it is given. */
export class Sha256 {
  #hash = Int32Array.from(START);
  #words = new Int32Array(64);
  /** What does not fill a block yet. */
  #rest = new Uint8Array(64);
  #restSize = 0;
  #size = 0;

  /**
   * @param {Uint8Array} bytes
   * @returns {this}
   */
  update(bytes) {
    this.#size += bytes.length;
    let at = this.#fill(bytes);
    const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
    for (; at + 64 <= bytes.length; at += 64) absorb(this.#hash, this.#words, view, at);
    this.#rest.set(bytes.subarray(at), this.#restSize);
    this.#restSize += bytes.length - at;
    return this;
  }

  /**
   * End it; nothing may be added afterwards.
   *
   * @returns {Uint8Array} 32 bytes
   */
  digest() {
    const size = this.#size;
    const padding = new Uint8Array((this.#restSize < 56 ? 64 : 128) - this.#restSize);
    padding[0] = 0x80;
    const view = new DataView(padding.buffer);
    view.setUint32(padding.length - 8, Math.floor(size / 2 ** 29));
    view.setUint32(padding.length - 4, (size << 3) >>> 0);
    this.update(padding);
    const digest = new DataView(new ArrayBuffer(32));
    this.#hash.forEach((word, i) => digest.setInt32(4 * i, word));
    return new Uint8Array(digest.buffer);
  }

  /**
   * Complete a block that was begun.
   *
   * @param {Uint8Array} bytes
   * @returns {number} how many of them that took
   */
  #fill(bytes) {
    const missing = 64 - this.#restSize;
    if (this.#restSize === 0 || bytes.length < missing) return 0;
    this.#rest.set(bytes.subarray(0, missing), this.#restSize);
    absorb(this.#hash, this.#words, new DataView(this.#rest.buffer), 0);
    this.#restSize = 0;
    return missing;
  }
}

/**
 * @param {Uint8Array} bytes
 * @returns {string} 64 hexadecimal digits
 */
export function sha256(bytes) {
  return hex(new Sha256().update(bytes).digest());
}

/**
 * @param {Uint8Array} bytes
 * @returns {string}
 */
export function hex(bytes) {
  return Array.from(bytes, (byte) => byte.toString(16).padStart(2, "0")).join("");
}

/**
 * @param {Int32Array} hash
 * @param {Int32Array} words
 * @param {DataView} blocks
 * @param {number} at
 */
function absorb(hash, words, blocks, at) {
  for (let i = 0; i < 16; i += 1) words[i] = blocks.getInt32(at + 4 * i);
  for (let i = 16; i < 64; i += 1) words[i] = expanded(words, i);
  let a = hash[0];
  let b = hash[1];
  let c = hash[2];
  let d = hash[3];
  let e = hash[4];
  let f = hash[5];
  let g = hash[6];
  let h = hash[7];
  for (let i = 0; i < 64; i += 1) {
    const s1 = turn(e, 6) ^ turn(e, 11) ^ turn(e, 25);
    const one = (h + s1 + ((e & f) ^ (~e & g)) + ROUNDS[i] + words[i]) | 0;
    const s0 = turn(a, 2) ^ turn(a, 13) ^ turn(a, 22);
    const two = (s0 + ((a & b) ^ (a & c) ^ (b & c))) | 0;
    // One by one: an array to be taken apart would be made in each round.
    h = g;
    g = f;
    f = e;
    e = (d + one) | 0;
    d = c;
    c = b;
    b = a;
    a = (one + two) | 0;
  }
  hash[0] += a;
  hash[1] += b;
  hash[2] += c;
  hash[3] += d;
  hash[4] += e;
  hash[5] += f;
  hash[6] += g;
  hash[7] += h;
}

/**
 * @param {Int32Array} words
 * @param {number} i
 */
function expanded(words, i) {
  const x = words[i - 15];
  const y = words[i - 2];
  const s0 = turn(x, 7) ^ turn(x, 18) ^ (x >>> 3);
  const s1 = turn(y, 17) ^ turn(y, 19) ^ (y >>> 10);
  return (words[i - 16] + s0 + words[i - 7] + s1) | 0;
}

/**
 * @param {number} word
 * @param {number} by
 */
function turn(word, by) {
  return (word >>> by) | (word << (32 - by));
}

/**
 * FIPS 180-4, 4.2.2 and 5.3.3: the first bits of the roots of the first primes.
 *
 * @param {number} count
 * @param {(prime: number) => number} of
 */
function constants(count, of) {
  /** @type {number[]} */
  const primes = [];
  for (let n = 2; primes.length < count; n += 1) {
    if (primes.every((prime) => n % prime !== 0)) primes.push(n);
  }
  return Int32Array.from(primes, of);
}

/** @param {number} root */
function fraction(root) {
  return ((root % 1) * 2 ** 32) | 0;
}
