import assert from "node:assert/strict";
import { createHash } from "node:crypto";
import { test } from "node:test";

import { UploadError } from "../../resumable_uploads/static/resumable_uploads/failures.js";
import { Tabs } from "../../resumable_uploads/static/resumable_uploads/tabs.js";
import { State } from "../../resumable_uploads/static/resumable_uploads/uploader.js";
import { file, hurried, make, reached, until } from "./making.js";
import { cutOff, FakeServer, FakeStorage } from "./server.js";

const CHUNK = /PUT .*\/chunks\//;
const DELETE = /DELETE/;
const sha256 = (text) => createHash("sha256").update(text).digest("hex");

/** Begin an upload, and leave it in the middle. */
async function abandoned(options = {}) {
  const content = "0123456789".repeat(10);
  const storage = new FakeStorage();
  const { uploader, server } = make({ parallel: 1, storage, ...options });
  const [upload] = uploader.add([file(content)]);
  await until(() => server.count(CHUNK) >= 5);
  uploader.pause();
  await new Promise((resolve) => setTimeout(resolve, 10));
  return { server, storage, content, upload };
}

// Chunks.

test("the chunk size may be a function of the file", async () => {
  const chunkSize = (chosen, limits) => (chosen.name === "a.txt" ? limits.chunk_size / 2 : 25);
  const { uploader, server } = make({ chunkSize, limits: { chunk_size: 10 } });
  const [upload] = uploader.add([file()]);
  await reached(upload, State.COMPLETE);
  assert.equal(upload.server.chunk_size, 5);
  assert.equal(server.count(CHUNK), 5);
});

test("on a good line the next file has larger chunks", async () => {
  const KIB = 1024;
  const limits = { chunk_size: 256 * KIB, max_chunk_size: 1024 * KIB };
  const { uploader } = make({ limits }, new FakeServer({ chunkSize: 256 * KIB }));
  const big = (name) => file("x".repeat(3000 * KIB), name);
  const [first] = uploader.add([big("1")]);
  await reached(first, State.COMPLETE);
  const [second] = uploader.add([big("2")]);
  await reached(second, State.COMPLETE);
  assert.deepEqual([first.server.chunk_size, second.server.chunk_size], [256 * KIB, 1024 * KIB]);
});

test("where chunks do not get through at all they become smaller", async (t) => {
  hurried(t);
  const { uploader, server } = make({}, new FakeServer({ chunkSize: 1024 * 1024 }));
  server.fail(({ body }) => (body?.size > 300_000 ? cutOff() : undefined));
  const [upload] = uploader.add([file("x".repeat(1_500_000))]);
  await reached(upload, State.COMPLETE);
  assert.equal(upload.server.chunk_size, 256 * 1024);
  assert.equal(server.uploads.size, 1);
});

