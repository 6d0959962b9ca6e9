/** What tests of the uploader begin with. */

import assert from "node:assert/strict";

import { ResumableUploader } from "../../resumable_uploads/static/resumable_uploads/uploader.js";
import { ENDPOINT, FakeNetwork, FakeServer, FakeStorage } from "./server.js";

const TOLD = ["added", "refused", "resumed", "complete", "error", "cancelled", "deleted"];

/** An uploader before a server, with timers that do not make tests wait. */
export function make(options = {}, server = new FakeServer()) {
  const uploader = new ResumableUploader({
    endpoint: ENDPOINT,
    transport: server,
    network: new FakeNetwork(),
    storage: new FakeStorage(),
    ...options,
  });
  const events = [];
  for (const name of TOLD) {
    uploader.addEventListener(name, (event) => events.push([name, event.detail]));
  }
  return { uploader, server, events, names: () => events.map(([name]) => name) };
}

export function file(content = "0123456789abcdefghijklmno", name = "a.txt", more = {}) {
  return new File([content], name, { lastModified: 1, ...more });
}

/** Wait until something is so; the timers of back-off run meanwhile. */
export async function until(condition, what = condition) {
  for (let turn = 0; turn < 3000; turn += 1) {
    if (condition()) return;
    await new Promise((resolve) => setImmediate(resolve));
    if (turn > 200) await new Promise((resolve) => setTimeout(resolve, 5));
  }
  assert.fail(`It never happened: ${what}`);
}

export const reached = (upload, state) => until(() => upload.state === state, state);

/** Let back-off take no time. */
export function hurried(t) {
  const real = globalThis.setTimeout;
  t.mock.method(globalThis, "setTimeout", (call, ms, ...rest) => {
    return real(call, ms > 20 ? ms / 500 : ms, ...rest);
  });
}
