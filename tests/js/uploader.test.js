import assert from "node:assert/strict";
import { test } from "node:test";

import { UploadError } from "../../resumable_uploads/static/resumable_uploads/failures.js";
import { State } from "../../resumable_uploads/static/resumable_uploads/uploader.js";
import { file, hurried, make, reached, until } from "./making.js";
import { answer, cutOff, FakeServer, FakeStorage, refuse } from "./server.js";

const CHUNK = /PUT .*\/chunks\//;
const OPEN = /POST \/uploads\/$/;

test("a file arrives whole", async () => {
  const { uploader, server, events } = make();
  const [upload] = uploader.add([file()]);
  await reached(upload, State.COMPLETE);
  assert.equal(server.content, "0123456789abcdefghijklmno");
  assert.equal(server.bytes, 25);
  const [name, detail] = events.at(-1);
  assert.equal(name, "complete");
  assert.match(detail.file.url, /\/file\/$/);
  assert.equal(upload.sent, 25);
});

test("what the server is told of a file", async () => {
  const { uploader, server } = make({
    policy: "images",
    metadata: (chosen) => ({ camera: chosen.name }),
  });
  const photo = file("x", "β.png", { type: "image/png" });
  const [upload] = uploader.add([{ file: photo, relativePath: "trip/β.png" }]);
  await reached(upload, State.COMPLETE);
  const [opened] = server.uploads.values();
  assert.equal(opened.filename, "β.png");
  assert.equal(opened.content_type, "image/png");
  assert.equal(opened.relative_path, "trip");
  assert.equal(opened.policy, "images");
  assert.equal(opened.client_key, upload.key);
  assert.deepEqual(opened.metadata, { camera: "β.png" });
  assert.equal("chunk_size" in opened, false);
});

test("an empty file is complete without a chunk", async () => {
  const { uploader, server } = make();
  const [upload] = uploader.add([file("")]);
  await reached(upload, State.COMPLETE);
  assert.equal(server.count(CHUNK), 0);
});

test("chunks go in parallel, but over all files no more than allowed", async () => {
  const { uploader, server } = make({ parallel: 3 });
  const content = "x".repeat(200);
  const uploads = uploader.add(["a", "b", "c", "d"].map((name) => file(content, name)));
  await until(() => uploads.every((upload) => upload.state === State.COMPLETE));
  assert.equal(server.count(CHUNK), 80);
  const puts = server.mostInFlight;
  assert.ok(puts >= 3, `only ${puts} at once`);
});

test("no more requests with bytes are under way than the budget, for many files", async () => {
  const server = new FakeServer();
  let now = 0;
  let most = 0;
  const send = server.send.bind(server);
  server.send = async (request) => {
    const counts = request.method === "PUT" ? 1 : 0;
    now += counts;
    most = Math.max(most, now);
    try {
      return await send(request);
    } finally {
      now -= counts;
    }
  };
  const { uploader } = make({ parallel: 2 }, server);
  const uploads = uploader.add([..."abcdef"].map((name) => file("x".repeat(95), name)));
  await until(() => uploads.every((upload) => upload.state === State.COMPLETE));
  assert.equal(most, 2);
});

test("files come one after another, in the order of the list", async () => {
  const { uploader } = make({ parallel: 1 });
  const uploads = uploader.add([..."abc"].map((name) => file("x".repeat(30), name)));
  const finished = [];
  uploader.addEventListener("complete", (event) => finished.push(event.detail.upload));
  await until(() => finished.length === 3);
  assert.deepEqual(finished, uploads);
});

test("while it is put together the upload is processing", async () => {
  const server = new FakeServer();
  server.polls = 3;
  const { uploader } = make({}, server);
  const states = [];
  uploader.addEventListener("state", (event) => states.push(event.detail.state));
  const [upload] = uploader.add([file()]);
  await reached(upload, State.COMPLETE);
  assert.deepEqual(states, ["preparing", "uploading", "processing", "complete"]);
  assert.equal(server.count(/POST .*\/complete\/$/), 1);
  assert.ok(server.count(/GET \/uploads\/\d+\/$/) >= 2);
});

