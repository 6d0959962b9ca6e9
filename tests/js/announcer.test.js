import assert from "node:assert/strict";
import { test } from "node:test";

import {
  Announcer,
  Steps,
} from "../../resumable_uploads/static/resumable_uploads/announcer.js";

test("each step of 25 percent is told once", () => {
  const steps = new Steps();
  const told = [0, 0.1, 0.26, 0.3, 0.49, 0.5, 0.74, 0.9, 1, 1].map((f) => steps.reach(f));
  assert.deepEqual(told, [null, null, 25, null, null, 50, null, 75, 100, null]);
});

test("steps that were jumped over are not told one by one", () => {
  assert.equal(new Steps().reach(0.8), 75);
});

test("when files are added the steps come again", () => {
  const steps = new Steps();
  assert.equal(steps.reach(0.8), 75);
  assert.equal(steps.reach(0.4), null);
  assert.equal(steps.reach(0.5), 50);
});

function speaking(t) {
  t.mock.timers.enable({ apis: ["setTimeout"] });
  const said = [];
  const region = {
    set textContent(sentence) {
      said.push(sentence);
    },
  };
  return { announcer: new Announcer(region), said, pass: (ms) => t.mock.timers.tick(ms) };
}

test("sentences come one after another, with time to be heard", (t) => {
  const { announcer, said, pass } = speaking(t);
  announcer.say("one");
  announcer.say("two");
  assert.deepEqual(said, ["one"]);
  pass(900);
  assert.deepEqual(said, ["one", "two"]);
  pass(900);
  announcer.say("three");
  assert.deepEqual(said, ["one", "two", "three"]);
});

test("of very many only the last are said", (t) => {
  const { announcer, said, pass } = speaking(t);
  for (let number = 0; number < 100; number += 1) announcer.say(`file ${number}`);
  for (let turn = 0; turn < 10; turn += 1) pass(900);
  assert.deepEqual(said, ["file 0", "file 97", "file 98", "file 99"]);
});

test("without a live region nothing breaks", (t) => {
  t.mock.timers.enable({ apis: ["setTimeout"] });
  new Announcer(null).say("nobody listens");
});
