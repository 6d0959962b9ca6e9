/**
 * One tab at a time sends a file: by Web Locks, which end with the tab that holds them.
 * Where the browser has none (plain http) every tab sends; the server takes it.
 *
 * That a file is on the server is told by a lock too, whose name says where. A message
 * might come after the file's own lock has been handed on, and the next tab would send
 * all of it once more; locks are granted and listed in order.
 */

const PREFIX = "resumable-uploads";

/** So long a tab tells where a file is, in milliseconds: those who wait look at once. */
const TOLD = 5_000;

/**
 * @typedef {{request: (name: string, options: {ifAvailable?: boolean,
 *   signal?: AbortSignal}, use: (lock: object | null) => any) => Promise<any>,
 *   query: () => Promise<{held?: {name?: string}[]}>}} Locks
 */

export class Tabs {
  /** What is being told of a file, by its key. @type {Map<string, Promise<void>>} */
  #telling = new Map();

  /** @param {{scope?: string, locks?: Locks | null}} [options] */
  constructor({ scope = "", locks } = {}) {
    this.prefix = `${PREFIX}:${scope}:`;
    this.locks = locks === undefined ? (globalThis.navigator?.locks ?? null) : locks;
  }

  /**
   * Take a file for this tab.
   *
   * @param {string} key
   * @returns {Promise<(() => void) | null>} gives it back; null: another tab has it
   */
  async take(key) {
    if (!this.locks) return () => {};
    // A browser may forbid them where a page stands in another one's frame.
    return this.#take(key, { ifAvailable: true }).catch(() => () => {});
  }

  /**
   * Wait until no other tab has the file.
   *
   * @param {string} key
   * @param {AbortSignal} signal
   * @returns {Promise<{leave: () => void, url: string | null}>} `url` of the upload that
   *   the other tab has completed meanwhile
   */
  async wait(key, signal) {
    const leave = (await this.#take(key, { signal })) ?? (() => {});
    return { leave, url: await this.#told(key) };
  }

  /**
   * Tell those who wait that the file is on the server; it is given back after that.
   *
   * @param {string} key
   * @param {string} url
   */
  tell(key, url) {
    if (!this.locks) return;
    const telling = this.#request(this.#complete(key) + url, { ifAvailable: true })
      .then((leave) => void (leave && setTimeout(leave, TOLD)))
      .catch(() => {})
      .then(() => void this.#telling.delete(key));
    this.#telling.set(key, telling);
  }

  /**
   * @param {string} key
   * @returns {Promise<string | null>}
   */
  async #told(key) {
    const locks = /** @type {Locks} */ (this.locks);
    const prefix = this.#complete(key);
    const held = await locks.query().then((all) => all.held ?? []).catch(() => []);
    const told = held.find(({ name }) => name?.startsWith(prefix));
    return told?.name?.slice(prefix.length) ?? null;
  }

  /** @param {string} key */
  #complete(key) {
    return `${this.prefix}${key}:complete:`;
  }

  /**
   * @param {string} key
   * @param {{ifAvailable?: boolean, signal?: AbortSignal}} options
   */
  async #take(key, options) {
    const leave = await this.#request(this.prefix + key, options);
    return leave && (() => void Promise.resolve(this.#telling.get(key)).then(leave));
  }

  /**
   * @param {string} name
   * @param {{ifAvailable?: boolean, signal?: AbortSignal}} options
   * @returns {Promise<(() => void) | null>} null: somebody else has it
   */
  #request(name, options) {
    const locks = /** @type {Locks} */ (this.locks);
    return new Promise((resolve, reject) => {
      const hold = (/** @type {object | null} */ lock) => {
        if (!lock) return resolve(null);
        // The lock is held until this promise is kept.
        return new Promise((leave) => resolve(() => leave(undefined)));
      };
      locks.request(name, options, hold).catch(reject);
    });
  }
}
