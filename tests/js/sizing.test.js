import assert from "node:assert/strict";
import { test } from "node:test";

import { Sizing } from "../../resumable_uploads/static/resumable_uploads/sizing.js";

const MIB = 1024 * 1024;
const LIMITS = { chunk_size: 8 * MIB, max_chunk_size: 256 * MIB, max_chunks: 10_000 };
const film = { size: 2048 * MIB };

/** A line on which chunks of 8 MiB take so many seconds. */
function measured(seconds, options) {
  const sizing = new Sizing(options);
  for (let n = 0; n < 5; n += 1) sizing.note(8 * MIB, 1000 * seconds);
  return sizing;
}

test("before anything is known the server chooses", () => {
  assert.equal(new Sizing().sizeFor(film, LIMITS), null);
});

test("on a good line chunks grow, up to 64 MiB", () => {
  assert.equal(measured(1).sizeFor(film, LIMITS), 32 * MIB);
  assert.equal(measured(0.01).sizeFor(film, LIMITS), 64 * MIB);
});

test("on a bad line they shrink, and never below 256 KiB", () => {
  assert.equal(measured(60).sizeFor(film, LIMITS), 512 * 1024);
  assert.equal(measured(6000).sizeFor(film, LIMITS), 256 * 1024);
});

test("close to the server's choice that one is kept", () => {
  assert.equal(measured(4).sizeFor(film, LIMITS), null);
});

test("the server's geometry is kept to", () => {
  const small = { ...LIMITS, max_chunk_size: 10 * MIB };
  assert.equal(measured(0.01).sizeFor(film, small), 10 * MIB);
  const few = { ...LIMITS, max_chunks: 100 };
  assert.equal(measured(6000).sizeFor(film, few), Math.ceil(film.size / 100));
});

test("a wish wins, also one by a function of the file", () => {
  assert.equal(measured(1, { wish: 3 * MIB }).sizeFor(film, LIMITS), 3 * MIB);
  const wish = (file, limits) => Math.min(file.size / 1024, limits.chunk_size);
  assert.equal(new Sizing({ wish }).sizeFor(film, LIMITS), 2 * MIB);
  assert.equal(measured(1, { adapt: false }).sizeFor(film, LIMITS), null);
});

test("what was refused once is not tried again", () => {
  const sizing = measured(1);
  sizing.most = 4 * MIB;
  assert.equal(sizing.sizeFor(film, LIMITS), 4 * MIB);
  const fresh = new Sizing();
  fresh.most = 16 * MIB;
  assert.equal(fresh.sizeFor(film, LIMITS), null);
});
