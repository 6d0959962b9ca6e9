// ali-oss before the app's bucket.

import { csrfToken, element, endpoint, option, Row } from "./shell.js";

const bucket = endpoint.split("/").at(-2);

/** Return temporary credentials, in the words that ali-oss takes. */
async function credentials() {
  const answer = await fetch(new URL("../uploads/sts/", new URL(endpoint, location)), {
    method: "POST",
    headers: { "Content-Type": "application/json", "X-CSRFToken": csrfToken() },
    body: JSON.stringify({ bucket }),
  });
  const found = await answer.json();
  if (!answer.ok) throw new Error(found.detail);
  return found;
}

/** Return a client of its own for each file: cancel() stops all that one client sends. */
async function connect() {
  return new window.OSS({
    endpoint: location.origin,
    sldEnable: true,
    bucket,
    region: "oss-local",
    authorizationV4: option("v4", true),
    ...(await credentials()),
    refreshSTSToken: credentials,
    refreshSTSTokenInterval: option("refresh", 300000),
    retryMax: option("retryMax", 3),
  });
}

class Upload {
  constructor(file) {
    this.file = file;
    this.saved = `ali-oss:${bucket}:${file.name}-${file.size}-${file.lastModified}`;
    this.row = new Row(file.name, () => this.run());
  }

  get checkpoint() {
    const text = localStorage.getItem(this.saved);
    return text ? JSON.parse(text) : undefined;
  }

  set checkpoint(value) {
    if (value) localStorage.setItem(this.saved, JSON.stringify(value));
    else localStorage.removeItem(this.saved);
  }

  get isWaiting() {
    return this.row.item.dataset.state === "waiting";
  }

  get isOver() {
    return !["waiting", "paused", "failed"].includes(this.row.item.dataset.state);
  }

  pause() {
    this.store?.cancel();
  }

  async run() {
    this.row.progress(0);
    try {
      this.store = await connect();
      await this.send();
      this.row.complete();
    } catch (error) {
      this.stopped(error);
    }
  }

  send() {
    return this.store.multipartUpload(this.file.name, this.file, {
      checkpoint: this.checkpoint,
      partSize: option("partSize", 1024 * 1024),
      parallel: option("parallel", 3),
      progress: (done, checkpoint) => {
        this.checkpoint = checkpoint;
        this.row.progress(done);
      },
    });
  }

  stopped(error) {
    if (error.name === "cancel") {
      this.row.show("paused", "Paused");
      return;
    }
    // The client's word for an upload that is there no more: begin a new one.
    if (error.name === "abort" || error.code === "NoSuchUpload") {
      this.checkpoint = null;
    }
    this.row.fail(JSON.stringify({ detail: error.message }));
  }
}

const uploads = new Set();

function add(files) {
  for (const file of files) {
    const upload = new Upload(file);
    uploads.add(upload);
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
element("submit").addEventListener("click", () => {
  for (const upload of uploads) if (upload.isWaiting) upload.run();
});
element("pause").addEventListener("click", () => {
  for (const upload of uploads) upload.pause();
});
element("resume").addEventListener("click", () => {
  for (const upload of uploads) if (!upload.isOver) upload.run();
});

window.client = { uploads, credentials, connect };
