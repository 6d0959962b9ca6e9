import assert from "node:assert/strict";
import { test } from "node:test";

import { XhrTransport } from "../../resumable_uploads/static/resumable_uploads/transport.js";

/** An XMLHttpRequest whose life the test plays. */
class FakeXhr {
  upload = {};
  headers = {};
  responseURL = "";
  responseText = "";
  aborted = false;

  open(method, url) {
    Object.assign(this, { method, url });
  }

  setRequestHeader(name, value) {
    this.headers[name] = value;
  }

  send(body) {
    this.body = body;
  }

  abort() {
    this.aborted = true;
    this.onabort?.();
  }

  getResponseHeader(name) {
    return name === "X-Test" ? "yes" : null;
  }

  finish(status, text = "") {
    Object.assign(this, { status, responseText: text });
    this.onload();
  }
}

function sending(t, request = {}, options = {}) {
  t.mock.timers.enable({ apis: ["setTimeout"] });
  const xhr = new FakeXhr();
  const transport = new XhrTransport({ create: () => xhr, ...options });
  const body = new Blob(["hello"]);
  const answer = transport.send({ method: "PUT", url: "http://x/c", body, ...request });
  answer.catch(() => {});
  return { xhr, answer, pass: (seconds) => t.mock.timers.tick(1000 * seconds) };
}

test("an answer of any status is an answer", async (t) => {
  const { xhr, answer } = sending(t, { headers: { "X-A": "1" } });
  assert.deepEqual(xhr.headers, { "X-A": "1" });
  xhr.finish(409, "{}");
  const { status, text, header, redirected } = await answer;
  assert.deepEqual([status, text, header("X-Test"), redirected], [409, "{}", "yes", false]);
});

test("it tells how many bytes have left", (t) => {
  const told = [];
  const { xhr } = sending(t, { onProgress: (loaded) => told.push(loaded) });
  xhr.upload.onprogress({ loaded: 3 });
  xhr.upload.onprogress({ loaded: 5 });
  assert.deepEqual(told, [3, 5]);
});

test("a line on which nothing moves is given up", async (t) => {
  const { xhr, answer, pass } = sending(t, {}, { stallTimeout: 30 });
  pass(29);
  xhr.upload.onprogress({ loaded: 1 });
  pass(29);
  assert.equal(xhr.aborted, false);
  pass(1);
  assert.equal(xhr.aborted, true);
  await assert.rejects(answer, { code: "stalled" });
});

test("when all bytes have left the server gets more time to answer", async (t) => {
  const { xhr, answer, pass } = sending(t, {}, { stallTimeout: 30, answerTimeout: 100 });
  xhr.upload.onload();
  pass(99);
  assert.equal(xhr.aborted, false);
  pass(1);
  await assert.rejects(answer, { code: "stalled" });
});

test("a request without a body has the time of an answer from the start", async (t) => {
  const options = { stallTimeout: 30, answerTimeout: 100 };
  const { xhr, answer, pass } = sending(t, { method: "GET", body: null }, options);
  assert.deepEqual(xhr.upload, {});
  pass(99);
  assert.equal(xhr.aborted, false);
  pass(1);
  await assert.rejects(answer, { code: "stalled" });
});

test("no answer is a failure of the network", async (t) => {
  const { xhr, answer } = sending(t);
  xhr.onerror();
  await assert.rejects(answer, { code: "network", status: 0 });
});

test("a request can be called off, before and while it is sent", async (t) => {
  const controller = new AbortController();
  const { xhr, answer } = sending(t, { signal: controller.signal });
  controller.abort(new Error("paused"));
  await assert.rejects(answer, /paused/);
  assert.equal(xhr.aborted, true);
  const transport = new XhrTransport({ create: () => assert.fail("nothing is sent") });
  const request = { method: "GET", url: "/", signal: controller.signal };
  await assert.rejects(transport.send(request), /paused/);
});

test("after the answer the watchdog sleeps", async (t) => {
  const { xhr, answer, pass } = sending(t);
  xhr.finish(200);
  await answer;
  pass(1000);
  assert.equal(xhr.aborted, false);
});

test("an answer from elsewhere is marked", async (t) => {
  const { xhr, answer } = sending(t);
  xhr.responseURL = "http://x/login?next=/c";
  xhr.finish(200, "<html>");
  assert.equal((await answer).redirected, true);
});
