/**
 * The requests of the REST protocol: the only module that knows its addresses, and the
 * seam for another dialect. Decides nothing: failures are thrown as `UploadError`.
 */

import { csrfHeaders } from "./csrf.js";
import { remedyFor, Remedy, UploadError } from "./failures.js";
import { retryAfterSeconds } from "./retry.js";

/** How many pages of the list of unfinished uploads are read. */
const PAGES = 5;

/**
 * What the server says about one upload.
 *
 * @typedef {object} UploadFacts
 * @property {string} id
 * @property {string} url
 * @property {string} state
 * @property {string} filename
 * @property {string} relative_path
 * @property {number | null} size bytes
 * @property {number} received bytes
 * @property {number} chunk_size bytes
 * @property {[number, number][] | null} missing inclusive ranges of chunk numbers
 * @property {string} policy
 * @property {string | null} client_key
 * @property {string | null} expires_at
 * @property {{url: string, name: string, size: number} | null} file
 * @property {{code: string, detail: string} | null} error
 * @property {Record<string, any>} [limits]
 *
 * @typedef {object} ProtocolOptions
 * @property {string} endpoint where uploads are opened, as "/uploads/"
 * @property {import("./transport.js").Transport} transport
 * @property {import("./retry.js").Line} line
 * @property {import("./csrf.js").CsrfOptions} [csrf]
 * @property {(request: {method: string, url: string, again: boolean}) =>
 *   Record<string, string> | Promise<Record<string, string>>} [headers]
 */

/** Is this failure one of the whole line, and not of one request? */
export const isOutage = (/** @type {any} */ problem) =>
  remedyFor(problem) === Remedy.WAIT;

const CAPABILITY = "Upload-Capability";

export class RestProtocol {
  /**
   * The last capability that was given for an upload, by its URL: with it the server
   * need not ask for the session with each chunk.
   *
   * @type {Map<string, string>}
   */
  #capabilities = new Map();

  /** @param {ProtocolOptions} options */
  constructor(options) {
    this.options = options;
  }

