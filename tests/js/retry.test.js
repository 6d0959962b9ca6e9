import assert from "node:assert/strict";
import { mock, test } from "node:test";

import { UploadError } from "../../resumable_uploads/static/resumable_uploads/failures.js";
import { isOutage } from "../../resumable_uploads/static/resumable_uploads/protocol.js";
import {
  delayAfter,
  Line,
  retryAfterSeconds,
} from "../../resumable_uploads/static/resumable_uploads/retry.js";
import { FakeNetwork } from "./server.js";

const settled = () => new Promise((resolve) => setImmediate(resolve));

test("delays double up to a cap, and half of each is chance", () => {
  const longest = { random: () => 1 };
  const shortest = { random: () => 0 };
  assert.deepEqual(
    [1, 2, 3, 4, 5, 6, 60].map((n) => delayAfter(n, longest)),
    [1000, 2000, 4000, 8000, 16_000, 30_000, 30_000],
  );
  assert.deepEqual([1, 2, 60].map((n) => delayAfter(n, shortest)), [500, 1000, 15_000]);
});

test("the server's Retry-After is never undercut", () => {
  assert.equal(delayAfter(1, { retryAfter: 7, random: () => 0 }), 7000);
  assert.equal(delayAfter(1, { retryAfter: 7, random: () => 1 }), 8000);
});

test("Retry-After is seconds or a date", () => {
  const now = Date.parse("Wed, 21 Oct 2026 07:28:00 GMT");
  assert.equal(retryAfterSeconds("12"), 12);
  assert.equal(retryAfterSeconds("Wed, 21 Oct 2026 07:28:30 GMT", now), 30);
  assert.equal(retryAfterSeconds("Wed, 21 Oct 2026 07:27:00 GMT", now), 0);
  assert.equal(retryAfterSeconds("86400"), 3600);
  for (const nothing of [null, "", "soon"]) {
    assert.equal(retryAfterSeconds(nothing), null);
  }
});

/** A line with a clock that stands still until it is told, and delays without chance. */
function brokenLine(t, network = new FakeNetwork()) {
  t.mock.timers.enable({ apis: ["setTimeout", "Date"] });
  const line = new Line({ network, isOutage, random: () => 1 });
  const tries = [];
  const pass = async (seconds) => {
    t.mock.timers.tick(1000 * seconds);
    await settled();
  };
  const request = (name, problem) => {
    const sent = line.use(async () => {
      tries.push(name);
      await settled();
      if (problem) throw problem;
    });
    return sent.catch(() => {});
  };
  return { line, tries, pass, request, network };
}

const network = () => new UploadError("network");

test("after a failure one request at a time tries the line, later and later", async (t) => {
  const { tries, pass, request, line } = brokenLine(t);
  await request("first", network());
  assert.equal(line.troubled, true);
  request("second", network());
  request("third", network());
  await pass(0.9);
  assert.deepEqual(tries, ["first"]);
  await pass(0.1);
  assert.deepEqual(tries, ["first", "second"]);
  await settled();
  await pass(1.9);
  assert.deepEqual(tries, ["first", "second"]);
  await pass(0.2);
  assert.deepEqual(tries, ["first", "second", "third"]);
});

test("when one gets through all others follow", async (t) => {
  const { tries, pass, request, line } = brokenLine(t);
  await request("bad", network());
  const rest = [request("a"), request("b"), request("c")];
  await pass(1);
  await Promise.all(rest);
  assert.deepEqual(tries, ["bad", "a", "b", "c"]);
  assert.equal(line.troubled, false);
});

test("requests that fail together are one failure", async (t) => {
  const { line, request } = brokenLine(t);
  await Promise.all([1, 2, 3].map((name) => request(name, network())));
  assert.equal(line.nextTry - Date.now(), 1000);
});

test("an answer that refuses something is no trouble of the line", async (t) => {
  const { line, request } = brokenLine(t);
  await request("refused", new UploadError("too_large", "", { status: 413 }));
  assert.equal(line.troubled, false);
  await request("bug", new UploadError("http_500", "", { status: 500 }));
  assert.equal(line.troubled, false);
  await request("deploy", new UploadError("http_503", "", { status: 503 }));
  assert.equal(line.troubled, true);
});

test("a Retry-After holds everybody back", async (t) => {
  const { tries, pass, request } = brokenLine(t);
  const busy = new UploadError("throttled", "", { status: 429, retryAfter: 20 });
  await request("busy", busy);
  request("next");
  await pass(19.9);
  assert.deepEqual(tries, ["busy"]);
  await pass(1.2);
  assert.deepEqual(tries, ["busy", "next"]);
});

test("without a network it waits for one, and goes on at once when it is there", async (t) => {
  const { tries, pass, request, network: net } = brokenLine(t);
  await request("first", network());
  net.onLine = false;
  request("second");
  await pass(20);
  assert.deepEqual(tries, ["first"]);
  net.come();
  await settled();
  await settled();
  assert.deepEqual(tries, ["first", "second"]);
});

test("a browser that wrongly says offline is not believed for ever", async (t) => {
  const { tries, pass, request, network: net } = brokenLine(t);
  net.onLine = false;
  await request("works all the same");
  assert.deepEqual(tries, ["works all the same"]);
  await request("fails", network());
  request("probe");
  await pass(30);
  assert.equal(tries.at(-1), "probe");
});

test("somebody who waits can be called off, and the next one tries instead", async (t) => {
  const { line, tries, pass, request } = brokenLine(t);
  await request("bad", network());
  const called = new AbortController();
  const waiting = line.use(async () => tries.push("never"), called.signal);
  request("next");
  called.abort(new Error("paused"));
  await assert.rejects(waiting, /paused/);
  await pass(1);
  assert.deepEqual(tries, ["bad", "next"]);
});

test("people can ask for the next try at once", async (t) => {
  const { line, tries, request } = brokenLine(t);
  await request("bad", network());
  const next = request("next");
  await settled();
  line.tryNow();
  await next;
  assert.deepEqual(tries, ["bad", "next"]);
  mock.reset();
});
