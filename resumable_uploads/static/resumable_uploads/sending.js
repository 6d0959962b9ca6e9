/**
 * Several chunks of one file at once, until all have arrived or one fails.
 */

import { remedyFor, Remedy } from "./failures.js";
import { linked } from "./signals.js";

/** After these failures what has arrived meanwhile counts. */
const PATIENT = [Remedy.WAIT, Remedy.REPEAT, Remedy.ASK];

/**
 * @typedef {object} Work
 * @property {import("./chunks.js").ChunkPlan} plan
 * @property {AbortSignal} signal
 * @property {number} workers
 * @property {(signal: AbortSignal) => Promise<() => void>} lane
 * @property {(number: number, signal: AbortSignal) => Promise<void>} send
 */

/**
 * Send what the plan has waiting. After a failure no further chunk is begun; those under
 * way may arrive, unless they would be thrown away.
 *
 * @param {Work} work
 * @returns {Promise<void>} rejected with the first failure, when nothing is under way
 */
export async function sendChunks(work) {
  const sending = new Sending(work);
  const workers = Math.min(work.workers, work.plan.left);
  await Promise.all(Array.from({ length: workers }, () => sending.work()));
  sending.end();
}

class Sending {
  #failed = false;
  /** @type {any} */
  #problem = null;

  /** @param {Work} work */
  constructor(work) {
    this.task = work;
    this.waiting = linked(work.signal);
    this.flying = linked(work.signal);
  }

  async work() {
    const { plan } = this.task;
    for (;;) {
      const number = this.waiting.signal.aborted ? null : plan.take();
      if (number === null) return;
      await this.#sendInLane(number).catch((problem) => {
        plan.giveBack(number);
        this.#fail(problem);
      });
    }
  }

  end() {
    this.waiting.unlink();
    this.flying.unlink();
    this.task.signal.throwIfAborted();
    if (this.#failed) throw this.#problem;
  }

  /** @param {number} number */
  async #sendInLane(number) {
    const leave = await this.task.lane(this.waiting.signal);
    try {
      // Another chunk may have failed just as this lane became free.
      this.waiting.signal.throwIfAborted();
      await this.task.send(number, this.flying.signal);
    } finally {
      leave();
    }
  }

  /** @param {any} problem */
  #fail(problem) {
    if (this.#failed) return;
    this.#failed = true;
    this.#problem = problem;
    this.waiting.abort(problem);
    if (!PATIENT.includes(remedyFor(problem))) this.flying.abort(problem);
  }
}
