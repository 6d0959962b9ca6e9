/**
 * The uploader on a page: markup, bound by its data attributes, and nothing else; every
 * part of it may be missing.
 *
 * The element has `data-ru-uploader` and, in `data-ru-options`, the options as JSON. All
 * that happens is told by events on it, named "resumable-uploads:" and the uploader's
 * word; "resumable-uploads:resume" can be prevented.
 */

import { Announcer, Steps } from "./announcer.js";
import { filesOf } from "./dropped.js";
import { FormField } from "./form.js";
import { acceptList } from "./limits.js";
import { errorText, refusalText } from "./reasons.js";
import { Row } from "./row.js";
import { Thumbnails } from "./thumbnails.js";
import { UnfinishedList } from "./unfinished.js";
import { ResumableUploader, State } from "./uploader.js";
import { Words } from "./words.js";

const PREFIX = "resumable-uploads:";
/** Milliseconds between two paintings, and while only the clock moves. */
const PAINT = 120;
const TICK = 250;
/** Less than this may be thrown away without a question, in bytes. */
const PRECIOUS = 8 * 1024 * 1024;
/** Of more refused files than this the rest is only counted. */
const MOST_NOTICES = 5;

const TOLD = [
  "added",
  "refused",
  "state",
  "progress",
  "resumed",
  "paused",
  "waiting",
  "complete",
  "error",
  "cancelled",
  "removed",
  "deleted",
  "renamed",
  "discarded",
  "line",
  "idle",
];

/** What listeners may prevent, or answer later by `event.detail.waitUntil(promise)`. */
const ASKED = ["submit", "resume", "cancel", "delete"];

/** @type {WeakMap<Element, UploaderWidget>} */
const widgets = new WeakMap();

/**
 * Make an element an uploader; one that is one already stays as it is.
 *
 * @param {HTMLElement} root
 * @param {Partial<import("./uploader.js").UploaderOptions> &
 *   {messages?: Record<string, string>, confirm?: (question: string) => boolean,
 *   name?: string, required?: boolean, deletable?: boolean}}
 *   [options] win over those in the markup; `name` makes it a field of its form,
 *   `deletable` offers to delete complete files from the server
 * @returns {UploaderWidget}
 */
export function mount(root, options = {}) {
  const known = widgets.get(root);
  if (known) return known;
  const widget = new UploaderWidget(root, options);
  widgets.set(root, widget);
  widget.begin();
  return widget;
}

/**
 * Make all uploaders on a page work, but those marked `data-ru-uploader="manual"`.
 *
 * @param {ParentNode} [where]
 */
export function mountAll(where = document) {
  // Those with a word there ("manual", "element") are somebody else's business.
  for (const root of where.querySelectorAll('[data-ru-uploader=""]')) {
    mount(/** @type {HTMLElement} */ (root));
  }
}

export class UploaderWidget {
  /** @type {Map<import("./upload.js").FileUpload, Row>} */
  #rows = new Map();
  /** @type {Set<Row>} */
  #dirty = new Set();
  /** @type {ReturnType<typeof setTimeout> | null} */
  #painting = null;
  /** @type {import("./uploader.js").Unfinished | undefined} */
  #wanted;
  #ending = new AbortController();
  #steps = new Steps();
  #notices = 0;
  #dragDepth = 0;
  #lineDown = false;
  #thumbnails = new Thumbnails();

