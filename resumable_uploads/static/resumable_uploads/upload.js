/**
 * One file on its way: its states, and what to do when something fails. Sends nothing
 * itself (protocol.js), and shows nothing (widget.js).
 */

import { ChunkPlan } from "./chunks.js";
import { remedyFor, Remedy, UploadError } from "./failures.js";
import { sampleDigest } from "./identity.js";
import { checkPicture } from "./images.js";
import { Speedometer } from "./progress.js";
import { delayAfter } from "./retry.js";
import { hex } from "./sha256.js";
import { sendChunks } from "./sending.js";
import { orCalledOff, pause } from "./signals.js";

/** @type {Readonly<Record<string, string>>} */
export const State = Object.freeze({
  /** Waiting for its turn. */
  QUEUED: "queued",
  /** Being recognised, and opened on the server. */
  PREPARING: "preparing",
  UPLOADING: "uploading",
  /** Something failed; it goes on by itself. */
  WAITING: "waiting",
  PAUSED: "paused",
  /** All bytes are there; the server puts the file together. */
  PROCESSING: "processing",
  COMPLETE: "complete",
  /** It does not go on by itself. */
  FAILED: "failed",
  CANCELLED: "cancelled",
});

const RUNNING = [State.QUEUED, State.PREPARING, State.UPLOADING, State.WAITING];
/** How often in a row an upload may be opened anew, or only asked about. */
const MOST_RESTARTS = 3;
const MOST_QUESTIONS = 8;
/** A proxy that refuses even this much cannot be helped. */
const SMALLEST_CHUNK = 64 * 1024;
/** Milliseconds between questions whether the file is put together. */
const POLLS = [200, 400, 800, 1500, 3000, 5000];

/**
 * What all uploads of an uploader share.
 *
 * @typedef {object} Kit
 * @property {(upload: FileUpload) => import("./protocol.js").RestProtocol} protocolFor
 * @property {import("./lanes.js").Lanes} lanes
 * @property {import("./lanes.js").Lanes} desk where files are made ready
 * @property {import("./hashing.js").Hasher} hasher
 * @property {import("./sizing.js").Sizing} sizing
 * @property {import("./tabs.js").Tabs} tabs
 * @property {import("./retry.js").Line} line
 * @property {import("./records.js").Records} records
 * @property {(file: File, more: {relativePath: string, policy: string, keys: any[]}) =>
 *   Promise<string>} identify
 * @property {(question: "submit" | "resume" | "cancel" | "delete", upload: FileUpload,
 *   more?: object) => boolean | Promise<boolean>} permit asks the page, which may say no
 * @property {(name: string, upload: FileUpload, more?: object) => void} notify
 * @property {(bytes: number) => void} moved
 * @property {() => import("./limits.js").Limits} limits
 * @property {{parallel: number, retries: number, digest: boolean, checksum: boolean,
 *   endsFirst: boolean, pictures: import("./images.js").PictureLimits | null, policy: (file: File) => string,
 *   metadata: (file: File) => object, customKeys: (file: File) => any[],
 *   preprocess: ((file: File, upload: FileUpload) => any) | null}} settings
 */

/**
 * What another page or device needs to go on, given the same file.
 *
 * @typedef {object} Checkpoint
 * @property {1} version
 * @property {string} id
 * @property {string} url
 * @property {string} name
 * @property {number} size bytes
 * @property {string} relativePath
 * @property {string} policy
 * @property {string} sample digest of size and samples: is it the same file?
 * @property {any} custom
 */

export class FileUpload {
  /** @type {ChunkPlan | null} */
  #plan = null;
  /** @type {Map<number, number>} chunk number -> bytes that have left */
  #inFlight = new Map();
  /** @type {AbortController} */
  #run = new AbortController();
  #ended = Promise.resolve();
  #alive = false;
  /** Does the server's upload come from an earlier time, and was nobody asked yet? */
  #found = false;
  #strikes = noStrikes();
  /** Has the page been asked, and the file been made ready? */
  #ready = false;
  #permitted = false;
  #checksum = "";
  /** Gives the file back to other tabs. @type {(() => void) | null} */
  #leaveTab = null;

