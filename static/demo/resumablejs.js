// Resumable.js before the app's endpoint.

import { chunkHeaders, element, endpoint, isAllThere, option, path, Row } from "./shell.js";

const recommended = {
  permanentErrors: [400, 401, 403, 404, 409, 410, 413, 415, 422, 500, 501],
  chunkRetryInterval: 1000,
  minFileSize: 0,
  generateUniqueIdentifier: (file) => `${file.size}-${file.lastModified}-${path(file)}`,
};

const resumable = new window.Resumable({
  target: endpoint,
  headers: chunkHeaders,
  chunkSize: option("chunkSize", 1024 * 1024),
  simultaneousUploads: option("simultaneousUploads", 3),
  forceChunkSize: option("forceChunkSize", false),
  prioritizeFirstAndLastChunk: option("prioritizeFirstAndLastChunk", false),
  method: option("method", "multipart"),
  uploadMethod: option("uploadMethod", "POST"),
  parameterNamespace: option("parameterNamespace", ""),
  ...(option("recommended", true) ? recommended : { minFileSize: 0 }),
});

const rows = new Map();

resumable.assignBrowse(element("files"));
resumable.assignDrop(element("drop"));
element("pause").addEventListener("click", () => resumable.pause());
element("resume").addEventListener("click", () => resumable.upload());

resumable.on("fileAdded", (file) => {
  rows.set(file, new Row(file.relativePath, () => file.retry()));
  resumable.upload();
});
resumable.on("fileProgress", (file) => {
  if (!file.isComplete()) rows.get(file).progress(file.progress());
});
resumable.on("fileError", (file, answer) => rows.get(file).fail(answer));
resumable.on("fileSuccess", (file, answer) => {
  // All chunks were taken; but were those of an hour ago still there? To ask again for
  // each of them costs little, and happens hardly ever.
  if (isAllThere(answer)) rows.get(file).complete();
  else file.retry();
});

window.client = resumable;
