import assert from "node:assert/strict";
import { test } from "node:test";

import { Lanes } from "../../resumable_uploads/static/resumable_uploads/lanes.js";

const settled = () => new Promise((resolve) => setImmediate(resolve));

/** Ask for lanes, and note who gets one, in order. */
function asking(lanes) {
  const entered = [];
  const leave = new Map();
  const ask = (order, name = order, signal = undefined) =>
    lanes.take(order, signal).then((end) => {
      entered.push(name);
      leave.set(name, end);
    });
  return { ask, entered, leave };
}

test("no more get in than there are lanes", async () => {
  const { ask, entered, leave } = asking(new Lanes(2));
  for (const order of [1, 2, 3, 4]) ask(order);
  await settled();
  assert.deepEqual(entered, [1, 2]);
  leave.get(2)();
  await settled();
  assert.deepEqual(entered, [1, 2, 3]);
});

test("the lowest order is next, then who came first", async () => {
  const { ask, entered, leave } = asking(new Lanes(1));
  ask(5, "first");
  ask(9, "late");
  ask(7, "seven");
  ask(7, "seven too");
  await settled();
  for (const name of ["first", "seven", "seven too"]) {
    leave.get(name)();
    await settled();
  }
  assert.deepEqual(entered, ["first", "seven", "seven too", "late"]);
});

test("leaving twice frees one lane only", async () => {
  const { ask, entered, leave } = asking(new Lanes(1));
  ask(1);
  await settled();
  leave.get(1)();
  leave.get(1)();
  ask(2);
  ask(3);
  await settled();
  assert.deepEqual(entered, [1, 2]);
});

test("who is called off while waiting takes no lane", async () => {
  const lanes = new Lanes(1);
  const { ask, entered, leave } = asking(lanes);
  ask(1);
  const called = new AbortController();
  const waiting = ask(2, 2, called.signal);
  ask(3);
  await settled();
  called.abort(new Error("not any more"));
  await assert.rejects(waiting, /not any more/);
  leave.get(1)();
  await settled();
  assert.deepEqual(entered, [1, 3]);
  await assert.rejects(lanes.take(1, called.signal), /not any more/);
});
