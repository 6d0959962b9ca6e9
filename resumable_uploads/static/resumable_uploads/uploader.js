/**
 * The uploader: many files, one budget of requests. Needs no markup; the widget and
 * single-page applications are built on it.
 *
 *     const uploader = new ResumableUploader({ endpoint: "/uploads/" });
 *     uploader.addEventListener("complete", (event) => ...event.detail.file);
 *     uploader.add(input.files);
 */

import { UploadError } from "./failures.js";
import { Hasher } from "./hashing.js";
import { clientKey, sampleDigest } from "./identity.js";
import { Lanes } from "./lanes.js";
import { refusal } from "./limits.js";
import { Speedometer } from "./progress.js";
import { isOutage, RestProtocol } from "./protocol.js";
import { Records } from "./records.js";
import { Line } from "./retry.js";
import { Sizing } from "./sizing.js";
import { Tabs } from "./tabs.js";
import { XhrTransport } from "./transport.js";
import { FileUpload, State } from "./upload.js";

export { FileUpload, State, UploadError };

const DAY = 24 * 60 * 60;
/** Files that are made ready at once. */
const DESKS = 2;

/**
 * @typedef {object} UploaderOptions
 * @property {string | ((file: File | null) => string)} endpoint where uploads are opened,
 *   as "/uploads/"; asked without a file for the list and the limits
 * @property {string | ((file: File) => string)} [policy] the name of the server's policy
 * @property {import("./limits.js").Limits} [limits] to check files before they are sent
 * @property {number} [parallel] requests with bytes at once, over all files (3)
 * @property {number} [maxFiles] files in the list at once
 * @property {import("./sizing.js").Wish} [chunkSize] bytes, or a function of the file; the
 *   server's choice, or one by the line's speed, where left out
 * @property {boolean} [adaptChunkSize] larger chunks on a good line, smaller ones on a bad
 *   one, for the files that follow (true)
 * @property {boolean} [endsFirst] send the first and the last chunk before the others
 * @property {number} [recordsExpireIn] days (7)
 * @property {number} [retries] tries of what the server cannot do (8); a lost line is
 *   waited for without end
 * @property {number} [stallTimeout] seconds without a byte leaving (30)
 * @property {number} [answerTimeout] seconds to wait for an answer (120)
 * @property {boolean} [digest] send a SHA-256 with each chunk
 * @property {boolean} [checksum] send the SHA-256 of the whole file, which the server
 *   compares before the file is complete; the file is read once more before
 * @property {boolean} [emptyFiles] take files without a byte (true)
 * @property {number} [minSize] bytes
 * @property {import("./images.js").PictureLimits} [pictures] how large pictures must and
 *   may be, in pixels
 * @property {boolean} [autoStart] start files as they are added (true)
 * @property {boolean} [withCredentials] send cookies to another site
 * @property {import("./csrf.js").CsrfOptions} [csrf]
 * @property {string} [scope] keeps the records of people who share a browser apart
 * @property {object | ((file: File) => object)} [metadata] goes to the server with the file
 * @property {(request: {method: string, url: string, again: boolean,
 *   upload: FileUpload | null}) => Record<string, string> | Promise<Record<string, string>>}
 *   [headers] more headers, asked for before every request, and with `again` after a 401
 *   or 403
 * @property {(file: File) => string | null | undefined} [validate] a sentence refuses
 * @property {(file: File) => any[]} [customKeys] what else tells files apart, as the album
 *   it is for
 * @property {(file: File, upload: FileUpload) => any} [preprocess] a Blob, or a promise of
 *   it, is sent in place of the file; the same for the same file, or it cannot be resumed
 * @property {(upload: FileUpload) => any} [onSubmit] false, or a promise of it: do not
 *   begin
 * @property {(upload: FileUpload, facts: import("./protocol.js").UploadFacts) => any}
 *   [onResume] false, or a promise of it: throw away what the server has, begin anew
 * @property {(upload: FileUpload) => any} [onCancel] false, or a promise of it: go on
 * @property {(upload: FileUpload) => any} [onDelete] false, or a promise of it: keep it
 * @property {import("./protocol.js").UploadFacts[]} [initial] files that are on the server
 *   already, to begin the list with
 * @property {Storage | null} [storage] for the records; localStorage where left out
 * @property {import("./transport.js").Transport} [transport]
 * @property {import("./retry.js").Network} [network]
 * @property {import("./upload.js").Kit["identify"]} [identify]
 * @property {Tabs} [tabs]
 * @property {Hasher} [hasher]
 *
 * @typedef {object} Unfinished an upload that was begun and waits for its file
 * @property {string} id
 * @property {string} url
 * @property {string | null} key
 * @property {string} name
 * @property {string} relativePath
 * @property {number} size bytes
 * @property {number} received bytes
 * @property {Date | null} expiresAt
 * @property {any} custom what the page kept with it in this browser, or null
 */

