/**
 * The uploader: many files, one budget of requests. Needs no markup; the widget and
 * single-page applications are built on it.
 *
 *     const uploader = new ResumableUploader({ endpoint: "/uploads/" });
 *     uploader.addEventListener("complete", (event) => ...event.detail.file);
 *     uploader.add(input.files);
 */

import { UploadError } from "./failures.js";
import { clientKey } from "./identity.js";
import { Lanes } from "./lanes.js";
import { refusal } from "./limits.js";
import { Speedometer } from "./progress.js";
import { isOutage, RestProtocol } from "./protocol.js";
import { Records } from "./records.js";
import { Line } from "./retry.js";
import { XhrTransport } from "./transport.js";
import { FileUpload, State } from "./upload.js";

export { FileUpload, State, UploadError };

const DAY = 24 * 60 * 60;

/**
 * @typedef {object} UploaderOptions
 * @property {string} endpoint where uploads are opened, as "/uploads/"
 * @property {string} [policy] the name of the server's policy
 * @property {import("./limits.js").Limits} [limits] to check files before they are sent
 * @property {number} [parallel] requests with bytes at once, over all files (3)
 * @property {number} [maxFiles] files in the list at once
 * @property {number} [chunkSize] bytes; the server's choice where left out
 * @property {number} [recordsExpireIn] days (7)
 * @property {number} [retries] tries of what the server cannot do (8); a lost line is
 *   waited for without end
 * @property {number} [stallTimeout] seconds without a byte leaving (30)
 * @property {number} [answerTimeout] seconds to wait for an answer (120)
 * @property {boolean} [digest] send a SHA-256 with each chunk
 * @property {boolean} [autoStart] start files as they are added (true)
 * @property {boolean} [withCredentials] send cookies to another site
 * @property {import("./csrf.js").CsrfOptions} [csrf]
 * @property {string} [scope] keeps the records of people who share a browser apart
 * @property {object | ((file: File) => object)} [metadata] goes to the server with the file
 * @property {import("./protocol.js").ProtocolOptions["headers"]} [headers] more headers,
 *   asked for before every request, and with `again` after a 401 or 403
 * @property {(file: File) => string | null | undefined} [validate] a sentence refuses
 * @property {(upload: FileUpload, facts: import("./protocol.js").UploadFacts) => any}
 *   [onResume] false, or a promise of it: throw away what the server has, begin anew
 * @property {Storage | null} [storage] for the records; localStorage where left out
 * @property {import("./transport.js").Transport} [transport]
 * @property {import("./retry.js").Network} [network]
 * @property {import("./upload.js").Kit["identify"]} [identify]
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
    this.protocol = this.#makeProtocol();
    this.#kit = this.#makeKit();
    this.line.addEventListener("change", () => this.#emit("line", { line: this.line }));
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
   * @param {Iterable<File | {file: File, relativePath: string}>} files
   * @returns {FileUpload[]} those that were added
   */
  add(files) {
    const items = Array.from(files, (item) =>
      "file" in item ? item : { file: item, relativePath: item.webkitRelativePath ?? "" },
    );
    return items.map((item) => this.#addOne(item)).filter((upload) => upload !== null);
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
      return known.filter((facts) => this.#isUnfinished(facts)).map(fromServer);
    } catch {
      return records.filter((record) => record.policy === this.#policy).map(fromRecord);
    }
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
    return this.options.policy ?? "";
  }

  #makeRecords() {
    const { storage, scope, recordsExpireIn } = this.options;
    const seconds = this.limits.records_expire_in;
    const expireIn = recordsExpireIn ?? (seconds ? seconds / DAY : 7);
    return new Records({ storage, scope, expireIn });
  }

  #makeProtocol() {
    const { endpoint, headers, csrf } = this.options;
    const transport = this.options.transport ?? new XhrTransport(this.options);
    return new RestProtocol({ endpoint, headers, csrf, transport, line: this.line });
  }

  /** @returns {import("./upload.js").Kit} */
  #makeKit() {
    const { options } = this;
    const parallel = Math.max(1, options.parallel ?? this.limits.parallel ?? 3);
    return {
      protocol: this.protocol,
      lanes: new Lanes(parallel),
      line: this.line,
      records: this.records,
      identify: options.identify ?? clientKey,
      notify: (name, upload, more) => this.#notified(name, upload, more),
      moved: (bytes) => this.#speedometer.add(bytes),
      settings: {
        parallel,
        retries: options.retries ?? 8,
        policy: this.#policy,
        chunkSize: options.chunkSize ?? null,
        digest: options.digest ?? false,
        metadata: asFunction(options.metadata),
        onResume: options.onResume ?? (() => true),
      },
    };
  }

  /**
   * @param {{file: File, relativePath: string}} item
   * @returns {FileUpload | null}
   */
  #addOne({ file, relativePath }) {
    const reason = this.#refusal(file, relativePath);
    if (reason) {
      this.#emit("refused", { file, ...reason });
      return null;
    }
    const order = (this.#order += 1);
    const upload = new FileUpload(file, { order, relativePath, kit: this.#kit });
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
    const { maxFiles = Infinity, validate } = this.options;
    if (this.#count() >= maxFiles) return { code: "too_many_files", maxFiles };
    if (this.#alreadyListed(file, relativePath)) return { code: "already_listed" };
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
    const here = !this.#policy || facts.policy === this.#policy;
    return here && facts.received > 0 && !this.#holds(facts.id);
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
 * @param {object | ((file: File) => object) | undefined} metadata
 * @returns {(file: File) => object}
 */
function asFunction(metadata) {
  if (typeof metadata === "function") return /** @type {any} */ (metadata);
  return () => metadata ?? {};
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
  };
}

/**
 * @param {import("./records.js").UploadRecord} record
 * @returns {Unfinished}
 */
function fromRecord(record) {
  const { id, url, key, name, relativePath, size, received } = record;
  return { id, url, key, name, relativePath, size, received, expiresAt: null };
}
