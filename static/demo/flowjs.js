// flow.js before the app's endpoint.

import { chunkHeaders, element, endpoint, isAllThere, option, path, Row } from "./shell.js";

const flow = new window.Flow({
  target: endpoint,
  headers: chunkHeaders,
  chunkSize: option("chunkSize", 1024 * 1024),
  simultaneousUploads: option("simultaneousUploads", 3),
  forceChunkSize: option("forceChunkSize", false),
  method: option("method", "multipart"),
  maxChunkRetries: 3,
  chunkRetryInterval: 1000,
  generateUniqueIdentifier: (file) => `${file.size}-${file.lastModified}-${path(file)}`,
});

const rows = new Map();

flow.assignBrowse(element("files"));
flow.assignDrop(element("drop"));
element("pause").addEventListener("click", () => flow.pause());
element("resume").addEventListener("click", () => flow.resume());

flow.on("fileAdded", (file) => {
  rows.set(file, new Row(file.relativePath, () => file.retry()));
});
flow.on("filesSubmitted", () => flow.upload());
flow.on("fileProgress", (file) => {
  if (!file.isComplete()) rows.get(file).progress(file.progress());
});
flow.on("fileError", (file, answer) => rows.get(file).fail(answer));
flow.on("fileSuccess", (file, answer) => {
  if (isAllThere(answer)) rows.get(file).complete();
  else file.retry();
});

window.client = flow;
