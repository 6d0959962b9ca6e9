// The protocol of javascript.info, with an uploader of the demo's own.

import { element, Row } from "./shell.js";
import { RestOfFile } from "./rest-of-file.js";

const uploads = new Map();
// Of each upload the try that counts: what has become of an earlier one may be known late.
const tries = new Map();

async function run(upload) {
  const row = uploads.get(upload);
  const mine = Symbol("try");
  tries.set(upload, mine);
  const tell = (show) => tries.get(upload) === mine && show();
  row.progress(0);
  try {
    const isComplete = await upload.upload();
    tell(() => (isComplete ? row.complete() : row.show("paused", "Paused")));
  } catch (error) {
    tell(() => row.fail(error.message));
  }
}

function add(files) {
  for (const file of files) {
    const upload = new RestOfFile(file, (loaded, total) =>
      uploads.get(upload).progress(loaded / total),
    );
    uploads.set(upload, new Row(file.name, () => run(upload)));
    run(upload);
  }
}

element("files").addEventListener("change", (event) => {
  add(event.target.files);
  event.target.value = "";
});
element("drop").addEventListener("dragover", (event) => event.preventDefault());
element("drop").addEventListener("drop", (event) => {
  event.preventDefault();
  add(event.dataTransfer.files);
});
element("pause").addEventListener("click", () => {
  for (const upload of uploads.keys()) upload.stop();
});
element("resume").addEventListener("click", () => {
  for (const [upload, row] of uploads) {
    if (["paused", "failed"].includes(row.item.dataset.state)) run(upload);
  }
});

window.client = { uploads, run };
