import assert from "node:assert/strict";
import { test } from "node:test";

import { ChunkPlan } from "../../resumable_uploads/static/resumable_uploads/chunks.js";

const plan = (size, chunkSize, missing) => new ChunkPlan({ size, chunkSize, missing });

test("what is not missing is confirmed", () => {
  assert.equal(plan(25, 10, [[0, 2]]).confirmed, 0);
  assert.equal(plan(25, 10, [[1, 1]]).confirmed, 15);
  assert.equal(plan(25, 10, [[2, 2]]).confirmed, 20);
  assert.equal(plan(25, 10, []).confirmed, 25);
});

test("chunks are taken in order, each once", () => {
  const some = plan(45, 10, [[0, 0], [2, 4]]);
  assert.deepEqual([some.take(), some.take(), some.take()], [0, 2, 3]);
  assert.equal(some.take(), 4);
  assert.equal(some.take(), null);
});

test("a chunk given back is the next one again", () => {
  const some = plan(40, 10, [[0, 3]]);
  some.take();
  const second = some.take();
  some.take();
  some.giveBack(second);
  assert.equal(some.take(), 1);
  assert.equal(some.take(), 3);
});

test("giving back what has arrived changes nothing", () => {
  const some = plan(20, 10, [[0, 1]]);
  const first = some.take();
  some.done(first);
  some.giveBack(first);
  assert.equal(some.take(), 1);
  assert.equal(some.confirmed, 10);
});

test("it is finished when nothing waits and nothing is under way", () => {
  const some = plan(5, 10, [[0, 0]]);
  assert.equal(some.finished, false);
  const only = some.take();
  assert.equal(some.finished, false);
  some.done(only);
  assert.equal(some.finished, true);
  assert.equal(some.confirmed, 5);
});

test("the last chunk is the rest", () => {
  const some = plan(25, 10, [[0, 2]]);
  assert.deepEqual(some.rangeOf(1), [10, 20]);
  assert.deepEqual(some.rangeOf(2), [20, 25]);
  assert.equal(plan(20, 10, [[0, 1]]).sizeOf(1), 10);
});

test("an empty file has nothing to send", () => {
  const empty = plan(0, 10, []);
  assert.equal(empty.finished, true);
  assert.equal(empty.take(), null);
});
