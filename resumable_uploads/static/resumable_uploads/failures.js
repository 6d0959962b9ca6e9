/**
 * What can go wrong with an upload, and what helps against it: two tables.
 * Never sends anything.
 */

/**
 * A request that failed, or an upload that cannot go on.
 *
 * `code` is the server's word, or one of ours ("network", "stalled", "redirected",
 * "unexpected_answer", "unreadable", "not_wanted", "other_tab", "other_file", "internal",
 * or "http_" and the status), `detail` a sentence for people or "", `status` the HTTP
 * status (0: no answer), `facts` the other members of the server's answer, `retryAfter`
 * seconds or null.
 */
export class UploadError extends Error {
  /**
   * @param {string} code
   * @param {string} [detail]
   * @param {{status?: number, facts?: Record<string, any>,
   *   retryAfter?: number | null}} [more]
   */
  constructor(code, detail = "", more = {}) {
    super(detail || code);
    this.name = "UploadError";
    this.code = code;
    this.detail = detail;
    this.status = more.status ?? 0;
    this.facts = more.facts ?? {};
    this.retryAfter = more.retryAfter ?? null;
  }
}

/** @type {Readonly<Record<string, string>>} */
export const Remedy = Object.freeze({
  /** The line to the server is in trouble: wait for it, however long it takes. */
  WAIT: "wait",
  /** Try again after a pause, but only a few times. */
  REPEAT: "repeat",
  /** Ask the server how the upload stands, and go on from there. */
  ASK: "ask",
  /** The upload is not there any more: open another one. */
  RESTART: "restart",
  /** What is there does not fit: throw it away and open another one. */
  DISCARD: "discard",
  /** Something on the way refuses chunks this large. */
  SHRINK: "shrink",
  /** There is an upload of this file already: go on with that one. */
  ADOPT: "adopt",
  /** Another tab is sending this file: wait for it. */
  TURN: "turn",
  /** Nothing helps until a person does something. */
  GIVE_UP: "give-up",
});

/** @type {Record<string, string>} */
const BY_CODE = {
  network: Remedy.WAIT,
  stalled: Remedy.WAIT,
  throttled: Remedy.WAIT,
  storage_unavailable: Remedy.WAIT,
  shutting_down: Remedy.WAIT,
  unexpected_answer: Remedy.REPEAT,
  truncated: Remedy.REPEAT,
  checksum_mismatch: Remedy.REPEAT,
  too_many_uploads: Remedy.REPEAT,
  storage_full: Remedy.REPEAT,
  assembly_failed: Remedy.REPEAT,
  hook_failed: Remedy.REPEAT,
  incomplete: Remedy.ASK,
  interrupted: Remedy.ASK,
  not_receiving: Remedy.ASK,
  not_found: Remedy.RESTART,
  gone: Remedy.RESTART,
  addressing: Remedy.DISCARD,
  chunk_conflict: Remedy.DISCARD,
  wrong_size: Remedy.DISCARD,
  not_wanted: Remedy.DISCARD,
  client_key_in_use: Remedy.ADOPT,
  other_tab: Remedy.TURN,
  too_large: Remedy.GIVE_UP,
  quota_exceeded: Remedy.GIVE_UP,
  redirected: Remedy.GIVE_UP,
  // Whatever status the site has chosen for it.
  rejected: Remedy.GIVE_UP,
  stopped: Remedy.GIVE_UP,
};

/** @type {Record<number, string>} */
const BY_STATUS = {
  404: Remedy.RESTART,
  408: Remedy.WAIT,
  410: Remedy.RESTART,
  // With a code of ours it is the policy's word, without one a proxy's.
  413: Remedy.SHRINK,
  425: Remedy.WAIT,
  429: Remedy.WAIT,
  502: Remedy.WAIT,
  503: Remedy.WAIT,
  504: Remedy.WAIT,
};

/**
 * Say what helps against a failure.
 *
 * @param {any} error
 * @returns {string} one of `Remedy`
 */
export function remedyFor(error) {
  if (!(error instanceof UploadError)) return Remedy.GIVE_UP;
  const known = BY_CODE[error.code] ?? BY_STATUS[error.status];
  return known ?? (error.status >= 500 ? Remedy.REPEAT : Remedy.GIVE_UP);
}