  /**
   * @param {HTMLElement} root
   * @param {any} options
   */
  constructor(root, options) {
    this.root = root;
    this.options = { ...optionsOf(root), ...options };
    this.words = new Words({
      messages: this.options.messages,
      language: root.closest("[lang]")?.getAttribute("lang") ?? undefined,
    });
    const { initial = [], ...rest } = this.#uploaderOptions();
    this.uploader = new ResumableUploader(rest);
    this.initial = initial;
    this.announcer = new Announcer(this.#part("live"));
    this.list = new UnfinishedList(
      this.#part("unfinished"),
      this.#template("unfinished"),
      this.words,
    );
  }

  begin() {
    this.#showLimits();
    this.#hideWhatCannotWork();
    this.#listen();
    for (const name of TOLD) {
      this.uploader.addEventListener(name, (event) => this.#tell(event));
    }
    for (const name of ASKED) {
      this.uploader.addEventListener(name, (event) => this.#ask(event));
    }
    this.#becomeField();
    for (const facts of this.initial) this.uploader.addExisting(facts);
    this.root.dataset.ruReady = "";
    this.#dispatch("ready", { widget: this, uploader: this.uploader });
    this.refresh();
    this.#takeEarlyFiles();
  }

  #becomeField() {
    const { name, required } = this.options;
    if (!name) return;
    const { signal } = this.#ending;
    const tell = (/** @type {string} */ key) => this.#tellOfForm(key);
    this.field = new FormField(this.root, this.uploader, { name, required, signal, tell });
  }

  /** @param {string} key */
  #tellOfForm(key) {
    this.#clearNotices();
    this.#notice(key, {});
  }

  /** Ask the server what may be uploaded, where the page does not know it. */
  async learnLimits() {
    await this.uploader.fetchLimits().catch(() => {});
    this.#showLimits();
  }

  /** Leave the element alone, for a page that removes it; uploads are paused. */
  destroy() {
    this.#ending.abort();
    this.#thumbnails.close();
    this.uploader.destroy();
    if (this.#painting !== null) clearTimeout(this.#painting);
    delete this.root.dataset.ruReady;
    widgets.delete(this.root);
  }

  /** Ask the server again which uploads are unfinished. */
  async refresh() {
    this.list.show(await this.uploader.unfinished());
  }

  // From the page to the uploader.

  #uploaderOptions() {
    const { csrf } = this.options;
    return { ...this.options, csrf: { root: this.root, ...csrf } };
  }

  #listen() {
    const { root } = this;
    const ending = { signal: this.#ending.signal };
    root.addEventListener("click", (event) => this.#clicked(event), ending);
    root.addEventListener("change", (event) => this.#chosen(event), ending);
    root.addEventListener("cancel", () => (this.#wanted = undefined), ending);
    document.addEventListener("paste", (event) => this.#pasted(event), ending);
    root.addEventListener("dragenter", (event) => this.#dragged(event, 1), ending);
    root.addEventListener("dragover", (event) => this.#dragged(event, 0), ending);
    root.addEventListener("dragleave", (event) => this.#dragged(event, -1), ending);
    root.addEventListener("drop", (event) => this.#dropped(event), ending);
    window.addEventListener("beforeunload", (event) => this.#leaving(event), ending);
  }

  /** Somebody may have chosen files before this code was there. */
  #takeEarlyFiles() {
    const input = /** @type {HTMLInputElement | null} */ (this.#part("input"));
    if (input?.files?.length) this.#take(input);
  }

  /** @param {Event} event */
  #chosen(event) {
    const input = /** @type {HTMLInputElement} */ (event.target);
    if (input.matches("[data-ru=input]")) this.#take(input);
  }

  /** @param {HTMLInputElement} input */
  #take(input) {
    const files = Array.from(input.files ?? []);
    // So that the same file can be chosen again.
    input.value = "";
    this.#add(files);
  }

  /** @param {ClipboardEvent} event */
  #pasted(event) {
    const files = Array.from(event.clipboardData?.files ?? []);
    if (files.length === 0 || event.defaultPrevented || !this.#isMeant(event)) return;
    event.preventDefault();
    this.#add(files.map(named));
  }

  /**
   * Pasting is meant for the widget that has the focus, or where nothing else takes it for
   * the first one of the page.
   *
   * @param {Event} event
   */
  #isMeant({ target }) {
    const place = target instanceof Element ? target : document.body;
    const around = place.closest("[data-ru-uploader]");
    if (around || place.closest("input, textarea, [contenteditable]")) {
      return around === this.root;
    }
    return document.querySelector("[data-ru-ready]") === this.root;
  }

  /**
   * @param {DragEvent} event
   * @param {number} deeper
   */
  #dragged(event, deeper) {
    if (!event.dataTransfer?.types.includes("Files")) return;
    event.preventDefault();
    this.#dragDepth = Math.max(0, this.#dragDepth + deeper);
    this.root.toggleAttribute("data-ru-over", this.#dragDepth > 0);
  }

  /** @param {DragEvent} event */
  async #dropped(event) {
    const transfer = event.dataTransfer;
    if (!transfer?.types.includes("Files")) return;
    event.preventDefault();
    this.#dragDepth = 0;
    this.root.removeAttribute("data-ru-over");
    this.#add(await filesOf(transfer));
  }

  /** @param {BeforeUnloadEvent} event */
  #leaving(event) {
    // What is only processed does not need this page any more.
    if (this.uploader.uploads.some((upload) => upload.pausable)) event.preventDefault();
  }

  /** @param {any[]} files */
  #add(files) {
    this.#clearNotices();
    this.#compare(files);
    this.uploader.add(files);
  }

  /**
   * Say so when another file was chosen than the one to be continued.
   *
   * @param {any[]} files
   */
  #compare(files) {
    const wanted = this.#wanted;
    this.#wanted = undefined;
    if (!wanted || files.length !== 1) return;
    const chosen = files[0].file ?? files[0];
    const sameName = chosen.name.normalize("NFC") === wanted.name.normalize("NFC");
    if (sameName && chosen.size === wanted.size) return;
    this.#notice("other_file", { chosen: chosen.name, wanted: wanted.name });
  }

  /** @param {MouseEvent} event */
  #clicked(event) {
    const target = /** @type {HTMLElement} */ (event.target);
    const button = /** @type {HTMLElement | null} */ (target.closest("[data-ru-action]"));
    if (!button) return;
    const upload = this.#uploadOf(button);
    const action = button.dataset.ruAction ?? "";
    if (upload) this.#act(action, upload);
    else this.#actOnAll(action, button);
    this.#schedule(0);
  }

  /**
   * @param {string} action
   * @param {import("./upload.js").FileUpload} upload
   */
  #act(action, upload) {
    if (action === "pause") upload.pause();
    if (action === "resume") upload.resume();
    if (action === "retry" || action === "retry_now") upload.retry();
    if (action === "cancel" && this.#mayCancel(upload)) upload.cancel();
    if (action === "clear") this.#remove(upload);
    if (action === "delete") this.#delete(upload);
    if (action === "remove" && this.#mayCancel(upload)) this.#remove(upload);
  }

  /**
   * @param {string} action
   * @param {HTMLElement} button
   */
  #actOnAll(action, button) {
    const { uploader } = this;
    if (action === "pause-all") uploader.pause();
    if (action === "resume-all") uploader.resume();
    if (action === "retry-all") uploader.retry();
    if (action === "cancel-all" && this.#sure("confirm_cancel_all")) uploader.cancel();
    if (action === "clear") this.#clear();
    if (action === "choose-again") this.#chooseAgain(button);
    if (action === "discard") this.#discard(button);
  }

  /** @param {import("./upload.js").FileUpload} upload */
  #mayCancel(upload) {
    const lost = upload.state !== State.COMPLETE && upload.received > PRECIOUS;
    return !lost || this.#sure("confirm_cancel", { name: upload.name });
  }

  /**
   * @param {string} question
   * @param {object} [values]
   */
  #sure(question, values) {
    const ask = this.options.confirm ?? ((/** @type {string} */ text) => confirm(text));
    return ask(this.words.say(question, values));
  }

  /** @param {import("./upload.js").FileUpload} upload */
  #remove(upload) {
    const element = this.#rows.get(upload)?.element;
    const next = element?.nextElementSibling ?? element?.previousElementSibling;
    this.uploader.remove(upload);
    const place = next?.querySelector("[data-ru=end]") ?? this.#part("input");
    /** @type {HTMLElement | null} */ (place)?.focus();
  }

  /** @param {import("./upload.js").FileUpload} upload */
  async #delete(upload) {
    const { name } = upload;
    if (!this.#sure("confirm_delete", { name })) return;
    try {
      if (await upload.delete()) this.#remove(upload);
    } catch (problem) {
      const reason = errorText(this.words, /** @type {any} */ (problem));
      this.#notice("not_deleted", { name, reason });
    }
  }

  #clear() {
    const over = [State.COMPLETE, State.CANCELLED];
    for (const upload of this.uploader.uploads) {
      if (over.includes(upload.state)) this.uploader.remove(upload);
    }
    this.#part("input")?.focus();
  }

