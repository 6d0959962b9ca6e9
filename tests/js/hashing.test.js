import assert from "node:assert/strict";
import { createHash } from "node:crypto";
import { test } from "node:test";

import { digestOf, Hasher } from "../../resumable_uploads/static/resumable_uploads/hashing.js";
import { hex, Sha256 } from "../../resumable_uploads/static/resumable_uploads/sha256.js";

const wanted = (bytes) => createHash("sha256").update(bytes).digest("hex");
const bytesOf = (size) => Uint8Array.from({ length: size }, (_, i) => (i * 31) % 251);

test("a digest grown piece by piece is that of the whole, however it is cut", () => {
  for (const size of [0, 1, 55, 56, 63, 64, 65, 119, 120, 128, 1000]) {
    const bytes = bytesOf(size);
    for (const step of [1, 7, 64, 100]) {
      const hash = new Sha256();
      for (let at = 0; at < size; at += step) hash.update(bytes.subarray(at, at + step));
      assert.equal(hex(hash.digest()), wanted(bytes), `${size} bytes by ${step}`);
    }
  }
});

test("without crypto.subtle, as on plain-http pages, it is the same", async (t) => {
  const bytes = bytesOf(5 * 1024 * 1024);
  assert.equal(hex(await digestOf(new Blob([bytes]))), wanted(bytes));
  t.mock.getter(globalThis.crypto, "subtle", () => undefined);
  assert.equal(hex(await digestOf(new Blob([bytes]))), wanted(bytes));
});

/** A worker that answers as the real one does, or fails. */
class FakeWorker {
  asked = [];
  terminated = false;

  constructor(works) {
    this.works = works;
  }

  async postMessage({ number, blob }) {
    this.asked.push(blob.size);
    if (!this.works) return this.onerror();
    return this.onmessage({ data: { number, digest: await digestOf(blob) } });
  }

  terminate() {
    this.terminated = true;
  }
}

test("the worker is asked, one for all blobs", async () => {
  const workers = [];
  const makeWorker = () => workers[workers.push(new FakeWorker(true)) - 1];
  const hasher = new Hasher({ makeWorker });
  const digests = await Promise.all([1, 2, 3].map((n) => hasher.digest(new Blob(["x".repeat(n)]))));
  assert.deepEqual(digests.map(hex), ["x", "xx", "xxx"].map(wanted));
  assert.deepEqual(workers[0].asked, [1, 2, 3]);
  assert.equal(workers.length, 1);
  hasher.close();
  assert.equal(workers[0].terminated, true);
});

test("where a worker does not come up the page does it itself", async () => {
  const hasher = new Hasher({ makeWorker: () => new FakeWorker(false) });
  assert.equal(hex(await hasher.digest(new Blob(["a"]))), wanted("a"));
  const without = new Hasher({ makeWorker: () => null });
  assert.equal(hex(await without.digest(new Blob(["b"]))), wanted("b"));
});

test("a blob that cannot be read is an error", async () => {
  const hasher = new Hasher({ makeWorker: () => null });
  const broken = { size: 1, arrayBuffer: () => Promise.reject(new Error("NotReadable")) };
  await assert.rejects(hasher.digest(broken), /NotReadable/);
});
