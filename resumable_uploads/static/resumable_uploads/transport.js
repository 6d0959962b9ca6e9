/**
 * One HTTP request by XMLHttpRequest (fetch tells no upload progress), with a watchdog
 * for lines that are open but dead. Knows nothing about uploads.
 */

import { UploadError } from "./failures.js";

/**
 * @typedef {object} Request
 * @property {string} method
 * @property {string} url
 * @property {Record<string, string>} [headers]
 * @property {Blob | string | null} [body]
 * @property {(loaded: number) => void} [onProgress] bytes that have left
 * @property {AbortSignal} [signal]
 *
 * @typedef {object} Answer
 * @property {number} status
 * @property {boolean} redirected
 * @property {string} text
 * @property {(name: string) => string | null} header
 *
 * @typedef {{send: (request: Request) => Promise<Answer>}} Transport
 */

/** Calls back when nothing was heard for some time. */
export class Watchdog {
  /** @type {ReturnType<typeof setTimeout> | undefined} */
  #timer;

  /** @param {() => void} bark */
  constructor(bark) {
    this.bark = bark;
  }

  /**
   * Wait for so many seconds, from now; 0 waits for ever.
   *
   * @param {number} seconds
   */
  wait(seconds) {
    clearTimeout(this.#timer);
    if (seconds > 0) this.#timer = setTimeout(this.bark, 1000 * seconds);
  }

  stop() {
    clearTimeout(this.#timer);
  }
}

/** The browser's way to send a request; the seam for tests and for other ways. */
export class XhrTransport {
  /**
   * @param {{stallTimeout?: number, answerTimeout?: number,
   *   withCredentials?: boolean, create?: () => XMLHttpRequest}} [options]
   *   seconds without a byte leaving, and seconds from the last byte to the answer
   */
  constructor(options = {}) {
    this.stallTimeout = options.stallTimeout ?? 30;
    this.answerTimeout = options.answerTimeout ?? 120;
    this.withCredentials = options.withCredentials ?? false;
    this.create = options.create ?? (() => new XMLHttpRequest());
  }

  /**
   * Send a request.
   *
   * @param {Request} request
   * @returns {Promise<Answer>} for every status; rejected with an `UploadError`
   *   "network" or "stalled", or with the signal's reason
   */
  send(request) {
    return new Promise((resolve, reject) => {
      if (request.signal?.aborted) return reject(request.signal.reason);
      new Exchange(this, request, resolve, reject).begin();
    });
  }
}

/** One request under way. */
class Exchange {
  /**
   * @param {XhrTransport} transport
   * @param {Request} request
   * @param {(answer: Answer) => void} resolve
   * @param {(reason: any) => void} reject
   */
  constructor(transport, request, resolve, reject) {
    this.transport = transport;
    this.request = request;
    this.resolve = resolve;
    this.reject = reject;
    this.xhr = transport.create();
    this.watchdog = new Watchdog(() => this.#stop(new UploadError("stalled")));
    this.callOff = () => this.#stop(request.signal?.reason);
  }

  begin() {
    const { xhr, request, transport } = this;
    xhr.open(request.method, request.url);
    xhr.withCredentials = transport.withCredentials;
    for (const [name, value] of Object.entries(request.headers ?? {})) {
      xhr.setRequestHeader(name, value);
    }
    this.#listen();
    request.signal?.addEventListener("abort", this.callOff, { once: true });
    this.watchdog.wait(request.body ? transport.stallTimeout : transport.answerTimeout);
    xhr.send(request.body ?? null);
  }

  #listen() {
    const { xhr, request, transport } = this;
    // Listeners on xhr.upload make a cross-origin request need a preflight: none where
    // nothing is sent.
    if (request.body) {
      xhr.upload.onprogress = (event) => {
        this.watchdog.wait(transport.stallTimeout);
        request.onProgress?.(event.loaded);
      };
      xhr.upload.onload = () => this.watchdog.wait(transport.answerTimeout);
    }
    xhr.onprogress = () => this.watchdog.wait(transport.stallTimeout);
    xhr.onload = () => this.#settle(() => this.resolve(this.#answer()));
    xhr.onerror = () => this.#settle(() => this.reject(new UploadError("network")));
    xhr.onabort = xhr.onerror;
  }

  /** @param {any} reason */
  #stop(reason) {
    this.#settle(() => this.reject(reason));
    this.xhr.abort();
  }

  /** @param {() => void} how */
  #settle(how) {
    this.watchdog.stop();
    this.request.signal?.removeEventListener("abort", this.callOff);
    how();
  }

  /** @returns {Answer} */
  #answer() {
    const { xhr, request } = this;
    return {
      status: xhr.status,
      redirected: wasRedirected(request.url, xhr.responseURL),
      text: xhr.responseText,
      header: (name) => xhr.getResponseHeader(name),
    };
  }
}

/**
 * @param {string} asked
 * @param {string} answered
 */
function wasRedirected(asked, answered) {
  if (!answered) return false;
  const base = globalThis.location?.href;
  return new URL(asked, base).href.split("#")[0] !== answered;
}
