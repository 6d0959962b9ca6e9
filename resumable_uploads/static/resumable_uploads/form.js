/**
 * The uploader as a field of a form: hidden inputs with the ids of what is complete, and
 * a form that waits for what is under way.
 */

import { State } from "./upload.js";

/** What keeps a form from being sent: it needs somebody's decision. */
const OPEN = [State.PAUSED, State.FAILED];

export class FormField {
  /** Was the form to be sent while files were under way, and by which button? */
  #pending = /** @type {{submitter: HTMLElement | null} | null} */ (null);

  /**
   * @param {HTMLElement} root
   * @param {import("./uploader.js").ResumableUploader} uploader
   * @param {{name: string, required?: boolean, signal: AbortSignal,
   *   tell: (key: string) => void}} options
   */
  constructor(root, uploader, { name, required = false, signal, tell }) {
    this.uploader = uploader;
    this.name = name;
    this.required = required;
    this.tell = tell;
    this.input = /** @type {HTMLInputElement | null} */ (
      root.querySelector("input[type=file]")
    );
    this.values = document.createElement("span");
    this.values.hidden = true;
    root.append(this.values);
    this.form = root.closest("form");
    this.#takeOver(root);
    this.form?.addEventListener("submit", (event) => this.#submitted(event), { signal });
    this.form?.addEventListener("reset", () => this.#reset(), { signal });
    for (const change of ["state", "added", "removed"]) {
      uploader.addEventListener(change, () => this.#update(), { signal });
    }
    uploader.addEventListener("idle", () => this.#goOn(), { signal });
    this.#update();
  }

  /** The ids of the complete files, in the order of the list. */
  get ids() {
    const { uploads } = this.uploader;
    const complete = uploads.filter((upload) => upload.state === State.COMPLETE);
    return complete.map((upload) => upload.server?.id ?? "").filter(Boolean);
  }

  /**
   * What is uploaded here is not to be sent with the form as well.
   *
   * @param {HTMLElement} root
   */
  #takeOver(root) {
    for (const input of root.querySelectorAll("input[type=file]")) {
      input.removeAttribute("name");
      input.removeAttribute("required");
    }
  }

  #update() {
    const there = Array.from(this.values.children, (input) => input.getAttribute("value"));
    const { ids } = this;
    if (there.join() === ids.join()) return;
    this.values.replaceChildren(...ids.map((id) => this.#hidden(id)));
  }

  /** @param {string} id */
  #hidden(id) {
    const input = document.createElement("input");
    input.type = "hidden";
    input.name = this.name;
    input.value = id;
    return input;
  }

  /** @param {SubmitEvent} event */
  #submitted(event) {
    const complaint = this.#complaint();
    if (!complaint) return;
    event.preventDefault();
    event.stopImmediatePropagation();
    const waits = complaint === "form_waits";
    this.#pending = waits ? { submitter: event.submitter } : null;
    this.tell(complaint);
    if (!waits) this.input?.focus();
  }

  /** Why the form cannot be sent now, or "". */
  #complaint() {
    const { uploads, active } = this.uploader;
    if (active) return "form_waits";
    if (uploads.some((upload) => OPEN.includes(upload.state))) return "form_stopped";
    return this.required && this.ids.length === 0 ? "form_required" : "";
  }

  #goOn() {
    const pending = this.#pending;
    this.#pending = null;
    if (!pending) return;
    this.#update();
    // By the button that was pressed, so that its name and value go along.
    const button = pending.submitter?.isConnected ? pending.submitter : null;
    if (this.#complaint()) this.tell(this.#complaint());
    else this.form?.requestSubmit(button);
  }

  #reset() {
    for (const upload of this.uploader.uploads) this.uploader.remove(upload);
  }
}
