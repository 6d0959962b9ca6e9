// Fine Uploader before the app's endpoints.

import {
  csrfToken,
  element,
  endpoint as ordinary,
  keepCapability,
  option,
  proof,
} from "./shell.js";

const isConcurrent = option("concurrent", false);
const endpoint = isConcurrent ? ordinary.replace(/\/$/, "-concurrent/") : ordinary;
const headers = { "X-CSRFToken": csrfToken() };

const uploader = new window.qq.FineUploader({
  element: element("uploader"),
  template: "qq-template",
  request: { endpoint, customHeaders: headers },
  chunking: {
    enabled: true,
    partSize: option("partSize", 2_000_000),
    mandatory: option("mandatory", false),
    concurrent: { enabled: isConcurrent },
    success: { endpoint: option("done", true) ? `${endpoint}done/` : null },
  },
  resume: {
    enabled: true,
    customKeys: (id) => [uploader.getFile(id).lastModified],
  },
  retry: {
    enableAuto: option("retry", true),
    autoAttemptDelay: option("retryDelay", 5),
  },
  deleteFile: { enabled: true, endpoint: `${endpoint}delete`, customHeaders: headers },
  session: { endpoint: option("session", true) ? `${endpoint}session/` : null },
  dragAndDrop: { reportDirectoryPaths: true },
  validation: { allowEmpty: true },
  failedUploadTextDisplay: { mode: "custom", responseProperty: "error" },
  warnBeforeUnload: false,
  callbacks: {
    onUpload(id) {
      // The token changes when somebody logs in.
      this.setCustomHeaders(proof(this.getFile(id)), id);
    },
    onUploadChunkSuccess(id, chunk, answer, xhr) {
      keepCapability(this.getFile(id), xhr);
      this.setCustomHeaders(proof(this.getFile(id)), id);
    },
  },
});

// Its file input has a title only, and is made anew after each choice.
const inputs = new MutationObserver(nameInputs);
inputs.observe(element("uploader"), { childList: true, subtree: true });
nameInputs();

function nameInputs() {
  for (const input of element("uploader").querySelectorAll("input[type=file]")) {
    if (!input.ariaLabel) input.ariaLabel = "Choose files";
  }
}

window.client = uploader;
