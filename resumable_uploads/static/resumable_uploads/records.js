/**
 * What this browser remembers of unfinished uploads, for some days. The server's list
 * is the truth; a browser that stores nothing (private mode, full, forbidden) works too.
 */

const PREFIX = "resumable-uploads";
const DAY = 24 * 60 * 60 * 1000;

/**
 * @typedef {object} UploadRecord
 * @property {string} key the client key
 * @property {string} id
 * @property {string} url
 * @property {string} name
 * @property {number} size bytes
 * @property {string} relativePath
 * @property {string} policy
 * @property {number} received bytes
 * @property {string} [checksum] of the whole file, so that it is not computed twice
 * @property {any} [custom] what the page keeps with it (`setCustomResumeData`)
 * @property {number} touched milliseconds since 1970
 */

export class Records {
  /**
   * @param {{storage?: Storage | null, scope?: string, expireIn?: number,
   *   now?: () => number}} [options] `scope` keeps the records of people who share a
   *   browser apart, `expireIn` is days since the last change
   */
  constructor(options = {}) {
    this.storage = options.storage === undefined ? browserStorage() : options.storage;
    this.prefix = `${PREFIX}:${options.scope ?? ""}:`;
    this.lifetime = (options.expireIn ?? 7) * DAY;
    this.now = options.now ?? Date.now;
  }

  /** @param {Omit<UploadRecord, "touched">} facts */
  save(facts) {
    const text = JSON.stringify({ ...facts, touched: this.now() });
    this.#try((storage) => storage.setItem(this.prefix + facts.key, text));
  }

  /**
   * @param {string} key
   * @returns {UploadRecord | null}
   */
  get(key) {
    return this.#read(this.prefix + key);
  }

  /** @param {string} key */
  remove(key) {
    this.#try((storage) => storage.removeItem(this.prefix + key));
  }

  /**
   * Return what is not expired, newest first; what is expired is dropped.
   *
   * @returns {UploadRecord[]}
   */
  list() {
    const found = this.#names().map((name) => this.#read(name));
    const records = /** @type {UploadRecord[]} */ (found.filter(Boolean));
    return records.sort((a, b) => b.touched - a.touched);
  }

  #names() {
    const names = this.#try((storage) =>
      Array.from({ length: storage.length }, (_, i) => storage.key(i)),
    );
    const ours = (names ?? []).filter((name) => name?.startsWith(this.prefix));
    return /** @type {string[]} */ (ours);
  }

  /**
   * @param {string} name
   * @returns {UploadRecord | null}
   */
  #read(name) {
    const text = this.#try((storage) => storage.getItem(name));
    if (!text) return null;
    const record = parsed(text);
    if (record && record.touched + this.lifetime > this.now()) return record;
    this.#try((storage) => storage.removeItem(name));
    return null;
  }

  /**
   * @template T
   * @param {(storage: Storage) => T} use
   * @returns {T | undefined}
   */
  #try(use) {
    try {
      return this.storage ? use(this.storage) : undefined;
    } catch {
      return undefined;
    }
  }
}

/** @returns {Storage | null} null where the browser forbids even to look */
function browserStorage() {
  try {
    return globalThis.localStorage ?? null;
  } catch {
    return null;
  }
}

/**
 * @param {string} text
 * @returns {UploadRecord | null}
 */
function parsed(text) {
  try {
    const record = JSON.parse(text);
    return typeof record?.key === "string" && record.touched > 0 ? record : null;
  } catch {
    return null;
  }
}
