/**
 * One file in the list: shows how it stands. Decides nothing.
 */

import { errorText } from "./reasons.js";
import { State } from "./upload.js";

/** What the first button does in each state; no button in the others. */
/** @type {Record<string, string>} */
const MAIN_ACTION = {
  [State.QUEUED]: "pause",
  [State.PREPARING]: "pause",
  [State.UPLOADING]: "pause",
  [State.WAITING]: "retry_now",
  [State.PAUSED]: "resume",
  [State.FAILED]: "retry",
};

/** What the last button does; it cancels in the other states. */
/** @type {Record<string, string>} */
const END_ACTION = {
  [State.COMPLETE]: "clear",
  [State.CANCELLED]: "clear",
  [State.FAILED]: "remove",
};

const OVER = [State.COMPLETE, State.CANCELLED];

export class Row {
  /**
   * @param {HTMLElement} element made from the template "file"
   * @param {import("./upload.js").FileUpload} upload
   * @param {import("./words.js").Words} words
   * @param {{deletable?: boolean}} [options]
   */
  constructor(element, upload, words, { deletable = false } = {}) {
    this.element = element;
    this.upload = upload;
    this.words = words;
    this.deletable = deletable;
    this.received = 0;
    this.name();
  }

  /**
   * Show how it stands.
   *
   * @param {{lineDown?: boolean}} [circumstances]
   */
  paint({ lineDown = false } = {}) {
    const { upload } = this;
    const waits = lineDown && upload.running;
    const state = waits ? State.WAITING : upload.state;
    this.element.dataset.ruState = state;
    this.#write("state", this.words.say(state));
    this.#write("facts", this.#facts(state));
    this.#write("error", this.#error(state));
    this.#bar(state);
    this.#icons(state);
    this.#buttons(state);
    this.#download();
  }

  /** Show what it is called. */
  name() {
    const { name, relativePath } = this.upload;
    this.#write("name", relativePath || name);
    this.#part("name")?.setAttribute("title", relativePath || name);
    const label = this.words.say("progress_of", { name });
    this.#part("bar")?.setAttribute("aria-label", label);
  }

  /** @param {string} state */
  #facts(state) {
    const { upload, words } = this;
    const size = words.size(upload.size);
    if (OVER.includes(state) || upload.sent === 0) return size;
    const facts = [words.say("amount", { sent: words.size(upload.sent), size })];
    const left = upload.speedometer.timeFor(upload.size - upload.sent);
    if (this.received) facts.push(this.#continued());
    if (state === State.UPLOADING && left !== null) facts.push(...this.#pace(left));
    return facts.join(" · ");
  }

  #continued() {
    return this.words.say("continued", { received: this.words.size(this.received) });
  }

  /** @param {number} left seconds */
  #pace(left) {
    const { upload, words } = this;
    return [
      words.say("speed", { speed: words.size(Math.round(upload.speed)) }),
      words.say("time_left", { time: words.duration(left) }),
    ];
  }

  /** @param {string} state */
  #error(state) {
    const shown = state === State.FAILED || this.upload.state === State.WAITING;
    return shown ? errorText(this.words, this.upload.error) : "";
  }

  /** @param {string} state */
  #bar(state) {
    const bar = /** @type {HTMLProgressElement | null} */ (this.#part("bar"));
    if (!bar) return;
    const { size, sent } = this.upload;
    bar.hidden = OVER.includes(state) || (state === State.FAILED && sent === 0);
    // Without a value the bar is an "it works, nobody knows how long".
    if (state === State.PROCESSING) bar.removeAttribute("value");
    else bar.value = size ? sent / size : 0;
  }

  /** @param {string} state */
  #icons(state) {
    for (const icon of this.element.querySelectorAll("[data-ru-icon]")) {
      const states = (icon.getAttribute("data-ru-icon") ?? "").split(" ");
      icon.toggleAttribute("hidden", !states.includes(state));
    }
  }

  /** @param {string} state */
  #buttons(state) {
    // Looked up before: Chromium takes the focus from what is hidden when next asked.
    const focused = /** @type {HTMLElement | null} */ (document.activeElement);
    const deletes = this.deletable && state === State.COMPLETE;
    this.#button("delete", deletes ? "delete" : undefined);
    this.#button("main", MAIN_ACTION[state]);
    this.#button("end", END_ACTION[state] ?? "cancel");
    if (focused?.hidden && this.element.contains(focused)) this.#handOverFocus();
  }

  /**
   * @param {string} part
   * @param {string | undefined} action
   */
  #button(part, action) {
    const button = /** @type {HTMLButtonElement | null} */ (this.#part(part));
    if (!button) return;
    button.hidden = !action;
    if (!action || button.dataset.ruAction === action) return;
    const label = this.words.say(action);
    button.dataset.ruAction = action;
    button.textContent = label;
    const name = this.upload.name;
    button.setAttribute("aria-label", this.words.say("action_on", { action: label, name }));
  }

  /** A hidden button cannot hold the focus: hand it to the other one. */
  #handOverFocus() {
    /** @type {HTMLElement | null} */ (this.#part("end"))?.focus();
  }

  #download() {
    const link = /** @type {HTMLAnchorElement | null} */ (this.#part("download"));
    const file = this.upload.server?.file;
    if (!link || !link.hidden || this.upload.state !== State.COMPLETE || !file?.url) return;
    const action = this.words.say("download");
    link.href = file.url;
    link.textContent = action;
    link.setAttribute("aria-label", this.words.say("action_on", { action, name: file.name }));
    link.hidden = false;
  }

  /** @param {string} name */
  #part(name) {
    return this.element.querySelector(`[data-ru="${name}"]`);
  }

  /**
   * @param {string} name
   * @param {string} text
   */
  #write(name, text) {
    const part = /** @type {HTMLElement | null} */ (this.#part(name));
    if (!part) return;
    if (part.textContent !== text) part.textContent = text;
    part.hidden = text === "";
  }
}