  /**
   * @param {File} file
   * @param {{order: number, relativePath: string, kit: Kit}} more
   */
  constructor(file, { order, relativePath, kit }) {
    this.file = file;
    this.name = file.name;
    this.size = file.size;
    this.order = order;
    this.relativePath = relativePath;
    this.kit = kit;
    this.policy = kit.settings.policy(file);
    this.protocol = kit.protocolFor(this);
    this.state = State.QUEUED;
    /** @type {string | null} the client key, once it is known */
    this.key = null;
    /** @type {import("./protocol.js").UploadFacts | null} */
    this.server = null;
    /** @type {UploadError | null} why it waits or failed */
    this.error = null;
    /** What the page keeps with this file, also after a reload. */
    this.customResumeData = /** @type {any} */ (null);
    this.speedometer = new Speedometer();
  }

  /**
   * Make an entry for a file that is on the server already.
   *
   * @param {import("./protocol.js").UploadFacts} facts
   * @param {{order: number, kit: Kit}} more
   */
  static existing(facts, { order, kit }) {
    const { filename: name, relative_path: folder } = facts;
    const relativePath = folder ? `${folder}/${name}` : "";
    const upload = new FileUpload(new File([], name), { order, relativePath, kit });
    upload.size = facts.size ?? 0;
    upload.server = facts;
    upload.state = State.COMPLETE;
    return upload;
  }