test("first the first and the last chunk, if wanted", async () => {
  const { uploader, server } = make({ parallel: 1, endsFirst: true });
  server.fail(({ url }) => (/chunks\/2\//.test(url) ? cutOff() : undefined), { times: 1 });
  const [upload] = uploader.add([file()]);
  await reached(upload, State.COMPLETE);
  const numbers = server.log.filter((line) => CHUNK.test(line)).map((line) => line.at(-2));
  assert.deepEqual(numbers, ["0", "2", "2", "1"]);
});

// Checksums.

test("the checksum of the whole file goes along, if wanted", async () => {
  const { uploader, server } = make({ checksum: true });
  const [upload] = uploader.add([file("hello")]);
  await reached(upload, State.COMPLETE);
  const [opened] = server.uploads.values();
  assert.equal(opened.checksum, `sha-256:${sha256("hello")}`);
});

test("it is computed once: the browser remembers it", async () => {
  let asked = 0;
  const hasher = {
    digest: async () => new Uint8Array(32).fill((asked += 1)),
    close: () => {},
  };
  const { server, storage, content } = await abandoned({ checksum: true, hasher });
  const { uploader } = make({ storage, checksum: true, hasher }, server);
  const [upload] = uploader.add([file(content)]);
  await reached(upload, State.COMPLETE);
  assert.equal(asked, 1);
});

// Identity and what is remembered.

test("custom keys tell equal files apart", async () => {
  let album = "summer";
  const { uploader } = make({ customKeys: () => [album] });
  const [one] = uploader.add([file()]);
  await reached(one, State.COMPLETE);
  album = "winter";
  const [two] = uploader.add([file()]);
  await reached(two, State.COMPLETE);
  assert.notEqual(one.key, two.key);
});

test("what the page keeps with a file is there after a reload", async () => {
  const { server, storage, content, upload } = await abandoned();
  upload.setCustomResumeData({ album: 7 });
  const { uploader } = make({ storage }, server);
  assert.deepEqual(uploader.getResumableFiles()[0].custom, { album: 7 });
  assert.deepEqual((await uploader.unfinished())[0].custom, { album: 7 });
  const [again] = uploader.add([file(content)]);
  await reached(again, State.COMPLETE);
  assert.deepEqual(again.customResumeData, { album: 7 });
});

test("a checkpoint goes on in another browser, with a copy of the file", async () => {
  const { server, content, upload } = await abandoned();
  upload.setCustomResumeData("mine");
  const checkpoint = JSON.parse(JSON.stringify(await upload.checkpoint()));
  const before = server.bytes;
  const { uploader, names } = make({}, server);
  const copy = file(content, "copy of a.txt", { lastModified: 99 });
  const again = await uploader.resumeFrom(checkpoint, copy);
  await reached(again, State.COMPLETE);
  assert.ok(server.bytes - before <= 60);
  assert.equal(server.uploads.size, 1);
  assert.equal(server.content, content);
  assert.equal(again.customResumeData, "mine");
  assert.ok(names().includes("resumed"));
});

test("a checkpoint takes no other file", async () => {
  const { server, content, upload } = await abandoned();
  const checkpoint = await upload.checkpoint();
  const { uploader } = make({}, server);
  for (const other of [content.replace("0", "1"), `${content}!`]) {
    const refused = uploader.resumeFrom(checkpoint, file(other));
    await assert.rejects(refused, (problem) => problem.code === "other_file");
  }
  assert.deepEqual(uploader.uploads, []);
});

test("the checkpoint of an upload that is gone begins anew", async () => {
  const { server, content, upload } = await abandoned();
  const checkpoint = await upload.checkpoint();
  server.uploads.clear();
  const { uploader } = make({}, server);
  const again = await uploader.resumeFrom(checkpoint, file(content));
  await reached(again, State.COMPLETE);
  assert.equal(server.content, content);
});

test("there is no checkpoint before the server knows, and none afterwards", async () => {
  const { uploader } = make({ autoStart: false });
  const [upload] = uploader.add([file()]);
  assert.equal(await upload.checkpoint(), null);
  uploader.start();
  await reached(upload, State.COMPLETE);
  assert.equal(await upload.checkpoint(), null);
});

// What is complete.

test("a complete file can be deleted again", async () => {
  const { uploader, server, names } = make();
  const [upload] = uploader.add([file()]);
  assert.equal(await upload.delete(), false);
  await reached(upload, State.COMPLETE);
  assert.equal(await upload.delete(), true);
  assert.equal(server.uploads.size, 0);
  assert.equal(upload.state, State.CANCELLED);
  assert.ok(names().includes("deleted"));
});

test("the list can begin with what is on the server already", async () => {
  const { uploader: earlier, server } = make();
  const [done] = earlier.add([file()]);
  await reached(done, State.COMPLETE);
  const { uploader } = make({ initial: [done.server] }, server);
  const [upload] = uploader.uploads;
  const { name, size, sent, state } = upload;
  assert.deepEqual([name, size, sent, state], ["a.txt", 25, 25, State.COMPLETE]);
  assert.deepEqual(await uploader.addComplete(), []);
  await upload.delete();
  assert.equal(server.uploads.size, 0);
  const { uploader: third } = make({}, earlier.transport);
  assert.equal((await third.addComplete()).length, 0);
});

// Per file.

test("endpoint, policy, headers and metadata may be functions of the file", async () => {
  const seen = [];
  const { uploader, server } = make({
    endpoint: (chosen) => `/uploads/?to=${chosen?.type ?? ""}`,
    policy: (chosen) => (chosen.type.startsWith("image/") ? "images" : "other"),
    headers: ({ method, upload }) => {
      seen.push([method, upload?.name]);
      return {};
    },
    metadata: (chosen) => ({ kind: chosen.type }),
  });
  const [upload] = uploader.add([file("x", "a.png", { type: "image/png" })]);
  await reached(upload, State.COMPLETE);
  const [opened] = server.uploads.values();
  assert.equal(opened.policy, "images");
  assert.deepEqual(opened.metadata, { kind: "image/png" });
  assert.equal(server.log[0], "POST /uploads/?to=image/png");
  assert.ok(seen.length >= 2 && seen.every(([, name]) => name === "a.png"));
});

test("a file can be given another name before it is sent", async () => {
  const { uploader, server } = make({ autoStart: false });
  const [upload] = uploader.add([file()]);
  assert.equal(upload.rename(" "), false);
  assert.equal(upload.rename("better.txt"), true);
  uploader.start();
  await reached(upload, State.COMPLETE);
  assert.equal([...server.uploads.values()][0].filename, "better.txt");
  assert.equal(upload.rename("late.txt"), false);
});

test("blobs are files too, as those of a canvas", async () => {
  const { uploader, server } = make();
  const blob = new Blob(["drawn"], { type: "image/png" });
  const [upload] = uploader.add([{ file: blob, name: "drawing.png" }]);
  await reached(upload, State.COMPLETE);
  const [opened] = server.uploads.values();
  assert.deepEqual([opened.filename, opened.content_type], ["drawing.png", "image/png"]);
});

test("empty and tiny files may be refused", () => {
  const { uploader, events } = make({ emptyFiles: false, minSize: 10 });
  uploader.add([file(""), file("x")]);
  assert.deepEqual(events.map(([, { code }]) => code), ["empty", "too_small"]);
});

// Hooks.

test("what is sent may be made from the file first", async () => {
  const preprocess = async (chosen) => new Blob([(await chosen.text()).toUpperCase().slice(0, 12)]);
  const { uploader, server } = make({ preprocess });
  const [upload] = uploader.add([file()]);
  await reached(upload, State.COMPLETE);
  assert.equal(server.content, "0123456789AB");
  assert.equal(upload.size, 12);
  const [opened] = server.uploads.values();
  assert.deepEqual([opened.filename, opened.size], ["a.txt", 12]);
});

test("what cannot be made is an error, and said", async () => {
  const preprocess = () => Promise.reject(new Error("No codec."));
  const { uploader, server } = make({ preprocess });
  const [upload] = uploader.add([file()]);
  await reached(upload, State.FAILED);
  assert.equal(upload.error.detail, "No codec.");
  assert.equal(server.log.length, 0);
});

test("the page may say no before a file is sent, now or later", async () => {
  const later = (answer) => new Promise((resolve) => setTimeout(() => resolve(answer), 5));
  for (const onSubmit of [() => false, () => later(false)]) {
    const { uploader, server } = make({ onSubmit });
    const [upload] = uploader.add([file()]);
    await reached(upload, State.CANCELLED);
    assert.equal(server.log.length, 0);
  }
  const { uploader } = make({ onSubmit: () => later(true) });
  uploader.addEventListener("submit", (event) => {
    if (event.detail.upload.name === "b") event.preventDefault();
    else event.detail.waitUntil(later(event.detail.upload.name !== "c"));
  });
  const [a, b, c] = uploader.add([file("x", "a"), file("x", "b"), file("x", "c")]);
  await reached(a, State.COMPLETE);
  await reached(b, State.CANCELLED);
  await reached(c, State.CANCELLED);
});

test("and before one is cancelled or deleted", async () => {
  let answer = false;
  const hooks = { onCancel: () => answer, onDelete: async () => answer };
  const { uploader, server } = make({ parallel: 1, ...hooks });
  const [upload] = uploader.add([file("x".repeat(100))]);
  await until(() => server.count(CHUNK) >= 1);
  await upload.cancel();
  assert.equal(upload.running, true);
  await reached(upload, State.COMPLETE);
  assert.equal(await upload.delete(), false);
  assert.equal(server.count(DELETE), 0);
  answer = true;
  assert.equal(await upload.delete(), true);
});

// Tabs.

/** The Web Locks of one browser, for tabs that are objects here. */
function browser() {
  const queues = new Map();
  const locks = {
    async request(name, { ifAvailable, signal }, use) {
      const queue = queues.get(name) ?? [];
      queues.set(name, queue);
      if (ifAvailable && queue.length > 0) return use(null);
      const before = queue.at(-1);
      let free = () => {};
      const mine = new Promise((resolve) => (free = resolve));
      queue.push(mine);
      try {
        await before;
        signal?.throwIfAborted();
        return await use({});
      } finally {
        queue.splice(queue.indexOf(mine), 1);
        free();
      }
    },
    async query() {
      const names = [...queues.keys()].filter((name) => queues.get(name).length > 0);
      return { held: names.map((name) => ({ name })) };
    },
  };
  return () => new Tabs({ locks });
}

test("two tabs do not send the same file twice", async () => {
  const tab = browser();
  const { uploader, server } = make({ parallel: 1, tabs: tab() });
  const { uploader: other } = make({ tabs: tab() }, server);
  const [here] = uploader.add([file("x".repeat(100))]);
  await until(() => server.count(CHUNK) >= 1);
  const [there] = other.add([file("x".repeat(100))]);
  await reached(there, State.WAITING);
  assert.equal(there.error.code, "other_tab");
  await reached(here, State.COMPLETE);
  await reached(there, State.COMPLETE);
  assert.equal(server.bytes, 100);
  assert.equal(server.uploads.size, 1);
});

test("when the first tab stops the second one goes on", async () => {
  const tab = browser();
  const { uploader, server } = make({ parallel: 1, tabs: tab() });
  const { uploader: other, names } = make({ tabs: tab() }, server);
  const [here] = uploader.add([file("x".repeat(200))]);
  await until(() => server.count(CHUNK) >= 5);
  const [there] = other.add([file("x".repeat(200))]);
  await reached(there, State.WAITING);
  here.pause();
  await reached(there, State.COMPLETE);
  assert.ok(names().includes("resumed"));
  assert.equal(server.uploads.size, 1);
  here.resume();
  await reached(here, State.COMPLETE);
});

test("a file that waits for another tab can be cancelled, and harms nobody", async () => {
  const tab = browser();
  const { uploader, server } = make({ parallel: 1, tabs: tab() });
  const { uploader: other } = make({ tabs: tab() }, server);
  const [here] = uploader.add([file("x".repeat(200))]);
  await until(() => server.count(CHUNK) >= 1);
  const [there] = other.add([file("x".repeat(200))]);
  await reached(there, State.WAITING);
  there.cancel();
  await reached(here, State.COMPLETE);
  assert.equal(server.count(DELETE), 0);
});

test("where a file is, is told before it is given back, and soon no more", async (t) => {
  t.mock.timers.enable({ apis: ["setTimeout"] });
  const tab = browser();
  const [one, other, third] = [tab(), tab(), tab()];
  const leave = await one.take("key");
  const waiting = other.wait("key", new AbortController().signal);
  one.tell("key", "/uploads/1/");
  leave();
  const { leave: leaveToo, url } = await waiting;
  assert.equal(url, "/uploads/1/");
  leaveToo();
  t.mock.timers.tick(60_000);
  assert.equal((await third.wait("key", new AbortController().signal)).url, null);
});

test("a tab that waits is told of its own file only", async () => {
  const tab = browser();
  const [one, other] = [tab(), tab()];
  one.tell("key", "/uploads/1/");
  assert.equal((await other.wait("ke", new AbortController().signal)).url, null);
  assert.equal((await other.wait("key", new AbortController().signal)).url, "/uploads/1/");
});

test("where locks are missing or forbidden every tab sends", async () => {
  const refuse = () => Promise.reject(new DOMException("No", "SecurityError"));
  const forbidden = { request: refuse, query: refuse };
  for (const locks of [null, forbidden]) {
    const { uploader } = make({ tabs: new Tabs({ locks }) });
    const [upload] = uploader.add([file()]);
    await reached(upload, State.COMPLETE);
  }
});

test("a problem of the page's own code does not hang", async () => {
  const { uploader } = make({
    onSubmit: () => {
      throw new UploadError("custom", "Not today.");
    },
  });
  const [upload] = uploader.add([file()]);
  await reached(upload, State.FAILED);
  assert.equal(upload.error.detail, "Not today.");
});
