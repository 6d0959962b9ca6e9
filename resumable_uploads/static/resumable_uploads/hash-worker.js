/** The worker's side of hashing.js: a blob comes in, its digest goes out. */

import { digestOf } from "./hashing.js";

globalThis.addEventListener("message", async (event) => {
  const { number, blob } = /** @type {MessageEvent} */ (event).data;
  const answer = await digestOf(blob).then(
    (digest) => ({ number, digest }),
    (problem) => ({ number, problem: String(problem) }),
  );
  globalThis.postMessage(answer);
});