  /** @param {HTMLElement} button */
  #chooseAgain(button) {
    this.#wanted = this.list.find(idAt(button));
    this.#part("input")?.click();
  }

  /** @param {HTMLElement} button */
  async #discard(button) {
    const item = this.list.find(idAt(button));
    if (!item || !this.#sure("confirm_discard", { name: item.name })) return;
    try {
      await this.uploader.discard(item);
      this.list.drop(item.id);
      this.#part("input")?.focus();
    } catch (problem) {
      const reason = errorText(this.words, /** @type {any} */ (problem));
      this.#notice("not_discarded", { name: item.name, reason });
    }
  }

  // From the uploader to the page.

  /** @param {any} event */
  #tell(event) {
    const { type, detail } = event;
    const reactions = this.#reactions;
    reactions[type]?.(detail);
    this.#touch(detail.upload, type !== "progress");
    this.#dispatch(type, detail);
  }

  /** @param {any} event */
  #ask(event) {
    if (!this.#dispatch(event.type, event.detail, true)) event.preventDefault();
  }

  /** @type {Record<string, (detail: any) => void>} */
  get #reactions() {
    return {
      added: ({ upload }) => this.#added(upload),
      removed: ({ upload }) => this.#removed(upload),
      deleted: ({ upload }) => this.#sayOf("said_deleted", upload),
      renamed: ({ upload }) => this.#rows.get(upload)?.name(),
      refused: (detail) => this.#refused(detail),
      resumed: ({ upload, received }) => this.#resumed(upload, received),
      complete: ({ upload }) => this.#sayOf("said_complete", upload),
      paused: ({ upload }) => this.#sayOf("said_paused", upload),
      cancelled: ({ upload }) => this.#sayOf("said_cancelled", upload),
      error: ({ upload, error }) =>
        this.#sayOf("said_failed", upload, { reason: errorText(this.words, error) }),
      line: ({ line }) => this.#lineChanged(line),
      idle: () => this.#idle(),
    };
  }

  /** @param {import("./upload.js").FileUpload} upload */
  #added(upload) {
    const template = this.#template("file");
    const copy = /** @type {DocumentFragment | undefined} */ (
      template?.content.cloneNode(true)
    );
    const element = /** @type {HTMLElement | null} */ (copy?.firstElementChild ?? null);
    if (!element) return;
    const { deletable } = this.options;
    this.#rows.set(upload, new Row(element, upload, this.words, { deletable }));
    this.#part("files")?.append(element);
    const canvas = element.querySelector("[data-ru=thumb]");
    if (canvas instanceof HTMLCanvasElement) {
      this.#thumbnails.add(element, upload.file, canvas);
    }
    if (upload.state === State.COMPLETE) return;
    this.#sayOf("said_added", upload);
  }

  /** @param {import("./upload.js").FileUpload} upload */
  #removed(upload) {
    this.#rows.get(upload)?.element.remove();
    this.#rows.delete(upload);
  }

  /** @param {any} detail */
  #refused({ file, ...refusal }) {
    this.#showNotice(refusalText(this.words, refusal, file));
  }

  /**
   * @param {import("./upload.js").FileUpload} upload
   * @param {number} received
   */
  #resumed(upload, received) {
    const row = this.#rows.get(upload);
    if (row) row.received = received;
    this.list.drop(upload.server?.id);
    this.#sayOf("said_resumed", upload, { received: this.words.size(received) });
  }

  /** @param {import("./retry.js").Line} line */
  #lineChanged(line) {
    if (line.troubled === this.#lineDown) return;
    this.#lineDown = line.troubled;
    for (const row of this.#rows.values()) this.#dirty.add(row);
    if (line.troubled && this.uploader.active) this.#say("said_waiting");
  }

  #idle() {
    const { files, complete } = this.uploader.totals;
    if (files > 1 && files === complete) this.#say("said_all_complete");
  }

  /**
   * @param {import("./upload.js").FileUpload | undefined} upload
   * @param {boolean} soon
   */
  #touch(upload, soon) {
    const row = upload && this.#rows.get(upload);
    if (row) this.#dirty.add(row);
    this.#schedule(soon ? 0 : PAINT);
  }

  /** @param {number} delay milliseconds */
  #schedule(delay) {
    if (this.#painting !== null && delay > 0) return;
    if (this.#painting !== null) clearTimeout(this.#painting);
    this.#painting = setTimeout(() => this.#paint(), delay);
  }

  #paint() {
    this.#painting = null;
    const circumstances = { lineDown: this.#lineDown };
    for (const row of this.#dirty) row.paint(circumstances);
    this.#dirty.clear();
    this.#paintTotal();
    this.#paintLine();
    if (this.uploader.active) this.#tick();
  }

  /** Speeds change even when nothing happens. */
  #tick() {
    for (const [upload, row] of this.#rows) {
      if (upload.state === State.UPLOADING) this.#dirty.add(row);
    }
    this.#schedule(TICK);
  }

  #paintTotal() {
    const { totals } = this.uploader;
    const fraction = totals.size ? totals.sent / totals.size : 0;
    this.#hide("total", totals.files === 0);
    this.#write("total-files", this.words.say("files_complete", totals));
    this.#write("total-facts", this.#totalFacts(totals));
    const bar = /** @type {HTMLProgressElement | null} */ (this.#part("total-bar"));
    if (bar) bar.value = totals.files > 0 && totals.files === totals.complete ? 1 : fraction;
    this.#paintButtons(totals);
    const step = this.#steps.reach(fraction);
    if (step !== null && step < 100) this.#say("said_percent", { percent: step });
  }

  /** @param {ResumableUploader["totals"]} totals */
  #totalFacts({ sent, size, speed, timeLeft, active }) {
    const { words } = this;
    const facts = [words.say("amount", { sent: words.size(sent), size: words.size(size) })];
    if (active && !this.#lineDown && speed > 0 && timeLeft !== null) {
      facts.push(words.say("speed", { speed: words.size(Math.round(speed)) }));
      facts.push(words.say("time_left", { time: words.duration(timeLeft) }));
    }
    return facts.join(" · ");
  }

  /** @param {ResumableUploader["totals"]} totals */
  #paintButtons({ active, paused, failed }) {
    const pausable = this.uploader.uploads.some((upload) => upload.pausable);
    const over = this.uploader.uploads.some((upload) =>
      [State.COMPLETE, State.CANCELLED].includes(upload.state),
    );
    const main = this.#part("main-all");
    if (main && (pausable || paused)) {
      main.dataset.ruAction = pausable ? "pause-all" : "resume-all";
      main.textContent = this.words.say(pausable ? "pause_all" : "resume_all");
    }
    this.#hide("main-all", !pausable && !paused);
    this.#hide("retry-all", failed < 2);
    this.#hide("cancel-all", active + paused < 2);
    this.#hide("clear", !over);
  }

  #paintLine() {
    const { line, active } = this.uploader;
    this.#write("line", line.troubled && active ? this.#lineText(line) : "");
  }

  /** @param {import("./retry.js").Line} line */
  #lineText(line) {
    if (line.offline) return this.words.say("offline");
    const seconds = Math.ceil((line.nextTry - Date.now()) / 1000);
    return this.words.say(seconds > 0 ? "line_down" : "line_trying", { seconds });
  }

  #hideWhatCannotWork() {
    const folders = "webkitdirectory" in HTMLInputElement.prototype;
    this.#hide("folder", !folders);
  }

  #showLimits() {
    const { limits } = this.uploader;
    const { maxFiles } = this.options;
    const { words } = this;
    const accept = acceptList(limits);
    const sentences = [];
    if (limits.max_size) {
      sentences.push(words.say("limit_size", { max: words.size(limits.max_size) }));
    }
    if (accept) {
      sentences.push(words.say("limit_types", { allowed: accept.split(",").join(", ") }));
    }
    if (maxFiles > 1) sentences.push(words.say("limit_files", { max: maxFiles }));
    this.#write("limits", sentences.join(" "));
  }

  // Small matters.

  #clearNotices() {
    this.#notices = 0;
    this.#part("notices")?.replaceChildren();
  }

  /**
   * @param {string} key
   * @param {object} values
   */
  #notice(key, values) {
    this.#showNotice(this.words.say(key, values));
  }

  /** @param {string} text */
  #showNotice(text) {
    const place = this.#part("notices");
    if (!place) return;
    this.#notices += 1;
    const more = this.#notices - MOST_NOTICES;
    if (more <= 1) place.append(document.createElement("p"));
    const item = /** @type {HTMLElement} */ (place.lastElementChild);
    item.className = "ru-notice";
    item.textContent = more > 0 ? this.words.say("refused_more", { count: more }) : text;
  }

  /**
   * @param {string} key
   * @param {object} [values]
   */
  #say(key, values) {
    this.announcer.say(this.words.say(key, values));
  }

  /**
   * @param {string} key
   * @param {import("./upload.js").FileUpload} upload
   * @param {object} [values]
   */
  #sayOf(key, upload, values) {
    this.#say(key, { name: upload.name, ...values });
  }

  /** @param {HTMLElement} element */
  #uploadOf(element) {
    const found = element.closest("[data-ru-row]");
    for (const [upload, row] of this.#rows) if (row.element === found) return upload;
    return null;
  }

  /**
   * @param {string} name
   * @returns {HTMLElement | null}
   */
  #part(name) {
    return this.root.querySelector(`[data-ru="${name}"]`);
  }

  /**
   * @param {string} name
   * @returns {HTMLTemplateElement | null}
   */
  #template(name) {
    return this.root.querySelector(`template[data-ru-template="${name}"]`);
  }

  /**
   * @param {string} name
   * @param {boolean} hidden
   */
  #hide(name, hidden) {
    const part = this.#part(name);
    if (!part || part.hidden === hidden) return;
    const focused = hidden && part.contains(document.activeElement);
    part.hidden = hidden;
    if (focused) this.#part("input")?.focus();
  }

  /**
   * @param {string} name
   * @param {string} text
   */
  #write(name, text) {
    const part = this.#part(name);
    if (!part) return;
    if (part.textContent !== text) part.textContent = text;
    part.hidden = text === "";
  }

  /**
   * @param {string} name
   * @param {object} detail
   * @param {boolean} [cancelable]
   * @returns {boolean} was it not prevented?
   */
  #dispatch(name, detail, cancelable = false) {
    const options = { detail, cancelable, bubbles: true };
    return this.root.dispatchEvent(new CustomEvent(PREFIX + name, options));
  }
}

/** @param {HTMLElement} root */
function optionsOf(root) {
  return JSON.parse(root.dataset.ruOptions || "{}");
}

/** @param {HTMLElement} element */
function idAt(element) {
  const item = /** @type {HTMLElement | null} */ (element.closest("[data-ru-id]"));
  return item?.dataset.ruId;
}

/**
 * Browsers call every pasted picture "image.png": with the time they can be told apart.
 *
 * @param {File} file
 */
function named(file) {
  if (!/^image\.\w+$/.test(file.name)) return file;
  const moment = new Date().toISOString().replace("T", " ").replaceAll(":", ".").slice(0, 23);
  const name = file.name.replace("image", `pasted ${moment}`);
  return new File([file], name, { type: file.type, lastModified: file.lastModified });
}
