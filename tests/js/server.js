/**
 * A server in memory that speaks the REST protocol, behind the transport's seam. It
 * counts what it is asked, and fails when told to.
 */

import { UploadError } from "../../resumable_uploads/static/resumable_uploads/failures.js";

export const ENDPOINT = "/uploads/";

export class FakeServer {
  uploads = new Map();
  /** Every request, as "PUT /uploads/1/chunks/0/". */
  log = [];
  /** Bytes that came in chunk requests, the failed ones too. */
  bytes = 0;
  inFlight = 0;
  mostInFlight = 0;
  /** How often an assembling upload is asked about before it is complete. */
  polls = 0;
  /** @type {((request: any) => any)[]} */
  #faults = [];

  constructor({ chunkSize = 10, maxChunks = 10_000 } = {}) {
    this.chunkSize = chunkSize;
    this.maxChunks = maxChunks;
  }

  /** Let requests fail: `fault` returns an answer, throws, or returns nothing. */
  fail(fault, { times = Infinity } = {}) {
    let left = times;
    this.#faults.push((request) => {
      if (left <= 0) return undefined;
      const outcome = fault(request);
      if (outcome !== undefined) left -= 1;
      return outcome;
    });
  }

  heal() {
    this.#faults = [];
  }

  count(pattern) {
    return this.log.filter((line) => pattern.test(line)).length;
  }

  /** The transport's one method. */
  async send(request) {
    this.log.push(`${request.method} ${request.url}`);
    this.inFlight += 1;
    this.mostInFlight = Math.max(this.mostInFlight, this.inFlight);
    try {
      return await this.#answerTo(request);
    } finally {
      this.inFlight -= 1;
    }
  }

  async #answerTo(request) {
    if (request.body instanceof Blob) this.bytes += request.body.size;
    await turn(request.signal);
    for (const fault of this.#faults) {
      const outcome = await fault(request);
      if (outcome instanceof Error) throw outcome;
      if (outcome) return outcome;
    }
    const answer = await this.#route(request);
    await turn(request.signal);
    return answer;
  }

  async #route({ method, url, body, onProgress }) {
    const [path, query = ""] = new URL(url, "http://server").href.slice(13).split("?");
    const [id, verb, number] = path.slice(ENDPOINT.length).split("/");
    if (id === "") return method === "POST" ? this.#open(body) : this.#list(query);
    const upload = this.uploads.get(id);
    if (!upload) return method === "DELETE" ? answer(204) : refuse(404, "not_found");
    if (verb === "chunks") return this.#put(upload, Number(number), body, onProgress);
    if (verb === "complete") return this.#complete(upload);
    if (method === "DELETE") {
      this.uploads.delete(id);
      return answer(204);
    }
    return answer(200, this.#facts(upload));
  }

  #open(body) {
    const wish = JSON.parse(body);
    const open = [...this.uploads.values()].find(
      (upload) => upload.client_key === wish.client_key && upload.state === "receiving",
    );
    if (open && wish.chunk_size && wish.chunk_size !== open.chunkSize) {
      const { id } = open;
      return refuse(409, "client_key_in_use", { id, url: `${ENDPOINT}${id}/` });
    }
    if (open) return answer(200, this.#facts(open));
    const upload = {
      ...wish,
      id: String(this.uploads.size + 1 + Math.floor(Math.random() * 1e9)),
      chunkSize: wish.chunk_size ?? this.chunkSize,
      chunks: new Map(),
      state: wish.size === 0 ? "complete" : "receiving",
      polls: this.polls,
    };
    this.uploads.set(upload.id, upload);
    return answer(201, this.#facts(upload));
  }

  #list(query) {
    const state = new URLSearchParams(query).get("state");
    const mine = [...this.uploads.values()].filter((upload) => upload.state === state);
    return answer(200, { next: null, results: mine.map((u) => this.#facts(u)) });
  }

  async #put(upload, number, body, onProgress) {
    if (upload.state !== "receiving") return refuse(409, "not_receiving");
    onProgress?.(body.size);
    upload.chunks.set(number, await body.text());
    if (missing(upload).length === 0) upload.state = "assembling";
    return answer(201, { number, size: body.size, state: upload.state });
  }

  #complete(upload) {
    if (upload.state === "receiving") {
      return refuse(409, "incomplete", { missing: missing(upload) });
    }
    return this.#look(upload);
  }

  #look(upload) {
    const facts = this.#facts(upload);
    return answer(facts.state === "complete" ? 200 : 202, facts);
  }

  #facts(upload) {
    if (upload.state === "assembling" && upload.polls-- <= 0) upload.state = "complete";
    const url = `${ENDPOINT}${upload.id}/`;
    const received = [...upload.chunks.values()].join("").length;
    const done = upload.state === "complete";
    return {
      id: upload.id,
      url,
      state: upload.state,
      filename: upload.filename,
      relative_path: upload.relative_path,
      size: upload.size,
      received,
      chunk_size: upload.chunkSize,
      missing: missing(upload),
      policy: upload.policy ?? "default",
      client_key: upload.client_key,
      expires_at: null,
      limits: { max_chunks: this.maxChunks },
      file: done ? { url: `${url}file/`, name: upload.filename, size: received } : null,
      error: upload.error ?? null,
    };
  }

  /** The bytes of the only upload, in order. */
  get content() {
    const [upload] = this.uploads.values();
    const numbers = [...upload.chunks.keys()].sort((a, b) => a - b);
    return numbers.map((number) => upload.chunks.get(number)).join("");
  }
}

export function answer(status, data = null, headers = {}) {
  return {
    status,
    redirected: false,
    text: data === null ? "" : JSON.stringify(data),
    header: (name) => headers[name] ?? null,
  };
}

export function refuse(status, code, facts = {}, headers = {}) {
  return answer(status, { code, detail: `That is ${code}.`, ...facts }, headers);
}

export const cutOff = () => new UploadError("network");

/** A network whose state the test decides. */
export class FakeNetwork {
  onLine = true;
  calls = {};

  listen(event, call) {
    this.calls[event] = call;
  }

  come() {
    this.onLine = true;
    this.calls.online();
  }
}

/** A localStorage. */
export class FakeStorage {
  #items = new Map();

  get length() {
    return this.#items.size;
  }

  key(index) {
    return [...this.#items.keys()][index] ?? null;
  }

  getItem(name) {
    return this.#items.get(name) ?? null;
  }

  setItem(name, text) {
    this.#items.set(name, String(text));
  }

  removeItem(name) {
    this.#items.delete(name);
  }
}

function missing(upload) {
  if (upload.size === 0) return [];
  const count = Math.ceil(upload.size / upload.chunkSize);
  const numbers = Array.from({ length: count }, (_, number) => number);
  return numbers.filter((n) => !upload.chunks.has(n)).map((n) => [n, n]);
}

/** Let others run, as a network does; throws when called off. */
async function turn(signal) {
  await new Promise((resolve) => setImmediate(resolve));
  signal?.throwIfAborted();
}
