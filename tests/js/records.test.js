import assert from "node:assert/strict";
import { test } from "node:test";

import { Records } from "../../resumable_uploads/static/resumable_uploads/records.js";
import { FakeStorage } from "./server.js";

const DAY = 24 * 60 * 60 * 1000;

function facts(key, more = {}) {
  const rest = { id: `id-${key}`, url: `/uploads/${key}/`, name: `${key}.bin` };
  return { key, ...rest, size: 5, relativePath: "", policy: "", received: 0, ...more };
}

function recordsAt(clock, options = {}) {
  const storage = options.storage ?? new FakeStorage();
  return new Records({ storage, now: () => clock.now, ...options });
}

test("what is saved is found again, the newest first", () => {
  const clock = { now: 1000 };
  const records = recordsAt(clock);
  records.save(facts("one"));
  clock.now += 1;
  records.save(facts("two", { received: 3 }));
  assert.deepEqual(records.list().map((record) => record.key), ["two", "one"]);
  assert.equal(records.get("two").received, 3);
  assert.equal(records.get("three"), null);
});

test("a record expires some days after it was last saved", () => {
  const clock = { now: 1000 };
  const storage = new FakeStorage();
  const records = recordsAt(clock, { storage, expireIn: 2 });
  records.save(facts("old"));
  clock.now += 1.5 * DAY;
  records.save(facts("old"));
  clock.now += 1.5 * DAY;
  assert.equal(records.list().length, 1);
  clock.now += DAY;
  assert.deepEqual(records.list(), []);
  assert.equal(storage.length, 0);
});

test("records last seven days where nothing else is said", () => {
  const clock = { now: 1000 };
  const records = recordsAt(clock);
  records.save(facts("a"));
  clock.now += 7 * DAY - 1;
  assert.notEqual(records.get("a"), null);
  clock.now += 1;
  assert.equal(records.get("a"), null);
});

test("a removed record is gone", () => {
  const records = recordsAt({ now: 1 });
  records.save(facts("a"));
  records.remove("a");
  assert.deepEqual(records.list(), []);
});

test("people who share a browser do not see each other's records", () => {
  const storage = new FakeStorage();
  const clock = { now: 1 };
  recordsAt(clock, { storage, scope: "ann" }).save(facts("a"));
  assert.deepEqual(recordsAt(clock, { storage, scope: "bob" }).list(), []);
  assert.equal(recordsAt(clock, { storage, scope: "ann" }).list().length, 1);
});

test("other entries of the storage are left alone, damaged ones are dropped", () => {
  const storage = new FakeStorage();
  storage.setItem("theme", "dark");
  storage.setItem("resumable-uploads::bad", "{");
  storage.setItem("resumable-uploads::null", "null");
  assert.deepEqual(recordsAt({ now: 1 }, { storage }).list(), []);
  assert.equal(storage.getItem("theme"), "dark");
  assert.equal(storage.length, 1);
});

test("a storage that throws, or is not there, is like an empty one", () => {
  const broken = {
    get length() {
      throw new Error("SecurityError");
    },
    key() {},
    getItem() {
      throw new Error("SecurityError");
    },
    setItem() {
      throw new Error("QuotaExceededError");
    },
    removeItem() {
      throw new Error("SecurityError");
    },
  };
  for (const storage of [broken, null]) {
    const records = new Records({ storage });
    records.save(facts("a"));
    records.remove("a");
    assert.equal(records.get("a"), null);
    assert.deepEqual(records.list(), []);
  }
});