  /** Bytes that are there or have left. */
  get sent() {
    if (this.state === State.COMPLETE) return this.size;
    let bytes = this.#plan?.confirmed ?? 0;
    for (const loaded of this.#inFlight.values()) bytes += loaded;
    return Math.min(bytes, this.size);
  }

  /** Bytes that are recorded on the server. */
  get received() {
    return this.#plan?.confirmed ?? 0;
  }

  /** Bytes per second. */
  get speed() {
    return this.state === State.UPLOADING ? this.speedometer.rate : 0;
  }

  /** Is it under way, or will it be without anybody's help? */
  get running() {
    return RUNNING.includes(this.state) || this.state === State.PROCESSING;
  }

  /** Can it be paused? */
  get pausable() {
    return RUNNING.includes(this.state);
  }

  /** Begin, or go on after a pause or a failure. */
  start() {
    if (this.#alive) return;
    this.#alive = true;
    this.#strikes = noStrikes();
    this.error = null;
    this.#run = new AbortController();
    const { signal } = this.#run;
    this.#become(State.QUEUED);
    this.#ended = this.#ended.then(() => this.#live(signal));
  }

  /** Stop sending; what the server has recorded stays there. */
  pause() {
    if (!this.pausable) return;
    this.#stop();
    this.#become(State.PAUSED);
  }

  /** Go on after a pause. */
  resume() {
    if (this.state === State.PAUSED) this.start();
  }

  /** Try again after a failure, or at once instead of later. */
  retry() {
    if (this.state === State.FAILED) this.start();
    else if (this.running) this.#hurry();
  }

  /**
   * Give the upload up and throw away what the server has of it.
   *
   * @returns {Promise<void>} when the server knows, or cannot be reached
   */
  async cancel() {
    if ([State.COMPLETE, State.CANCELLED].includes(this.state)) return;
    const permitted = this.kit.permit("cancel", this);
    // At once, where nobody has to be waited for.
    if (permitted !== true && !(await permitted)) return;
    this.#stop();
    this.#become(State.CANCELLED);
    await this.#ended;
    const url = this.server?.url;
    this.#forget();
    // Where the server cannot be told it expires.
    if (url) await this.protocol.discard(url).catch(() => {});
  }

  /**
   * Delete a complete file from the server. Rejected where the server does not let it.
   *
   * @returns {Promise<boolean>} false: the page said no, or it is not complete
   */
  async delete() {
    if (this.state !== State.COMPLETE || !this.server) return false;
    if (!(await this.kit.permit("delete", this))) return false;
    await this.protocol.discard(this.server.url);
    this.server = null;
    this.#become(State.CANCELLED);
    this.kit.notify("deleted", this);
    return true;
  }

  /**
   * Give the file another name, before the server knows it.
   *
   * @param {string} name
   * @returns {boolean} false: too late, or no name
   */
  rename(name) {
    if (this.server || this.#alive || !name.trim()) return false;
    this.name = name;
    this.kit.notify("renamed", this);
    return true;
  }

  /**
   * Keep something with the file, where this browser remembers the upload.
   *
   * @param {any} data as JSON
   */
  setCustomResumeData(data) {
    this.customResumeData = data;
    if (this.key && this.server && this.state !== State.COMPLETE) this.#remember();
  }

  /**
   * Return what another page or device needs to go on, as data for JSON; it gives nobody
   * rights that the server does not give them.
   *
   * @returns {Promise<Checkpoint | null>} null while the server does not know the file
   */
  async checkpoint() {
    if (!this.server || this.state === State.COMPLETE) return null;
    const { name, size, relativePath, policy, customResumeData: custom } = this;
    const { id, url } = this.server;
    const sample = await sampleDigest(this.file);
    return { version: 1, id, url, name, size, relativePath, policy, sample, custom };
  }

  /**
   * Go on with the upload of a checkpoint; before the start.
   *
   * @param {Checkpoint} checkpoint whose file this is, as `sample` has shown
   */
  takeUp({ url, custom }) {
    this.server = /** @type {any} */ ({ url });
    this.customResumeData = custom;
    this.#found = true;
  }

  #stop() {
    this.#alive = false;
    this.#run.abort(new DOMException("Stopped", "AbortError"));
    this.#inFlight.clear();
    this.speedometer.reset();
  }

  #hurry() {
    this.kit.line.tryNow();
    this.#strikes.wake();
  }

  /**
   * Everything from the start to an end.
   *
   * @param {AbortSignal} signal
   */
  async #live(signal) {
    try {
      if (!(await this.#mayBegin(signal))) return this.#withdraw();
      for (let over = false; !over; ) over = await this.#roundOrRemedy(signal);
    } catch (problem) {
      if (!signal.aborted) this.#fail(problem);
    } finally {
      this.#giveUpTab();
    }
    if (!signal.aborted) this.#alive = false;
  }

  /** @param {AbortSignal} signal */
  async #mayBegin(signal) {
    const permitted = this.#permitted || this.kit.permit("submit", this);
    this.#permitted = await orCalledOff(Promise.resolve(permitted), signal);
    return this.#permitted;
  }

  #withdraw() {
    this.#alive = false;
    this.#become(State.CANCELLED);
  }

