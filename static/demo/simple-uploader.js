// simple-uploader.js before the app's endpoint.

import { chunkHeaders, element, endpoint, isAllThere, option, path, Row } from "./shell.js";

const uploader = new window.Uploader({
  target: endpoint,
  headers: chunkHeaders,
  chunkSize: option("chunkSize", 1024 * 1024),
  simultaneousUploads: option("simultaneousUploads", 3),
  checkChunkUploadedByResponse: (chunk, answer) =>
    JSON.parse(answer).uploaded.includes(chunk.offset + 1),
  maxChunkRetries: 3,
  chunkRetryInterval: 1000,
  generateUniqueIdentifier: (file) => `${file.size}-${file.lastModified}-${path(file)}`,
});

const rows = new Map();

uploader.assignBrowse(element("files"));
uploader.assignDrop(element("drop"));
element("pause").addEventListener("click", () => uploader.pause());
element("resume").addEventListener("click", () => uploader.resume());

uploader.on("fileAdded", (file) => {
  rows.set(file, new Row(file.relativePath, () => file.retry()));
});
uploader.on("filesSubmitted", () => uploader.upload());
uploader.on("fileProgress", (root, file) => {
  if (!file.isComplete()) rows.get(file)?.progress(file.progress());
});
uploader.on("fileError", (root, file, answer) => rows.get(file)?.fail(answer));
uploader.on("fileSuccess", (root, file, answer) => {
  if (isAllThere(answer)) rows.get(file).complete();
  else file.retry();
});

window.client = uploader;
