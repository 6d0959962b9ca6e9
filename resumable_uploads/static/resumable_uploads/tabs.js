/**
 * One tab at a time sends a file: by Web Locks, which end with the tab that holds them.
 * Where the browser has none (plain http) every tab sends; the server takes it.
 */

const PREFIX = "resumable-uploads";

/**
 * @typedef {{request: (name: string, options: {ifAvailable?: boolean,
 *   signal?: AbortSignal}, use: (lock: object | null) => any) => Promise<any>}} Locks
 */

export class Tabs {
  /**
   * @param {{scope?: string, locks?: Locks | null,
   *   makeChannel?: ((name: string) => BroadcastChannel) | null}} [options]
   */
  constructor({ scope = "", locks, makeChannel } = {}) {
    this.prefix = `${PREFIX}:${scope}:`;
    this.locks = locks === undefined ? (globalThis.navigator?.locks ?? null) : locks;
    this.makeChannel = makeChannel === undefined ? browserChannel() : makeChannel;
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
    return this.#request(key, { ifAvailable: true }).catch(() => () => {});
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
    let url = /** @type {string | null} */ (null);
    const channel = this.makeChannel?.(this.prefix + key);
    if (channel) channel.onmessage = ({ data }) => (url = data.url);
    try {
      const leave = (await this.#request(key, { signal })) ?? (() => {});
      return { leave, url };
    } finally {
      channel?.close();
    }
  }

  /**
   * Tell those who wait that the file is on the server.
   *
   * @param {string} key
   * @param {string} url
   */
  tell(key, url) {
    const channel = this.makeChannel?.(this.prefix + key);
    channel?.postMessage({ url });
    channel?.close();
  }

  /**
   * @param {string} key
   * @param {{ifAvailable?: boolean, signal?: AbortSignal}} options
   * @returns {Promise<(() => void) | null>}
   */
  #request(key, options) {
    const locks = /** @type {Locks} */ (this.locks);
    return new Promise((resolve, reject) => {
      const hold = (/** @type {object | null} */ lock) => {
        if (!lock) return resolve(null);
        // The lock is held until this promise is kept.
        return new Promise((leave) => resolve(() => leave(undefined)));
      };
      locks.request(this.prefix + key, options, hold).catch(reject);
    });
  }
}

function browserChannel() {
  const { BroadcastChannel: Channel } = globalThis;
  return Channel ? (/** @type {string} */ name) => new Channel(name) : null;
}