test("a chunk that meets an error is sent again, and only that one", async (t) => {
  hurried(t);
  const { uploader, server } = make();
  server.fail(({ url }) => (/chunks\/1\//.test(url) ? answer(500) : undefined), {
    times: 1,
  });
  const [upload] = uploader.add([file()]);
  await reached(upload, State.COMPLETE);
  assert.equal(server.count(CHUNK), 4);
  assert.equal(server.count(/chunks\/1\//), 2);
});

test("after lost answers only what the server does not have is sent again", async (t) => {
  hurried(t);
  const { uploader, server } = make();
  const send = server.send.bind(server);
  let lost = 0;
  server.send = async (request) => {
    const reply = await send(request);
    if (/chunks\/[01]\//.test(request.url) && lost < 2) {
      lost += 1;
      throw cutOff();
    }
    return reply;
  };
  const [upload] = uploader.add([file("x".repeat(95))]);
  await reached(upload, State.COMPLETE);
  assert.equal(lost, 2);
  assert.equal(server.count(CHUNK), 10);
});

test("when the server is away the upload waits, and goes on when it is back", async (t) => {
  hurried(t);
  const { uploader, server } = make();
  const [upload] = uploader.add([file("x".repeat(200))]);
  await until(() => server.count(CHUNK) >= 5);
  server.fail(cutOff);
  await reached(upload, State.WAITING);
  assert.equal(uploader.line.troubled, true);
  const before = server.count(CHUNK);
  await new Promise((resolve) => setTimeout(resolve, 100));
  assert.equal(upload.state, State.WAITING);
  assert.ok(server.count(CHUNK) - before <= 3, "it asks, it does not send");
  server.heal();
  await reached(upload, State.COMPLETE);
  assert.ok(server.bytes - 200 <= 30, `${server.bytes - 200} bytes were sent twice`);
  assert.equal(uploader.line.troubled, false);
});

test("an outage of twenty tries is not too long", async (t) => {
  hurried(t);
  const { uploader, server } = make();
  server.fail(cutOff, { times: 20 });
  const [upload] = uploader.add([file()]);
  await reached(upload, State.COMPLETE);
});

test("where questions pass and chunks never do it gives up in the end", async (t) => {
  hurried(t);
  const { uploader, server } = make({ retries: 3 });
  server.fail(({ method }) => (method === "PUT" ? cutOff() : undefined));
  const [upload] = uploader.add([file()]);
  await reached(upload, State.FAILED);
  assert.equal(upload.error.code, "network");
  assert.ok(server.count(CHUNK) <= 4 * 3);
});

test("an error that stays is final, and can be tried again by hand", async (t) => {
  hurried(t);
  const { uploader, server, names } = make({ retries: 2 });
  server.fail(() => answer(500));
  const [upload] = uploader.add([file()]);
  await reached(upload, State.FAILED);
  assert.equal(server.count(OPEN), 3);
  assert.ok(names().includes("error"));
  server.heal();
  upload.retry();
  await reached(upload, State.COMPLETE);
});

test("what the server refuses for good is not repeated, and its words are kept", async () => {
  const refusals = [
    [413, "too_large"],
    [413, "quota_exceeded"],
    [422, "type_not_allowed"],
    // A hook chooses its status, and does not order a new beginning by that.
    [404, "rejected"],
    [503, "rejected"],
    [410, "stopped"],
    [400, "invalid"],
  ];
  for (const [status, code] of refusals) {
    const { uploader, server } = make();
    server.fail(() => refuse(status, code));
    const [upload] = uploader.add([file()]);
    await reached(upload, State.FAILED);
    assert.equal(server.count(OPEN), 1);
    assert.equal(upload.error.code, code);
    assert.equal(upload.error.detail, `That is ${code}.`);
  }
});

test("the file that the server rejects in the end has failed, with the reason", async () => {
  const { uploader, server } = make();
  server.fail(({ url }) => (/complete/.test(url) ? refuse(422, "rejected") : undefined));
  const [upload] = uploader.add([file()]);
  await reached(upload, State.FAILED);
  assert.equal(upload.error.code, "rejected");
});

test("an assembly that failed is asked for again, and its reason is known", async (t) => {
  hurried(t);
  const { uploader, server } = make();
  const failed = ({ url }) => {
    if (!/complete/.test(url)) return undefined;
    const error = { code: "storage_unavailable", detail: "The disk is away." };
    return answer(202, { url: url.replace("complete/", ""), state: "failed", error });
  };
  server.fail(failed, { times: 2 });
  const waiting = [];
  uploader.addEventListener("waiting", (event) => waiting.push(event.detail.error));
  const [upload] = uploader.add([file()]);
  await reached(upload, State.COMPLETE);
  assert.deepEqual(
    waiting.map(({ code, detail }) => [code, detail]),
    Array(2).fill(["assembly_failed", "The disk is away."]),
  );
  assert.equal(server.count(CHUNK), 3);
});

test("an upload that is gone is begun anew", async () => {
  const { uploader, server } = make();
  server.fail(
    ({ method }) => {
      if (method !== "PUT") return undefined;
      server.uploads.clear();
      return refuse(410, "gone", { state: "expired" });
    },
    { times: 1 },
  );
  const [upload] = uploader.add([file()]);
  await reached(upload, State.COMPLETE);
  assert.equal(server.count(OPEN), 2);
  assert.equal(server.content.length, 25);
});

test("but not again and again", async () => {
  const { uploader, server } = make();
  server.fail(({ method }) => (method === "PUT" ? refuse(404, "not_found") : undefined));
  const [upload] = uploader.add([file()]);
  await reached(upload, State.FAILED);
  assert.ok(server.count(OPEN) <= 4);
});

test("a conflict is settled by asking the server", async () => {
  const { uploader, server } = make();
  server.fail(
    ({ method }) => {
      if (method !== "PUT") return undefined;
      const [upload] = server.uploads.values();
      for (const [n, part] of ["0123456789", "abcdefghij", "klmno"].entries()) {
        upload.chunks.set(n, part);
      }
      upload.state = "assembling";
      return refuse(409, "not_receiving", { state: "assembling" });
    },
    { times: 1 },
  );
  const [upload] = uploader.add([file()]);
  await reached(upload, State.COMPLETE);
  assert.equal(server.count(/GET \/uploads\/\d+\/$/), 1);
});

test("bytes that contradict what is there make it begin anew", async () => {
  const { uploader, server } = make();
  server.fail(({ method }) => (method === "PUT" ? refuse(409, "chunk_conflict") : undefined), {
    times: 1,
  });
  const [upload] = uploader.add([file()]);
  await reached(upload, State.COMPLETE);
  assert.equal(server.count(/DELETE/), 1);
  assert.equal(server.uploads.size, 1);
});

test("a proxy that refuses large bodies gets smaller chunks, of all files", async () => {
  const { uploader, server } = make({}, new FakeServer({ chunkSize: 512 * 1024 }));
  server.fail(({ body }) => (body?.size > 150_000 ? answer(413) : undefined));
  const content = "x".repeat(600_000);
  const [one, two] = uploader.add([file(content, "1"), file(content, "2")]);
  await reached(one, State.COMPLETE);
  await reached(two, State.COMPLETE);
  const sizes = [...server.uploads.values()].map((upload) => upload.chunkSize);
  assert.deepEqual(sizes, [128 * 1024, 128 * 1024]);
  assert.ok([...server.uploads.values()].every((u) => u.state === "complete"));
});

test("a proxy that refuses everything is said to be the reason", async () => {
  const { uploader, server } = make({}, new FakeServer({ chunkSize: 512 * 1024 }));
  server.fail(({ method }) => (method === "PUT" ? answer(413) : undefined));
  const [upload] = uploader.add([file("x".repeat(600_000))]);
  await reached(upload, State.FAILED);
  assert.equal(upload.error.status, 413);
});

test("the chunks do not become more than the server takes", async () => {
  const limited = new FakeServer({ chunkSize: 512 * 1024, maxChunks: 3 });
  const { uploader, server } = make({}, limited);
  server.fail(({ method }) => (method === "PUT" ? answer(413) : undefined));
  const [upload] = uploader.add([file("x".repeat(1_000_000))]);
  await reached(upload, State.FAILED);
  assert.equal(server.count(OPEN), 1);
});

test("a sign-in page behind a redirect is no success", async () => {
  const { uploader, server } = make();
  const page = { ...answer(200), redirected: true, text: "<html>Sign in</html>" };
  server.fail(({ method }) => (method === "PUT" ? page : undefined));
  const [upload] = uploader.add([file()]);
  await reached(upload, State.FAILED);
  assert.equal(upload.error.code, "redirected");
});

test("a page instead of data is tried again, and is no success", async (t) => {
  hurried(t);
  const { uploader, server } = make({ retries: 2 });
  server.fail(({ method }) =>
    method === "PUT" ? { ...answer(200), text: "<html>Hotel</html>" } : undefined,
  );
  const [upload] = uploader.add([file()]);
  await reached(upload, State.FAILED);
  assert.equal(upload.error.code, "unexpected_answer");
});

test("after a 403 the headers are asked for again, once", async () => {
  const asked = [];
  const { uploader, server } = make({
    headers: async ({ again }) => {
      asked.push(again);
      return { Authorization: again ? "fresh" : "stale" };
    },
  });
  const send = server.send.bind(server);
  server.send = async (request) =>
    request.headers.Authorization === "fresh"
      ? send(request)
      : refuse(401, "not_authenticated");
  const [upload] = uploader.add([file("x")]);
  await reached(upload, State.COMPLETE);
  assert.deepEqual(asked.slice(0, 2), [false, true]);
});

test("a 403 that stays is final, and says why", async () => {
  const { uploader, server } = make();
  server.fail(() => refuse(403, "permission_denied"));
  const [upload] = uploader.add([file()]);
  await reached(upload, State.FAILED);
  assert.equal(server.count(OPEN), 1);
  assert.equal(upload.error.detail, "That is permission_denied.");
});

test("a paused upload sends nothing, and goes on where it was", async () => {
  const { uploader, server } = make({ parallel: 2 });
  const [upload] = uploader.add([file("x".repeat(200))]);
  await until(() => server.count(CHUNK) >= 6);
  upload.pause();
  const sent = server.count(CHUNK);
  await new Promise((resolve) => setTimeout(resolve, 30));
  assert.equal(upload.state, State.PAUSED);
  assert.equal(server.count(CHUNK), sent);
  upload.resume();
  await reached(upload, State.COMPLETE);
  assert.ok(server.bytes - 200 <= 20, `${server.bytes - 200} bytes were sent twice`);
  assert.equal(server.uploads.size, 1);
});

test("pausing and going on quickly leaves one run, and one upload", async () => {
  const { uploader, server } = make();
  const [upload] = uploader.add([file("x".repeat(100))]);
  for (let turn = 0; turn < 10; turn += 1) {
    upload.pause();
    await new Promise((resolve) => setImmediate(resolve));
    upload.resume();
    await new Promise((resolve) => setImmediate(resolve));
  }
  await reached(upload, State.COMPLETE);
  assert.equal(server.uploads.size, 1);
  assert.equal(server.content.length, 100);
});

test("paused at whatever moment, it stays paused", async (t) => {
  hurried(t);
  for (let moment = 0; moment < 40; moment += 1) {
    const { uploader, server } = make();
    server.fail(({ url }) => (/chunks\/2\//.test(url) ? answer(500) : undefined), {
      times: 1,
    });
    const [upload] = uploader.add([file("x".repeat(60))]);
    for (let turn = 0; turn < moment; turn += 1) {
      await new Promise((resolve) => setImmediate(resolve));
    }
    if (!upload.pausable) break;
    upload.pause();
    const states = [];
    uploader.addEventListener("state", (event) => states.push(event.detail.state));
    await new Promise((resolve) => setTimeout(resolve, 5));
    assert.deepEqual([upload.state, states], [State.PAUSED, []], `moment ${moment}`);
    upload.resume();
    await reached(upload, State.COMPLETE);
    assert.equal(server.uploads.size, 1);
  }
});

test("starting what is under way changes nothing", async () => {
  const { uploader, server, names } = make();
  const [upload] = uploader.add([file()]);
  uploader.start();
  upload.start();
  await reached(upload, State.COMPLETE);
  await new Promise((resolve) => setTimeout(resolve, 20));
  assert.equal(server.count(OPEN), 1);
  assert.equal(server.count(CHUNK), 3);
  assert.deepEqual(names(), ["added", "complete"]);
});

test("a cancelled upload is thrown away on the server", async () => {
  const { uploader, server, names } = make({ parallel: 1 });
  const [upload] = uploader.add([file("x".repeat(200))]);
  await until(() => server.count(CHUNK) >= 3);
  await upload.cancel();
  assert.equal(upload.state, State.CANCELLED);
  assert.equal(server.uploads.size, 0);
  assert.deepEqual(uploader.getResumableFiles(), []);
  assert.ok(names().includes("cancelled"));
  const sent = server.count(CHUNK);
  await new Promise((resolve) => setTimeout(resolve, 20));
  assert.equal(server.count(CHUNK), sent);
});

test("cancelled while it is being opened, it leaves nothing on the server", async () => {
  const { uploader, server } = make();
  const [upload] = uploader.add([file()]);
  await until(() => server.count(OPEN) === 1);
  await upload.cancel();
  assert.equal(server.count(/DELETE/), 1);
  assert.equal(server.uploads.size, 0);
});

/** A server that has some of a file, from a page that was closed. */
async function abandoned(content = "x".repeat(100)) {
  const server = new FakeServer();
  const storage = new FakeStorage();
  const first = make({ parallel: 1, storage }, server);
  first.uploader.add([file(content)]);
  await until(() => server.count(CHUNK) >= 5);
  first.uploader.pause();
  await new Promise((resolve) => setTimeout(resolve, 10));
  return { server, storage, content };
}

test("the same file goes on where an earlier page left it", async () => {
  const { server, storage, content } = await abandoned();
  const before = server.bytes;
  const { uploader, events } = make({ storage }, server);
  const [upload] = uploader.add([file(content)]);
  await reached(upload, State.COMPLETE);
  assert.ok(server.bytes - before <= 60);
  assert.equal(server.uploads.size, 1);
  const [, resumed] = events.find(([name]) => name === "resumed");
  assert.ok(resumed.received >= 40);
});

test("another file of the same name and size does not", async () => {
  const { server, storage } = await abandoned("x".repeat(100));
  const { uploader, names } = make({ storage }, server);
  const [upload] = uploader.add([file("y".repeat(100))]);
  await reached(upload, State.COMPLETE);
  assert.equal(server.uploads.size, 2);
  assert.equal(names().includes("resumed"), false);
});

test("onResume may say no: then the old upload is thrown away", async () => {
  const { server, storage, content } = await abandoned();
  const [old] = server.uploads.keys();
  const asked = [];
  const onResume = async (upload, facts) => {
    asked.push([upload.name, facts.received > 0]);
    return false;
  };
  const { uploader, names } = make({ storage, onResume }, server);
  const [upload] = uploader.add([file(content)]);
  await reached(upload, State.COMPLETE);
  assert.deepEqual(asked, [["a.txt", true]]);
  assert.equal(server.uploads.has(old), false);
  assert.equal(server.content.length, 100);
  assert.equal(names().includes("resumed"), false);
});

test("an upload of the same file in other chunks is taken up as it is", async () => {
  const { server, storage, content } = await abandoned();
  const { uploader } = make({ storage, chunkSize: 25 }, server);
  const [upload] = uploader.add([file(content)]);
  await reached(upload, State.COMPLETE);
  assert.equal(server.uploads.size, 1);
});

test("unfinished uploads are listed, and can be discarded", async () => {
  const { server, storage } = await abandoned();
  const { uploader } = make({ storage }, server);
  const [item] = await uploader.unfinished();
  assert.equal(item.name, "a.txt");
  assert.ok(item.received >= 40);
  assert.equal(uploader.getResumableFiles()[0].id, item.id);
  await uploader.discard(item);
  assert.equal(server.uploads.size, 0);
  assert.deepEqual(uploader.getResumableFiles(), []);
  assert.deepEqual(await uploader.unfinished(), []);
});

test("what goes on here is not listed as unfinished", async () => {
  const { server, storage, content } = await abandoned();
  const { uploader } = make({ storage, parallel: 1 }, server);
  const [upload] = uploader.add([file(content)]);
  await until(() => upload.server);
  upload.pause();
  assert.deepEqual(await uploader.unfinished(), []);
  assert.deepEqual(uploader.getResumableFiles(), []);
});

test("without the server's list the browser's records are shown", async () => {
  const { server, storage } = await abandoned();
  const { uploader } = make({ storage }, server);
  server.fail(() => answer(500));
  const [item] = await uploader.unfinished();
  assert.equal(item.name, "a.txt");
});

test("a browser that stores nothing uploads, and resumes, all the same", async () => {
  const { server, content } = await abandoned();
  const { uploader, names } = make({ storage: null }, server);
  const [upload] = uploader.add([file(content)]);
  await reached(upload, State.COMPLETE);
  assert.ok(names().includes("resumed"));
});

test("files outside the limits are refused before a request is made", async () => {
  const { uploader, server, events } = make({
    limits: { max_size: 10, allowed_extensions: [".txt"] },
    maxFiles: 1,
    validate: (chosen) => (chosen.name === "bad.txt" ? "Not that one." : null),
  });
  uploader.add([file("x".repeat(11)), file("x", "a.exe"), file("x", "bad.txt")]);
  assert.deepEqual(
    events.map(([name, { code }]) => [name, code]),
    [["refused", "too_large"], ["refused", "type_not_allowed"], ["refused", "refused"]],
  );
  assert.equal(events[2][1].detail, "Not that one.");
  uploader.add([file("x", "1.txt"), file("x", "2.txt")]);
  assert.equal(events.at(-1)[1].code, "too_many_files");
  await until(() => uploader.totals.complete === 1);
  assert.equal(server.uploads.size, 1);
});

test("a file that is under way is not added twice", async () => {
  const { uploader, events } = make();
  uploader.add([file()]);
  assert.deepEqual(uploader.add([file()]), []);
  assert.equal(events.at(-1)[1].code, "already_listed");
  await until(() => uploader.totals.complete === 1);
  assert.equal(uploader.add([file()]).length, 1);
  await until(() => uploader.totals.complete === 2);
});

test("a file that changed on disk is said to be unreadable", async (t) => {
  hurried(t);
  const { uploader, server } = make();
  const changed = file("x".repeat(100));
  server.fail(({ method }) => (method === "PUT" ? cutOff() : undefined));
  const [upload] = uploader.add([changed]);
  await until(() => server.count(OPEN) === 1);
  changed.slice = () => ({ arrayBuffer: () => Promise.reject(new Error("NotReadable")) });
  await reached(upload, State.FAILED);
  assert.equal(upload.error.code, "unreadable");
});

test("the totals add up, and cancelled files do not count", async () => {
  const { uploader } = make();
  const [one, two] = uploader.add([file("x".repeat(30), "1"), file("x".repeat(50), "2")]);
  await reached(one, State.COMPLETE);
  await reached(two, State.COMPLETE);
  const { files, complete, size, sent, active } = uploader.totals;
  assert.deepEqual([files, complete, size, sent, active], [2, 2, 80, 80, 0]);
  const [three] = uploader.add([file("x".repeat(50), "3")]);
  await three.cancel();
  assert.equal(uploader.totals.files, 2);
});

test("with autoStart off nothing is sent until start", async () => {
  const { uploader, server } = make({ autoStart: false });
  const [upload] = uploader.add([file()]);
  await new Promise((resolve) => setTimeout(resolve, 10));
  assert.equal(server.log.length, 0);
  uploader.start();
  await reached(upload, State.COMPLETE);
});

test("a file that is removed from the list is cancelled", async () => {
  const { uploader, server } = make({ parallel: 1 });
  const [upload] = uploader.add([file("x".repeat(200))]);
  await until(() => server.count(CHUNK) >= 2);
  uploader.remove(upload);
  assert.deepEqual(uploader.uploads, []);
  await until(() => server.uploads.size === 0);
});

test("each chunk may carry its digest", async () => {
  const { uploader, server } = make({ digest: true });
  const digests = [];
  const send = server.send.bind(server);
  server.send = (request) => {
    if (request.method === "PUT") digests.push(request.headers["Content-Digest"]);
    return send(request);
  };
  const [upload] = uploader.add([file("hello")]);
  await reached(upload, State.COMPLETE);
  const wanted = "LPJNul+wow4m6DsqxbninhsWHlwfp0JecwQzYpOLmCQ=";
  assert.deepEqual(digests, [`sha-256=:${wanted}:`]);
});

test("the policy's limits can be asked for", async () => {
  const { uploader, server, events } = make({ policy: "small" });
  server.fail(({ url }) => (/limits/.test(url) ? answer(200, { max_size: 3 }) : undefined));
  await uploader.fetchLimits();
  assert.equal(server.log[0], "GET /uploads/limits/?policy=small");
  uploader.add([file("four")]);
  assert.equal(events.at(-1)[1].code, "too_large");
});

test("a problem of our own is shown, not swallowed", async () => {
  const { uploader } = make({
    identify: async () => {
      throw new Error("cannot read");
    },
  });
  const [upload] = uploader.add([file()]);
  await reached(upload, State.FAILED);
  assert.ok(upload.error instanceof UploadError);
  assert.equal(upload.error.code, "unreadable");
});
