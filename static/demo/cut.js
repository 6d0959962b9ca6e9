/**
 * The demo's "Cut the network": a transport that can be cut, which is all that the
 * uploader knows of the network. Nothing is sent while it is cut, and what is on its way
 * is broken off in the middle.
 */

import { UploadError } from "../resumable_uploads/failures.js";
import { linked, pause } from "../resumable_uploads/signals.js";
import { XhrTransport } from "../resumable_uploads/transport.js";
import { mount } from "../resumable_uploads/widget.js";

class CuttableTransport {
  #real = new XhrTransport();
  #underWay = new Set();
  isCut = false;

  async send(request) {
    if (this.isCut) {
      await pause(200, request.signal);
      throw new UploadError("network");
    }
    const line = linked(request.signal ?? new AbortController().signal);
    this.#underWay.add(line);
    try {
      return await this.#real.send({ ...request, signal: line.signal });
    } finally {
      this.#underWay.delete(line);
      line.unlink();
    }
  }

  cut() {
    this.isCut = true;
    for (const line of this.#underWay) line.abort(new UploadError("network"));
  }

  mend() {
    this.isCut = false;
  }
}

const transport = new CuttableTransport();
const root = document.querySelector("[data-ru-uploader]");
const control = document.querySelector("[data-demo-cut]");

if (root) {
  const { uploader } = mount(root, { transport });
  const button = control.querySelector("button");
  control.hidden = false;
  button.addEventListener("click", () => {
    if (transport.isCut) transport.mend();
    else transport.cut();
    button.setAttribute("aria-checked", String(transport.isCut));
    // As when the browser says that it is online again.
    if (!transport.isCut) uploader.line.tryNow();
  });
}
