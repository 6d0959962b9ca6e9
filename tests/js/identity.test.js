import assert from "node:assert/strict";
import { createHash } from "node:crypto";
import { test } from "node:test";

import {
  clientKey,
  samplesOf,
} from "../../resumable_uploads/static/resumable_uploads/identity.js";
import { sha256 } from "../../resumable_uploads/static/resumable_uploads/sha256.js";

const KIB = 1024;

function file(content = "hello", name = "a.txt", lastModified = 1) {
  return new File([content], name, { lastModified });
}

test("SHA-256 agrees with the platform's at every length around the blocks", () => {
  for (const length of [0, 1, 54, 55, 56, 63, 64, 65, 119, 120, 1000, 70_000]) {
    const bytes = Uint8Array.from({ length }, (_, i) => (i * 31 + length) % 256);
    assert.equal(sha256(bytes), createHash("sha256").update(bytes).digest("hex"));
  }
});

test("the same file has the same key", async () => {
  assert.equal(await clientKey(file()), await clientKey(file()));
  assert.match(await clientKey(file()), /^[0-9a-f]{64}$/);
});

test("name, size, time, folder, policy and bytes each make another file", async () => {
  const others = [
    clientKey(file("hello", "b.txt")),
    clientKey(file("hello!")),
    clientKey(file("hello", "a.txt", 2)),
    clientKey(file(), { relativePath: "photos/a.txt" }),
    clientKey(file(), { policy: "images" }),
    clientKey(file("jello")),
  ];
  const keys = await Promise.all([clientKey(file()), ...others]);
  assert.equal(new Set(keys).size, keys.length);
});

test("names that differ only outside Latin letters are different", async () => {
  const keys = await Promise.all([
    clientKey(file("x", "报告.txt")),
    clientKey(file("x", "写真.txt")),
  ]);
  assert.notEqual(keys[0], keys[1]);
});

test("a name has one key however its accents are composed", async () => {
  const composed = await clientKey(file("x", "caf\u00e9.txt"));
  assert.equal(await clientKey(file("x", "cafe\u0301.txt")), composed);
});

test("of a large file only samples are read, the first and last bytes among them", () => {
  const reads = [];
  const large = {
    size: 50 * 1024 ** 3,
    slice: (start, end) => reads.push([start, end]),
  };
  samplesOf(large);
  const bytes = reads.reduce((sum, [start, end]) => sum + end - start, 0);
  assert.equal(bytes, 256 * KIB);
  assert.equal(reads[0][0], 0);
  assert.equal(reads.at(-1)[1], large.size);
});

test("a change in the middle of a large file is noticed where it is sampled", async () => {
  const bytes = new Uint8Array(4 * 1024 * KIB);
  const before = await clientKey(file(bytes));
  const [start] = [Math.floor(7 * ((bytes.length - 16 * KIB) / 15))];
  bytes[start + 5] = 1;
  assert.notEqual(await clientKey(file(bytes)), before);
});