  /**
   * Open an upload, or find the open one of the same file. Once on its way the request
   * is not called off: nobody would know the address of what it opened.
   *
   * @param {Record<string, any>} wish the members of the request
   * @param {AbortSignal} [signal]
   * @returns {Promise<{created: boolean, upload: UploadFacts}>}
   */
  async open(wish, signal) {
    const answer = await this.#json("POST", this.options.endpoint, {
      json: wish,
      patience: signal,
    });
    const { status, data } = answer;
    this.#keep(data.url, answer.capability);
    return { created: status === 201, upload: data };
  }

  /**
   * @param {string} url
   * @param {AbortSignal} [signal]
   * @returns {Promise<UploadFacts>}
   */
  async ask(url, signal) {
    const { data, capability } = await this.#json("GET", url, { signal });
    this.#keep(url, capability);
    return data;
  }

  /**
   * @param {string} url
   * @param {string | null} capability
   */
  #keep(url, capability) {
    if (capability) this.#capabilities.set(url, capability);
  }

  /**
   * @param {string} url
   * @param {number} number
   * @param {Blob} chunk
   * @param {{digest?: string | null, signal?: AbortSignal,
   *   onProgress?: (loaded: number) => void}} more
   * @returns {Promise<{number: number, received: number, state: string}>}
   */
  async putChunk(url, number, chunk, { digest, signal, onProgress }) {
    /** @type {Record<string, string>} */
    const headers = { "Content-Type": "application/octet-stream" };
    if (digest) headers["Content-Digest"] = digest;
    const capability = this.#capabilities.get(url);
    if (capability) headers[CAPABILITY] = capability;
    const address = `${url}chunks/${number}/`;
    const more = { body: chunk, headers, signal, onProgress };
    const { data, capability: next } = await this.#json("PUT", address, more);
    this.#keep(url, next);
    return data;
  }

  /**
   * Ask for the file to be put together, or how far that is.
   *
   * @param {string} url
   * @param {AbortSignal} [signal]
   * @returns {Promise<UploadFacts>}
   */
  async complete(url, signal) {
    const address = `${url}complete/`;
    return (await this.#json("POST", address, { json: {}, signal })).data;
  }

  /**
   * Throw an upload away; it may be gone already.
   *
   * @param {string} url
   * @param {AbortSignal} [signal]
   */
  async discard(url, signal) {
    try {
      await this.#json("DELETE", url, { signal });
    } catch (problem) {
      const gone = problem instanceof UploadError && [404, 410].includes(problem.status);
      if (!gone) throw problem;
    }
  }

  /**
   * Return my uploads of one state, newest first.
   *
   * @param {string} state
   * @param {AbortSignal} [signal]
   * @returns {Promise<UploadFacts[]>}
   */
  async list(state, signal) {
    const found = [];
    let query = `?state=${encodeURIComponent(state)}`;
    for (let page = 0; query && page < PAGES; page += 1) {
      const url = this.options.endpoint + query;
      const { data } = await this.#json("GET", url, { signal });
      found.push(...data.results);
      // Only the query: behind a proxy the host in it may be wrong.
      query = data.next ? data.next.slice(data.next.indexOf("?")) : "";
    }
    return found;
  }

  /**
   * @param {string} policy
   * @param {AbortSignal} [signal]
   * @returns {Promise<Record<string, any>>}
   */
  async limits(policy, signal) {
    const query = policy ? `?policy=${encodeURIComponent(policy)}` : "";
    const url = `${this.options.endpoint}limits/${query}`;
    return (await this.#json("GET", url, { signal })).data;
  }

  /**
   * @param {string} method
   * @param {string} url
   * @param {{json?: object, body?: Blob, headers?: Record<string, string>,
   *   signal?: AbortSignal, patience?: AbortSignal,
   *   onProgress?: (loaded: number) => void}} more `patience` ends only the wait for
   *   the line
   * @returns {Promise<{status: number, data: any, capability: string | null}>}
   */
  #json(method, url, more) {
    const request = { method, url: this.#absolute(url), ...more };
    const patience = more.patience ?? more.signal;
    return this.options.line.use(() => this.#exchange(request), patience);
  }

  /** @param {any} request */
  async #exchange(request) {
    const headers = await this.#headers(request, false);
    const answer = await this.options.transport.send({ ...request, ...headers });
    if (answer.status !== 401 && answer.status !== 403) return read(answer);
    // Perhaps somebody logged in elsewhere, or a token can be renewed.
    const fresh = await this.#headers(request, true);
    if (!this.options.headers && same(headers, fresh)) return read(answer);
    return read(await this.options.transport.send({ ...request, ...fresh }));
  }

  /**
   * @param {any} request
   * @param {boolean} again
   */
  async #headers(request, again) {
    const { method, url, json, body, headers } = request;
    const own = await this.options.headers?.({ method, url, again });
    const safe = method === "GET" || method === "HEAD";
    return {
      body: json ? JSON.stringify(json) : (body ?? null),
      headers: {
        Accept: "application/json",
        ...(json ? { "Content-Type": "application/json" } : {}),
        ...(safe ? {} : csrfHeaders(url, this.options.csrf)),
        ...headers,
        ...own,
      },
    };
  }

  /** @param {string} url */
  #absolute(url) {
    const here = globalThis.location?.href;
    if (!here && url.startsWith("/") && this.options.endpoint.startsWith("/")) return url;
    return new URL(url, new URL(this.options.endpoint, here)).href;
  }
}

/**
 * @param {{headers: object}} one
 * @param {{headers: object}} other
 */
function same(one, other) {
  return JSON.stringify(one.headers) === JSON.stringify(other.headers);
}

/**
 * Return the data of a good answer.
 *
 * @param {import("./transport.js").Answer} answer
 */
function read(answer) {
  const data = parsed(answer.text);
  const good = answer.status >= 200 && answer.status < 300;
  // A redirected upload is a login page with status 200, and nothing is stored.
  if (answer.redirected) throw failure(answer, "redirected", null);
  if (!good) throw failure(answer, data?.code ?? "", data);
  if (data === null && answer.status !== 204) {
    throw failure(answer, "unexpected_answer", null);
  }
  return { status: answer.status, data, capability: answer.header(CAPABILITY) };
}

/**
 * @param {import("./transport.js").Answer} answer
 * @param {string} code
 * @param {any} data
 */
function failure(answer, code, data) {
  const { code: _code, detail, ...facts } = data ?? {};
  return new UploadError(code || `http_${answer.status}`, sentence(detail), {
    status: answer.status,
    facts,
    retryAfter: retryAfterSeconds(answer.header("Retry-After")),
  });
}

/** @param {any} detail */
function sentence(detail) {
  return typeof detail === "string" ? detail : "";
}

/** @param {string} text */
function parsed(text) {
  try {
    const data = JSON.parse(text);
    return data !== null && typeof data === "object" ? data : null;
  } catch {
    return null;
  }
}
