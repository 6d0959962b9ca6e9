/**
 * SHA-256 of chunks and of whole files, in a worker where there may be one. A file is
 * read in pieces, so memory does not grow with it.
 */

import { Lanes } from "./lanes.js";
import { Sha256 } from "./sha256.js";

/** What is read at once, in bytes; and what the browser's own SHA-256 gets as a whole. */
const PIECE = 4 * 1024 * 1024;
const WHOLE = 64 * 1024 * 1024;
/** Digests under way at once: one reads while the other computes. */
const AT_ONCE = 2;

/**
 * Compute a digest here, in whatever thread this is.
 *
 * @param {Blob} blob
 * @returns {Promise<Uint8Array>} 32 bytes
 */
export async function digestOf(blob) {
  const { subtle } = globalThis.crypto ?? {};
  if (subtle && blob.size <= WHOLE) {
    return new Uint8Array(await subtle.digest("SHA-256", await blob.arrayBuffer()));
  }
  const hash = new Sha256();
  for (let at = 0; at < blob.size; at += PIECE) {
    hash.update(new Uint8Array(await blob.slice(at, at + PIECE).arrayBuffer()));
  }
  return hash.digest();
}

/**
 * @typedef {{resolve: (digest: Uint8Array | null) => void, reject: (why: any) => void}}
 *   Asker
 */

export class Hasher {
  /** @type {Worker | null | undefined} undefined: nobody has asked yet */
  #worker;
  /** @type {Map<number, Asker>} */
  #askers = new Map();
  #number = 0;
  #lanes = new Lanes(AT_ONCE);

  /** @param {{makeWorker?: () => Worker | null}} [options] */
  constructor({ makeWorker = ownWorker } = {}) {
    this.makeWorker = makeWorker;
  }

  /**
   * @param {Blob} blob
   * @param {AbortSignal} [signal] ends the wait for a turn
   * @returns {Promise<Uint8Array>} 32 bytes; rejected where the blob cannot be read
   */
  async digest(blob, signal) {
    const leave = await this.#lanes.take((this.#number += 1), signal);
    try {
      if (this.#worker === undefined) this.#worker = this.#begin();
      const answer = this.#worker && (await this.#ask(this.#worker, blob));
      return answer ?? (await digestOf(blob));
    } finally {
      leave();
    }
  }

  /** Let go of the worker; the next question begins another one. */
  close() {
    this.#worker?.terminate();
    this.#worker = undefined;
    for (const asker of this.#takeAll()) asker.reject(new Error("Closed."));
  }

  /**
   * @param {Worker} worker
   * @param {Blob} blob
   * @returns {Promise<Uint8Array | null>} null: the worker does not work
   */
  #ask(worker, blob) {
    const number = (this.#number += 1);
    return new Promise((resolve, reject) => {
      this.#askers.set(number, { resolve, reject });
      worker.postMessage({ number, blob });
    });
  }

  #begin() {
    const worker = this.makeWorker();
    if (!worker) return null;
    worker.onmessage = ({ data }) => this.#answered(data);
    // The script is not to be had (another site's, an old policy): do without.
    worker.onerror = () => this.#giveUpOn(worker);
    return worker;
  }

  /** @param {{number: number, digest?: Uint8Array, problem?: string}} answer */
  #answered({ number, digest, problem }) {
    const asker = this.#askers.get(number);
    this.#askers.delete(number);
    if (digest) asker?.resolve(digest);
    else asker?.reject(new Error(problem));
  }

  /** @param {Worker} worker */
  #giveUpOn(worker) {
    worker.terminate();
    this.#worker = null;
    for (const asker of this.#takeAll()) asker.resolve(null);
  }

  #takeAll() {
    const askers = [...this.#askers.values()];
    this.#askers.clear();
    return askers;
  }
}

/** @returns {Worker | null} null where the browser, or the site's policy, has none */
function ownWorker() {
  try {
    return new Worker(new URL("./hash-worker.js", import.meta.url), { type: "module" });
  } catch {
    return null;
  }
}
