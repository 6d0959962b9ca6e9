/**
 * `<resumable-upload>`: the widget as an element, for pages that are not Django's.
 *
 *     <resumable-upload endpoint="/uploads/" policy="images" name="photos"></resumable-upload>
 *
 * Without a shadow tree, so that forms, labels and the page's styles reach it. What stands
 * in it before, as a plain file input, is for browsers without scripts and is replaced.
 */

import { makeMarkup } from "./markup.js";
import { mount } from "./widget.js";
import { Words } from "./words.js";

/** Attributes that are options, and how they are read. */
/** @type {Record<string, [string, (text: string) => any]>} */
const OPTIONS = {
  endpoint: ["endpoint", String],
  policy: ["policy", String],
  name: ["name", String],
  scope: ["scope", String],
  parallel: ["parallel", Number],
  "max-files": ["maxFiles", Number],
  "chunk-size": ["chunkSize", Number],
  "records-expire-in": ["recordsExpireIn", Number],
  messages: ["messages", JSON.parse],
  digest: ["digest", () => true],
  checksum: ["checksum", () => true],
  deletable: ["deletable", () => true],
  required: ["required", () => true],
};

export class ResumableUpload extends HTMLElement {
  /** @type {import("./widget.js").UploaderWidget | null} */
  #widget = null;

  /** Options that are functions, or anything else; to be set before it is in the page. */
  options = /** @type {any} */ ({});

  /** The widget, once the element is in the page. */
  get widget() {
    return this.#widget;
  }

  /** The uploader, once the element is in the page. */
  get uploader() {
    return this.#widget?.uploader ?? null;
  }

  /** The ids of the uploads that are complete, in the order of the list. */
  get value() {
    const complete = this.uploader?.uploads.filter((upload) => upload.state === "complete");
    return (complete ?? []).map((upload) => upload.server?.id ?? "");
  }

  connectedCallback() {
    if (!this.#widget) this.#begin();
  }

  disconnectedCallback() {
    // Moved within the page it is connected again at once, and nothing is to stop.
    queueMicrotask(() => {
      if (this.isConnected) return;
      this.#widget?.destroy();
      this.#widget = null;
    });
  }

  #begin() {
    const options = { endpoint: "/uploads/", ...this.#attributes(), ...this.options };
    const single = this.hasAttribute("single");
    if (single) options.maxFiles = 1;
    const words = new Words({ messages: options.messages, language: this.#language });
    const root = makeMarkup(words, {
      multiple: !single,
      folders: this.hasAttribute("folders"),
      camera: this.hasAttribute("camera"),
      accept: this.getAttribute("accept") ?? "",
    });
    this.replaceChildren(root);
    this.#widget = mount(root, options);
    if (!options.limits) this.#widget.learnLimits();
  }

  #attributes() {
    const given = Object.entries(OPTIONS).filter(([name]) => this.hasAttribute(name));
    return Object.fromEntries(
      given.map(([name, [option, read]]) => [option, read(this.getAttribute(name) ?? "")]),
    );
  }

  get #language() {
    return this.closest("[lang]")?.getAttribute("lang") ?? undefined;
  }
}

if (!customElements.get("resumable-upload")) {
  customElements.define("resumable-upload", ResumableUpload);
}
