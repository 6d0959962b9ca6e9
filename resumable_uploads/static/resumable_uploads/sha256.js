/**
 * SHA-256 of a few bytes. `crypto.subtle` is missing on plain-http sites, where a file
 * must have the same identity; one way for all pages keeps it so.
 */

const ROUNDS = constants(64, (prime) => fraction(Math.cbrt(prime)));
const START = constants(8, (prime) => fraction(Math.sqrt(prime)));

/**
 * @param {Uint8Array} bytes
 * @returns {string} 64 hexadecimal digits
 */
export function sha256(bytes) {
  const hash = Int32Array.from(START);
  const words = new Int32Array(64);
  const blocks = padded(bytes);
  for (let at = 0; at < blocks.byteLength; at += 64) absorb(hash, words, blocks, at);
  return Array.from(hash, (word) => (word >>> 0).toString(16).padStart(8, "0")).join("");
}

/** @param {Uint8Array} bytes */
function padded(bytes) {
  const length = (((bytes.length + 8) >> 6) + 1) << 6;
  const block = new Uint8Array(length);
  block.set(bytes);
  block[bytes.length] = 0x80;
  const view = new DataView(block.buffer);
  view.setUint32(length - 8, Math.floor(bytes.length / 2 ** 29));
  view.setUint32(length - 4, (bytes.length << 3) >>> 0);
  return view;
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
  let [a, b, c, d, e, f, g, h] = hash;
  for (let i = 0; i < 64; i += 1) {
    const s1 = turn(e, 6) ^ turn(e, 11) ^ turn(e, 25);
    const one = (h + s1 + ((e & f) ^ (~e & g)) + ROUNDS[i] + words[i]) | 0;
    const s0 = turn(a, 2) ^ turn(a, 13) ^ turn(a, 22);
    const two = (s0 + ((a & b) ^ (a & c) ^ (b & c))) | 0;
    [h, g, f, e, d, c, b, a] = [g, f, e, (d + one) | 0, c, b, a, (one + two) | 0];
  }
  [a, b, c, d, e, f, g, h].forEach((word, i) => (hash[i] += word));
}

/**
 * @param {Int32Array} words
 * @param {number} i
 */
function expanded(words, i) {
  const [x, y] = [words[i - 15], words[i - 2]];
  const s0 = turn(x, 7) ^ turn(x, 18) ^ (x >>> 3);
  const s1 = turn(y, 17) ^ turn(y, 19) ^ (y >>> 10);
  return words[i - 16] + s0 + words[i - 7] + s1;
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
