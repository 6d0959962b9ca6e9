import assert from "node:assert/strict";
import { test } from "node:test";

import { RestProtocol } from "../../resumable_uploads/static/resumable_uploads/protocol.js";
import { answer, ENDPOINT } from "./server.js";

const CAPABILITY = "Upload-Capability";
const URL = "/uploads/1/";

/** A protocol over a transport that gives these answers, and notes what it is asked. */
function making(...answers) {
  const requests = [];
  const transport = {
    send: async (request) => {
      requests.push(request);
      return answers.shift();
    },
  };
  const line = { use: (call) => call() };
  return { requests, protocol: new RestProtocol({ endpoint: ENDPOINT, transport, line }) };
}

const opened = (word) =>
  answer(201, { url: URL, id: "1" }, word ? { [CAPABILITY]: word } : {});
const stored = (word) =>
  answer(201, { number: 0 }, word ? { [CAPABILITY]: word } : {});

test("a chunk brings the capability that was given last for its upload", async () => {
  const { protocol, requests } = making(
    opened("first"),
    stored(null),
    stored("second"),
    stored(null),
    stored(null),
  );
  await protocol.open({});
  for (const number of [0, 1, 2]) await protocol.putChunk(URL, number, new Blob(), {});
  await protocol.putChunk("/uploads/2/", 0, new Blob(), {});
  const words = requests.map((request) => request.headers[CAPABILITY]);
  assert.deepEqual(words, [undefined, "first", "first", "second", undefined]);
});

test("a capability goes to chunks only", async () => {
  const { protocol, requests } = making(
    opened("first"),
    answer(200, { url: URL }),
    answer(200, { url: URL }),
    answer(204),
  );
  await protocol.open({});
  await protocol.ask(URL);
  await protocol.complete(URL);
  await protocol.discard(URL);
  assert.ok(requests.every((request) => !(CAPABILITY in request.headers)));
});

test("where none is given, none is sent", async () => {
  const { protocol, requests } = making(opened(null), stored(null));
  await protocol.open({});
  await protocol.putChunk(URL, 0, new Blob(), {});
  assert.ok(!(CAPABILITY in requests[1].headers));
});
