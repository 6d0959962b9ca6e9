/**
 * What makes a file the same file: name, size, time, folder, and a sample of its bytes.
 */

import { sha256 } from "./sha256.js";

const SAMPLES = 16;
const SAMPLE_SIZE = 16 * 1024;

/**
 * Return the name under which the server finds this file's upload again: a digest, which
 * gives nothing away. Reads at most 256 KiB of the file.
 *
 * @param {File} file
 * @param {{relativePath?: string, policy?: string, keys?: any[]}} [more] `keys`: what else
 *   tells files apart, as the album it is for
 * @returns {Promise<string>} 64 hexadecimal digits
 */
export async function clientKey(file, more = {}) {
  const { relativePath = "", policy = "", keys = [] } = more;
  const facts = [
    file.name.normalize("NFC"),
    file.size,
    file.lastModified ?? 0,
    relativePath.normalize("NFC"),
    policy,
    ...(keys.length > 0 ? [keys] : []),
  ];
  return digestWith(facts, file);
}

/**
 * Return a digest of size and samples only: the same for a copy of the file, on whatever
 * device and under whatever name.
 *
 * @param {Blob} file
 * @returns {Promise<string>} 64 hexadecimal digits
 */
export async function sampleDigest(file) {
  return digestWith([file.size], file);
}

/**
 * @param {any[]} facts
 * @param {Blob} file
 */
async function digestWith(facts, file) {
  const head = new TextEncoder().encode(`${JSON.stringify(facts)}\n`);
  const sample = await new Blob(samplesOf(file)).arrayBuffer();
  const bytes = new Uint8Array(head.length + sample.byteLength);
  bytes.set(head);
  bytes.set(new Uint8Array(sample), head.length);
  return sha256(bytes);
}

/**
 * Cut samples out of a file, evenly, the first and the last bytes among them.
 *
 * @param {Blob} file
 * @returns {Blob[]} the whole file where it is small
 */
export function samplesOf(file) {
  if (file.size <= SAMPLES * SAMPLE_SIZE) return [file];
  const step = (file.size - SAMPLE_SIZE) / (SAMPLES - 1);
  return Array.from({ length: SAMPLES }, (_, i) => {
    const start = Math.floor(i * step);
    return file.slice(start, start + SAMPLE_SIZE);
  });
}
