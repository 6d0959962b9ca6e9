import assert from "node:assert/strict";
import { test } from "node:test";

import { Speedometer } from "../../resumable_uploads/static/resumable_uploads/progress.js";

function speedometer() {
  const clock = { now: 0 };
  const meter = new Speedometer({ now: () => clock.now });
  const run = (seconds, bytesPerSecond) => {
    for (let i = 0; i < seconds * 10; i += 1) {
      clock.now += 100;
      meter.add(bytesPerSecond / 10);
    }
  };
  return { clock, meter, run };
}

const near = (value, wanted) => assert.ok(Math.abs(value - wanted) < wanted / 10, value);

test("nothing is known at first", () => {
  const { meter, clock } = speedometer();
  assert.equal(meter.rate, 0);
  assert.equal(meter.timeFor(100), null);
  meter.add(1000);
  clock.now += 100;
  assert.equal(meter.rate, 0);
});

test("the speed is what moved in the last seconds", () => {
  const { meter, run } = speedometer();
  run(20, 1000);
  near(meter.rate, 1000);
  run(12, 5000);
  near(meter.rate, 5000);
});

test("the time left follows from the speed", () => {
  const { meter, run } = speedometer();
  run(5, 1000);
  near(meter.timeFor(30_000), 30);
});

test("when nothing moves any more the speed falls to nothing", () => {
  const { meter, run, clock } = speedometer();
  run(5, 1000);
  clock.now += 5000;
  assert.ok(meter.rate < 600);
  clock.now += 60_000;
  assert.ok(meter.rate < 20);
});

test("a pause does not count", () => {
  const { meter, run, clock } = speedometer();
  run(5, 1000);
  meter.reset();
  clock.now += 60_000;
  assert.equal(meter.rate, 0);
  run(5, 1000);
  near(meter.rate, 1000);
});