  /**
   * @param {AbortSignal} signal
   * @returns {Promise<boolean>} is it over?
   */
  async #roundOrRemedy(signal) {
    signal.throwIfAborted();
    try {
      await this.#round(signal);
      return true;
    } catch (problem) {
      signal.throwIfAborted();
      await this.#remedy(problem, signal);
      return false;
    }
  }

  /** @param {AbortSignal} signal */
  async #round(signal) {
    const facts = this.server ? await this.#ask(signal) : await this.#open(signal);
    await this.#settleOn(facts, signal);
    if (facts.state === "receiving") await this.#send(signal);
    await this.#finish(signal);
  }

  // Finding the upload on the server, or opening it.

  /** @param {AbortSignal} signal */
  async #open(signal) {
    await this.#makeReady(signal);
    // A lane, so that hundreds of files are opened one after another, in their order.
    const leave = await this.kit.lanes.take(this.order, signal);
    try {
      this.#advance(State.PREPARING, signal);
      await this.#takeTab();
      const { created, upload } = await this.protocol.open(this.#wish(), signal);
      this.#found ||= !created;
      return upload;
    } finally {
      leave();
    }
  }

  /**
   * Let the page change the file, recognise it, and sum it up where that is wanted.
   *
   * @param {AbortSignal} signal
   */
  async #makeReady(signal) {
    if (this.#ready) return;
    const leave = await this.kit.desk.take(this.order, signal);
    try {
      this.#advance(State.PREPARING, signal);
      await this.#preprocess(signal);
      const { pictures } = this.kit.settings;
      if (pictures) await orCalledOff(checkPicture(this.file, pictures), signal);
      this.key = await this.#identify();
      const record = this.kit.records.get(this.key);
      this.customResumeData ??= record?.custom ?? null;
      this.#checksum = record?.checksum ?? (await this.#sumUp(signal));
      this.#ready = true;
    } finally {
      leave();
    }
  }

  /** @param {AbortSignal} signal */
  async #preprocess(signal) {
    const { preprocess } = this.kit.settings;
    if (!preprocess) return;
    const given = this.file;
    const made = await orCalledOff(Promise.resolve(preprocess(given, this)), signal);
    if (!(made instanceof Blob)) return;
    const { type, lastModified } = given;
    this.file =
      made instanceof File ? made : new File([made], this.name, { type, lastModified });
    this.size = this.file.size;
  }

  async #identify() {
    const { kit, file, relativePath, policy } = this;
    const keys = kit.settings.customKeys(file);
    return kit.identify(file, { relativePath, policy, keys }).catch(unreadable);
  }

  /** @param {AbortSignal} signal */
  async #sumUp(signal) {
    if (!this.kit.settings.checksum) return "";
    const digest = this.kit.hasher.digest(this.file, signal).catch(unreadable);
    return `sha-256:${hex(await orCalledOff(digest, signal))}`;
  }

  #wish() {
    const { policy, kit } = this;
    const chunkSize = kit.sizing.sizeFor(this.file, kit.limits());
    return {
      filename: this.name,
      size: this.size,
      content_type: this.file.type,
      relative_path: folderOf(this.relativePath),
      client_key: this.key,
      metadata: kit.settings.metadata(this.file),
      ...(policy ? { policy } : {}),
      ...(chunkSize ? { chunk_size: chunkSize } : {}),
      ...(this.#checksum ? { checksum: this.#checksum } : {}),
    };
  }

  /** @param {AbortSignal} signal */
  async #ask(signal) {
    await this.#makeReady(signal);
    await this.#takeTab();
    const url = /** @type {string} */ (this.server?.url);
    return this.protocol.ask(url, signal);
  }

  /** Keep other tabs of this browser from sending the same file. */
  async #takeTab() {
    this.#leaveTab ??= await this.kit.tabs.take(/** @type {string} */ (this.key));
    if (!this.#leaveTab) throw new UploadError("other_tab");
  }

  #giveUpTab() {
    this.#leaveTab?.();
    this.#leaveTab = null;
  }

  /**
   * @param {import("./protocol.js").UploadFacts} facts
   * @param {AbortSignal} signal
   */
  async #settleOn(facts, signal) {
    this.server = facts;
    signal.throwIfAborted();
    if (facts.state === "rejected") throw refused(facts);
    if (["cancelled", "expired"].includes(facts.state)) throw new UploadError("gone");
    if (!this.#fits(facts)) throw new UploadError("wrong_size");
    if (this.#found) await this.#welcome(facts, signal);
    this.#plan = new ChunkPlan({
      size: this.size,
      chunkSize: facts.chunk_size,
      missing: facts.missing ?? [],
      endsFirst: this.kit.settings.endsFirst,
    });
    this.#remember();
  }

  /** @param {import("./protocol.js").UploadFacts} facts */
  #fits(facts) {
    const { most } = this.kit.sizing;
    const receiving = facts.state === "receiving";
    const sendable = facts.missing !== null && facts.chunk_size <= most;
    return facts.size === this.size && (sendable || !receiving);
  }

  /**
   * @param {import("./protocol.js").UploadFacts} facts
   * @param {AbortSignal} signal
   */
  async #welcome(facts, signal) {
    this.#found = false;
    if (facts.received === 0) return;
    const answer = Promise.resolve(this.kit.permit("resume", this, { facts }));
    if (!(await orCalledOff(answer, signal))) throw new UploadError("not_wanted");
    this.kit.notify("resumed", this, { received: facts.received });
  }

  #remember() {
    const { id, url } = /** @type {any} */ (this.server);
    this.kit.records.save({
      key: /** @type {string} */ (this.key),
      id,
      url,
      name: this.name,
      size: this.size,
      relativePath: this.relativePath,
      policy: this.policy,
      received: this.received,
      ...(this.#checksum ? { checksum: this.#checksum } : {}),
      ...(this.customResumeData === null ? {} : { custom: this.customResumeData }),
    });
  }

  #forget() {
    this.server = null;
    this.#plan = null;
    this.#inFlight.clear();
    if (this.key) this.kit.records.remove(this.key);
  }

  // Sending.

  /** @param {AbortSignal} signal */
  async #send(signal) {
    this.#advance(State.UPLOADING, signal);
    const plan = /** @type {ChunkPlan} */ (this.#plan);
    const { lanes, settings } = this.kit;
    try {
      await sendChunks({
        plan,
        signal,
        workers: settings.parallel,
        lane: (called) => lanes.take(this.order, called),
        send: (number, called) => this.#sendChunk(plan, number, called),
      });
    } catch (problem) {
      this.#strikes.rounds += 1;
      throw problem;
    }
  }

  /**
   * @param {ChunkPlan} plan
   * @param {number} number
   * @param {AbortSignal} signal
   */
  async #sendChunk(plan, number, signal) {
    const url = /** @type {string} */ (this.server?.url);
    const chunk = this.file.slice(...plan.rangeOf(number));
    const digest = await this.#contentDigest(chunk, signal);
    const onProgress = (/** @type {number} */ loaded) => this.#moved(number, loaded);
    const begun = performance.now();
    try {
      this.#moved(number, 0);
      await this.protocol.putChunk(url, number, chunk, { digest, signal, onProgress });
      plan.done(number);
    } finally {
      this.#inFlight.delete(number);
    }
    this.kit.sizing.note(chunk.size, performance.now() - begun);
    this.#strikes = noStrikes();
    this.#remember();
    this.kit.notify("progress", this);
  }

  /**
   * RFC 9530.
   *
   * @param {Blob} chunk
   * @param {AbortSignal} signal
   * @returns {Promise<string | null>}
   */
  async #contentDigest(chunk, signal) {
    if (!this.kit.settings.digest) return null;
    const digest = this.kit.hasher.digest(chunk, signal).catch(unreadable);
    const bytes = await orCalledOff(digest, signal);
    return `sha-256=:${btoa(String.fromCharCode(...bytes))}:`;
  }

  /**
   * @param {number} number
   * @param {number} loaded
   */
  #moved(number, loaded) {
    if (this.state !== State.UPLOADING) return;
    const bytes = loaded - (this.#inFlight.get(number) ?? 0);
    this.#inFlight.set(number, loaded);
    this.speedometer.add(bytes);
    this.kit.moved(bytes);
    this.kit.notify("progress", this);
  }

  // Finishing.

  /** @param {AbortSignal} signal */
  async #finish(signal) {
    this.#advance(State.PROCESSING, signal);
    const { protocol } = this;
    const url = /** @type {string} */ (this.server?.url);
    let facts = await protocol.complete(url, signal);
    for (let poll = 0; facts.state === "assembling"; poll += 1) {
      await pause(POLLS[Math.min(poll, POLLS.length - 1)], signal);
      facts = await protocol.ask(url, signal);
    }
    if (facts.state !== "complete") throw unfinished(facts);
    this.#complete(facts);
  }

  /** @param {import("./protocol.js").UploadFacts} facts */
  #complete(facts) {
    this.server = facts;
    if (this.key) {
      this.kit.records.remove(this.key);
      this.kit.tabs.tell(this.key, facts.url);
    }
    this.#become(State.COMPLETE);
    this.kit.notify("complete", this, { file: facts.file });
  }

  // When something fails.

  /**
   * Do what helps against a failure; throw it again where nothing does.
   *
   * @param {any} problem
   * @param {AbortSignal} signal
   */
  async #remedy(problem, signal) {
    /** @type {Record<string, () => any>} */
    const remedies = {
      [Remedy.WAIT]: () => this.#waitForTheLine(problem, signal),
      [Remedy.REPEAT]: () => this.#repeatLater(problem, signal),
      [Remedy.ASK]: () => this.#count("questions", MOST_QUESTIONS, problem),
      [Remedy.RESTART]: () => this.#restart(problem),
      [Remedy.DISCARD]: () => this.#discard(problem, signal),
      [Remedy.SHRINK]: () => this.#shrink(problem, signal),
      [Remedy.ADOPT]: () => this.#adopt(problem),
      [Remedy.TURN]: () => this.#waitForTheOtherTab(problem, signal),
    };
    const remedy = remedies[remedyFor(problem)];
    if (!remedy) throw problem;
    await remedy();
  }

  /**
   * @param {UploadError} problem
   * @param {AbortSignal} signal
   */
  async #waitForTheLine(problem, signal) {
    if (problem.code === "network") await this.#mustBeReadable();
    this.#wait(problem, signal);
    // The next round waits for the line, however long that takes. But where questions
    // pass and chunks do not, the same ones would be sent again and again.
    const { rounds } = this.#strikes;
    if (rounds > this.kit.settings.retries) throw problem;
    // A bad line lets less through at once; begun anew, nothing is lost that is there.
    if (rounds > 2 && this.received === 0) await this.#beginSmaller(problem, signal);
    if (rounds > 1) await this.#sleep(delayAfter(rounds), signal);
  }

  /**
   * @param {UploadError} problem
   * @param {AbortSignal} signal
   */
  async #repeatLater(problem, signal) {
    const repeats = this.#count("repeats", this.kit.settings.retries, problem);
    this.#wait(problem, signal);
    await this.#sleep(delayAfter(repeats, { retryAfter: problem.retryAfter }), signal);
  }

  /** @param {UploadError} problem */
  #restart(problem) {
    this.#count("restarts", MOST_RESTARTS, problem);
    this.#forget();
  }

  /**
   * @param {UploadError} problem
   * @param {AbortSignal} signal
   */
  async #discard(problem, signal) {
    const url = this.server?.url;
    this.#restart(problem);
    if (url) await this.protocol.discard(url, signal);
  }

  /**
   * @param {UploadError} problem
   * @param {AbortSignal} signal
   */
  async #shrink(problem, signal) {
    if (!this.#halve()) throw problem;
    this.#strikes.restarts = 0;
    await this.#discard(problem, signal);
  }

  /**
   * @param {UploadError} problem
   * @param {AbortSignal} signal
   */
  async #beginSmaller(problem, signal) {
    if (this.#halve()) await this.#discard(problem, signal);
  }

  /** Half as much at once, of all files; false where the server would not take that. */
  #halve() {
    const { sizing } = this.kit;
    const smaller = Math.floor((this.server?.chunk_size ?? 0) / 2);
    const most = this.server?.limits?.max_chunks ?? Infinity;
    if (smaller < SMALLEST_CHUNK || this.size / smaller > most) return false;
    sizing.most = Math.min(sizing.most, smaller);
    return true;
  }

  /**
   * @param {UploadError} problem
   * @param {AbortSignal} signal
   */
  async #waitForTheOtherTab(problem, signal) {
    this.#wait(problem, signal);
    const key = /** @type {string} */ (this.key);
    const { leave, url } = await this.kit.tabs.wait(key, signal);
    this.#leaveTab = leave;
    // What was sent meanwhile has to be asked for, or is complete.
    if (url) this.server = /** @type {any} */ ({ url });
  }

  /** @param {UploadError} problem */
  #adopt(problem) {
    this.#count("restarts", MOST_RESTARTS, problem);
    // The next round asks for the rest.
    this.server = /** @type {any} */ ({ url: problem.facts.url });
    this.#found = true;
  }

  /** A file that changed on disk looks like a broken line; say what it is. */
  async #mustBeReadable() {
    try {
      await this.file.slice(0, 1).arrayBuffer();
    } catch (cause) {
      unreadable(cause);
    }
  }

  /**
   * @param {UploadError} problem
   * @param {AbortSignal} signal
   */
  #wait(problem, signal) {
    this.error = problem;
    this.#advance(State.WAITING, signal);
    this.#inFlight.clear();
    this.speedometer.reset();
    this.kit.notify("waiting", this, { error: problem });
  }

  /**
   * @param {number} milliseconds
   * @param {AbortSignal} signal
   */
  async #sleep(milliseconds, signal) {
    const early = new Promise((resolve) => {
      this.#strikes.wake = () => resolve(undefined);
    });
    await Promise.race([pause(milliseconds, signal), early]);
  }

  /**
   * @param {"repeats" | "questions" | "restarts"} what
   * @param {number} most
   * @param {UploadError} problem
   * @returns {number}
   */
  #count(what, most, problem) {
    this.#strikes[what] += 1;
    if (this.#strikes[what] > most) throw problem;
    return this.#strikes[what];
  }

  /** @param {any} problem */
  #fail(problem) {
    this.error =
      problem instanceof UploadError
        ? problem
        : new UploadError("internal", String(problem?.message ?? problem));
    this.#inFlight.clear();
    this.#become(State.FAILED);
    this.kit.notify("error", this, { error: this.error });
  }

  /**
   * Go to a state in the course of a run that may have been called off meanwhile.
   *
   * @param {string} state
   * @param {AbortSignal} signal
   */
  #advance(state, signal) {
    signal.throwIfAborted();
    this.#become(state);
  }

  /** @param {string} state */
  #become(state) {
    const previous = this.state;
    if (state === previous) return;
    this.state = state;
    if (!this.running || state === State.PROCESSING) this.speedometer.reset();
    this.kit.notify("state", this, { state, previous });
    if (state === State.PAUSED) this.kit.notify("paused", this);
    if (state === State.CANCELLED) this.kit.notify("cancelled", this);
  }
}

/**
 * @param {string} path
 * @returns {string} "" for a file that came without a folder
 */
function folderOf(path) {
  return path.slice(0, Math.max(0, path.lastIndexOf("/")));
}

/** What went wrong since a chunk last arrived. */
function noStrikes() {
  return {
    repeats: 0,
    questions: 0,
    restarts: 0,
    rounds: 0,
    wake: () => {},
  };
}

/** @param {import("./protocol.js").UploadFacts} facts */
function refused(facts) {
  return new UploadError("rejected", facts.error?.detail ?? "", { status: 422 });
}

/** @param {import("./protocol.js").UploadFacts} facts */
function unfinished(facts) {
  if (facts.state === "rejected") return refused(facts);
  if (facts.state === "failed") {
    return new UploadError("assembly_failed", facts.error?.detail ?? "");
  }
  return new UploadError("gone");
}

/**
 * @param {any} cause
 * @returns {never}
 */
function unreadable(cause) {
  throw new UploadError("unreadable", "", { facts: { cause } });
}
