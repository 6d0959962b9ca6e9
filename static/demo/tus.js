// tus-js-client before the app's endpoint.

import { element, endpoint, option, path, Row } from "./shell.js";

const uploads = new Map();

const options = {
  // The draft is spoken elsewhere.
  endpoint: option("endpoint", endpoint),
  chunkSize: option("chunkSize", 64 * 1024 * 1024),
  parallelUploads: option("parallelUploads", 1),
  uploadDataDuringCreation: option("uploadDataDuringCreation", false),
  uploadLengthDeferred: option("uploadLengthDeferred", false),
  overridePatchMethod: option("overridePatchMethod", false),
  protocol: option("protocol", "tus-v1"),
  retryDelays: [0, 1000, 3000, 5000, 10000],
  removeFingerprintOnSuccess: true,
};

function add(file) {
  const row = new Row(path(file), () => run(upload, row));
  const upload = new window.tus.Upload(file, {
    ...options,
    metadata: {
      filename: file.name,
      filetype: file.type,
      relativePath: file.webkitRelativePath,
    },
    onProgress: (sent, total) => row.progress(sent / total),
    onSuccess: () => row.complete(),
    onError: (error) => row.show("failed", reason(error)),
  });
  uploads.set(upload, row);
  run(upload, row);
}

/** Go on with what the browser knows of a file, or begin with it. */
async function run(upload, row) {
  const [previous] = await upload.findPreviousUploads();
  if (previous) upload.resumeFromPreviousUpload(previous);
  row.show("uploading", "0 %");
  upload.start();
}

/** Return what the server said, without the name that is for programs. */
function reason(error) {
  const answer = error.originalResponse?.getBody();
  return answer?.replace(/^ERR_\w+: /, "") || "The upload failed.";
}

element("files").addEventListener("change", (event) => {
  [...event.target.files].forEach(add);
  event.target.value = "";
});
element("drop").addEventListener("dragover", (event) => event.preventDefault());
element("drop").addEventListener("drop", (event) => {
  event.preventDefault();
  [...event.dataTransfer.files].forEach(add);
});
element("pause").addEventListener("click", () => {
  for (const [upload, row] of uploads) {
    if (row.item.dataset.state !== "uploading") continue;
    upload.abort();
    row.show("paused", "Paused");
  }
});
element("resume").addEventListener("click", () => {
  for (const [upload, row] of uploads) {
    if (row.item.dataset.state === "paused") run(upload, row);
  }
});

window.client = { uploads };