export class ResumableUploader extends EventTarget {
  /** @type {FileUpload[]} */
  #uploads = [];
  #order = 0;
  #speedometer = new Speedometer();

  /** @param {UploaderOptions} options */
  constructor(options) {
    super();
    this.options = options;
    this.limits = options.limits ?? {};
    this.line = new Line({ isOutage, network: options.network });
    this.records = this.#makeRecords();
    this.transport = options.transport ?? new XhrTransport(options);
    this.protocol = this.#makeProtocol(null);
    this.hasher = options.hasher ?? new Hasher();
    this.#kit = this.#makeKit();
    this.line.addEventListener("change", () => this.#emit("line", { line: this.line }));
    for (const facts of options.initial ?? []) this.addExisting(facts);
  }

  /** @type {import("./upload.js").Kit} */
  #kit;

  // Files.

  /** The files in the list, in their order. */
  get uploads() {
    return [...this.#uploads];
  }

  /**
   * Add files. Those that may not be uploaded cause a "refused" event each.
   *
   * @param {Iterable<File | Blob | {file: File | Blob, relativePath?: string,
   *   name?: string}>} files
   * @returns {FileUpload[]} those that were added
   */
  add(files) {
    const items = Array.from(files, itemOf);
    return items.map((item) => this.#addOne(item)).filter((upload) => upload !== null);
  }

  /**
   * Put a file into the list that is on the server already.
   *
   * @param {import("./protocol.js").UploadFacts} facts as the server tells them
   * @returns {FileUpload}
   */
  addExisting(facts) {
    const order = (this.#order += 1);
    const upload = FileUpload.existing(facts, { order, kit: this.#kit });
    this.#uploads.push(upload);
    this.#emit("added", { upload });
    return upload;
  }

  /** Put the complete files of the server's list into this one, oldest first. */
  async addComplete() {
    const known = await this.protocol.list("complete");
    const mine = known.filter((facts) => this.#isOfPolicy(facts) && !this.#holds(facts.id));
    return mine.reverse().map((facts) => this.addExisting(facts));
  }

  /**
   * Go on with an upload that another page or device has begun.
   *
   * @param {import("./upload.js").Checkpoint} checkpoint as `upload.checkpoint()` gave it
   * @param {File} file
   * @returns {Promise<FileUpload | null>} null where the file was refused; rejected with an
   *   `UploadError` "other_file" where it is another one
   */
  async resumeFrom(checkpoint, file) {
    const same = file.size === checkpoint.size;
    if (!same || (await sampleDigest(file)) !== checkpoint.sample) {
      throw new UploadError("other_file");
    }
    const { relativePath } = checkpoint;
    return this.#addOne({ file, relativePath }, (upload) => upload.takeUp(checkpoint));
  }

  /** Start, or go on with, everything that is not under way. */
  start() {
    for (const upload of this.#uploads) {
      if (upload.state === State.QUEUED) upload.start();
      else upload.resume();
    }
  }

  pause() {
    for (const upload of this.#uploads) upload.pause();
  }

  resume() {
    for (const upload of this.#uploads) upload.resume();
  }

  /** Try again what failed, and at once what waits. */
  retry() {
    for (const upload of this.#uploads) upload.retry();
  }

  /** Cancel everything that is not complete. */
  async cancel() {
    await Promise.all(this.#uploads.map((upload) => upload.cancel()));
  }

  /**
   * Take a file out of the list; what is not complete is cancelled.
   *
   * @param {FileUpload} upload
   */
  remove(upload) {
    if (!this.#uploads.includes(upload)) return;
    this.#uploads = this.#uploads.filter((other) => other !== upload);
    this.#emit("removed", { upload });
    upload.cancel();
  }

  /** Stop everything, for a page that goes on without it; nothing is lost. */
  destroy() {
    this.pause();
    this.line.close();
    this.hasher.close();
  }

  // What there is to know.

  /** Is anything under way? */
  get active() {
    return this.#uploads.some((upload) => upload.running);
  }

  /** The whole list in numbers: files, and bytes; cancelled ones are left out. */
  get totals() {
    const counted = this.#uploads.filter((upload) => upload.state !== State.CANCELLED);
    const sum = (/** @type {(upload: FileUpload) => number} */ of) =>
      counted.reduce((total, upload) => total + of(upload), 0);
    const many = (/** @type {string} */ state) =>
      counted.filter((upload) => upload.state === state).length;
    const open = counted.filter((upload) => upload.running);
    const left = open.reduce((total, upload) => total + upload.size - upload.sent, 0);
    return {
      files: counted.length,
      complete: many(State.COMPLETE),
      failed: many(State.FAILED),
      paused: many(State.PAUSED),
      active: open.length,
      size: sum((upload) => upload.size),
      sent: sum((upload) => upload.sent),
      speed: this.#speedometer.rate,
      timeLeft: this.#speedometer.timeFor(left),
    };
  }

  /**
   * Return what this browser remembers of unfinished uploads, without asking the server.
   *
   * @returns {import("./records.js").UploadRecord[]} newest first
   */
  getResumableFiles() {
    return this.records.list().filter((record) => !this.#holds(record.id));
  }

  /**
   * Return the unfinished uploads that are not in the list: choose the same file again
   * to continue one. The server's answer counts; without one, this browser's records do.
   *
   * @returns {Promise<Unfinished[]>}
   */
  async unfinished() {
    const records = this.getResumableFiles();
    try {
      const known = await this.protocol.list("receiving");
      const mine = known.filter((facts) => this.#isUnfinished(facts)).map(fromServer);
      return mine.map((item) => ({ ...item, custom: this.#customOf(item.key) }));
    } catch {
      return records.filter((record) => record.policy === this.#policy).map(fromRecord);
    }
  }

  /** @param {string | null} key */
  #customOf(key) {
    return (key && this.records.get(key)?.custom) ?? null;
  }

  /**
   * Throw an unfinished upload away.
   *
   * @param {Unfinished} item
   */
  async discard(item) {
    await this.protocol.discard(item.url);
    if (item.key) this.records.remove(item.key);
    this.#emit("discarded", { item });
  }

  /**
   * Ask the server for the policy's limits, and check files by them from now on.
   *
   * @returns {Promise<import("./limits.js").Limits>}
   */
  async fetchLimits() {
    this.limits = await this.protocol.limits(this.#policy);
    return this.limits;
  }

  // The machinery.

  get #policy() {
    const { policy } = this.options;
    return typeof policy === "string" ? policy : "";
  }

  #makeRecords() {
    const { storage, scope, recordsExpireIn } = this.options;
    const seconds = this.limits.records_expire_in;
    const expireIn = recordsExpireIn ?? (seconds ? seconds / DAY : 7);
    return new Records({ storage, scope, expireIn });
  }

  /** @param {FileUpload | null} upload */
  #makeProtocol(upload) {
    const { endpoint, headers, csrf } = this.options;
    return new RestProtocol({
      endpoint: typeof endpoint === "function" ? endpoint(upload?.file ?? null) : endpoint,
      headers: headers && ((request) => headers({ ...request, upload })),
      csrf,
      transport: this.transport,
      line: this.line,
    });
  }

  /** @returns {import("./upload.js").Kit} */
  #makeKit() {
    const { options } = this;
    const parallel = Math.max(1, options.parallel ?? this.limits.parallel ?? 3);
    return {
      protocolFor: (upload) => this.#makeProtocol(upload),
      lanes: new Lanes(parallel),
      desk: new Lanes(DESKS),
      hasher: this.hasher,
      sizing: new Sizing({ wish: options.chunkSize, adapt: options.adaptChunkSize }),
      tabs: options.tabs ?? new Tabs({ scope: options.scope }),
      line: this.line,
      records: this.records,
      identify: options.identify ?? clientKey,
      notify: (name, upload, more) => this.#notified(name, upload, more),
      moved: (bytes) => this.#speedometer.add(bytes),
      permit: (question, upload, more) => this.#permit(question, upload, more),
      limits: () => this.limits,
      settings: {
        parallel,
        retries: options.retries ?? 8,
        policy: asFunction(options.policy, ""),
        digest: options.digest ?? false,
        checksum: options.checksum ?? false,
        endsFirst: options.endsFirst ?? false,
        pictures: options.pictures ?? null,
        metadata: asFunction(options.metadata, {}),
        customKeys: options.customKeys ?? (() => []),
        preprocess: options.preprocess ?? null,
      },
    };
  }

  /**
   * Ask the page by an event and by an option; either may say no, now or later.
   *
   * @param {"submit" | "resume" | "cancel" | "delete"} question
   * @param {FileUpload} upload
   * @param {any} [more]
   * @returns {boolean | Promise<boolean>}
   */
  #permit(question, upload, more) {
    /** @type {any[]} */
    const answers = [];
    const waitUntil = (/** @type {any} */ answer) => answers.push(answer);
    const detail = { upload, ...more, waitUntil };
    const event = new CustomEvent(question, { detail, cancelable: true });
    if (!this.dispatchEvent(event)) return false;
    answers.push(this.#hook(question)?.(upload, more?.facts));
    if (answers.every((answer) => typeof answer?.then !== "function")) {
      return !answers.includes(false);
    }
    return Promise.all(answers).then((all) => !all.includes(false));
  }

  /** @param {string} question */
  #hook(question) {
    const { onSubmit, onResume, onCancel, onDelete } = this.options;
    /** @type {Record<string, any>} */
    const hooks = { submit: onSubmit, resume: onResume, cancel: onCancel, delete: onDelete };
    return hooks[question];
  }

  /**
   * @param {{file: File, relativePath: string}} item
   * @param {(upload: FileUpload) => void} [prepare]
   * @returns {FileUpload | null}
   */
  #addOne({ file, relativePath }, prepare = () => {}) {
    const reason = this.#refusal(file, relativePath);
    if (reason) {
      this.#emit("refused", { file, ...reason });
      return null;
    }
    const order = (this.#order += 1);
    const upload = new FileUpload(file, { order, relativePath, kit: this.#kit });
    prepare(upload);
    this.#uploads.push(upload);
    this.#emit("added", { upload });
    if (this.options.autoStart ?? true) upload.start();
    return upload;
  }

  /**
   * @param {File} file
   * @param {string} relativePath
   */
  #refusal(file, relativePath) {
    const { maxFiles = Infinity, minSize = 0, emptyFiles = true, validate } = this.options;
    if (this.#count() >= maxFiles) return { code: "too_many_files", maxFiles };
    if (this.#alreadyListed(file, relativePath)) return { code: "already_listed" };
    if (!emptyFiles && file.size === 0) return { code: "empty" };
    if (file.size < minSize) return { code: "too_small", min_size: minSize };
    const detail = validate?.(file);
    if (detail) return { code: "refused", detail };
    return refusal(file, this.limits);
  }

  #count() {
    return this.#uploads.filter((upload) => upload.state !== State.CANCELLED).length;
  }

  /**
   * @param {File} file
   * @param {string} relativePath
   */
  #alreadyListed(file, relativePath) {
    return this.#uploads.some(
      (upload) =>
        (upload.running || upload.state === State.PAUSED) &&
        upload.name === file.name &&
        upload.size === file.size &&
        upload.file.lastModified === file.lastModified &&
        upload.relativePath === relativePath,
    );
  }

  /** @param {string} id */
  #holds(id) {
    return this.#uploads.some((upload) => upload.server?.id === id);
  }

  /** @param {import("./protocol.js").UploadFacts} facts */
  #isUnfinished(facts) {
    return this.#isOfPolicy(facts) && facts.received > 0 && !this.#holds(facts.id);
  }

  /** @param {import("./protocol.js").UploadFacts} facts */
  #isOfPolicy(facts) {
    return !this.#policy || facts.policy === this.#policy;
  }

  /**
   * @param {string} name
   * @param {FileUpload} upload
   * @param {object} [more]
   */
  #notified(name, upload, more) {
    this.#emit(name, { upload, ...more });
    if (name !== "state" || this.active) return;
    this.#speedometer.reset();
    this.#emit("idle", { totals: this.totals });
  }

  /**
   * @param {string} name
   * @param {object} detail
   */
  #emit(name, detail) {
    this.dispatchEvent(new CustomEvent(name, { detail }));
  }
}

/**
 * @template T
 * @param {T | ((file: File) => T) | undefined} value
 * @param {T} without
 * @returns {(file: File) => T}
 */
function asFunction(value, without) {
  if (typeof value === "function") return /** @type {any} */ (value);
  return () => /** @type {T} */ (value ?? without);
}

/**
 * @param {any} given a File, a Blob, or either with a name and a path
 * @returns {{file: File, relativePath: string}}
 */
function itemOf(given) {
  const { file, relativePath, name } = given.file ? given : { file: given };
  const path = relativePath ?? file.webkitRelativePath ?? "";
  if (file instanceof File && !name) return { file, relativePath: path };
  const facts = { type: file.type, lastModified: file.lastModified ?? 0 };
  const named = new File([file], name ?? file.name ?? "blob", facts);
  return { file: named, relativePath: path };
}

/**
 * @param {import("./protocol.js").UploadFacts} facts
 * @returns {Unfinished}
 */
function fromServer(facts) {
  return {
    id: facts.id,
    url: facts.url,
    key: facts.client_key,
    name: facts.filename,
    relativePath: facts.relative_path ? `${facts.relative_path}/${facts.filename}` : "",
    size: facts.size ?? 0,
    received: facts.received,
    expiresAt: facts.expires_at ? new Date(facts.expires_at) : null,
    custom: null,
  };
}

/**
 * @param {import("./records.js").UploadRecord} record
 * @returns {Unfinished}
 */
function fromRecord(record) {
  const { touched: _touched, policy: _policy, checksum: _sum, ...facts } = record;
  return { ...facts, expiresAt: null, custom: record.custom ?? null };
}
