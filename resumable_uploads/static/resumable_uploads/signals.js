/**
 * Waiting that can be called off. Knows nothing about uploads.
 */

/**
 * Wait some milliseconds.
 *
 * @param {number} milliseconds
 * @param {AbortSignal} [signal]
 * @returns {Promise<void>} rejected with the signal's reason when called off
 */
export function pause(milliseconds, signal) {
  return callOff(signal, (resolve) => {
    const timer = setTimeout(resolve, milliseconds);
    return () => clearTimeout(timer);
  });
}

/**
 * Make a promise that a signal can call off.
 *
 * @template T
 * @param {AbortSignal | undefined} signal
 * @param {(resolve: (value?: any) => void, reject: (why: any) => void)
 *   => (() => void)} begin starts the waiting and returns what ends it early
 * @returns {Promise<T>}
 */
export function callOff(signal, begin) {
  return new Promise((resolve, reject) => {
    if (signal?.aborted) return reject(signal.reason);
    let end = () => {};
    const abort = () => {
      end();
      reject(signal?.reason);
    };
    const settle = (/** @type {(value: any) => void} */ how) => {
      return (/** @type {any} */ value) => {
        signal?.removeEventListener("abort", abort);
        how(value);
      };
    };
    signal?.addEventListener("abort", abort, { once: true });
    end = begin(settle(resolve), settle(reject));
  });
}

/**
 * Wait for a promise that has never heard of signals.
 *
 * @template T
 * @param {Promise<T>} promise
 * @param {AbortSignal} signal
 * @returns {Promise<T>}
 */
export function orCalledOff(promise, signal) {
  return callOff(signal, (resolve, reject) => {
    promise.then(resolve, reject);
    return () => {};
  });
}

/**
 * Return a controller that is aborted with the signal, or alone.
 *
 * @param {AbortSignal} signal
 * @returns {AbortController & {unlink: () => void}}
 */
export function linked(signal) {
  const controller = new AbortController();
  const abort = () => controller.abort(signal.reason);
  if (signal.aborted) abort();
  else signal.addEventListener("abort", abort, { once: true });
  return Object.assign(controller, {
    unlink: () => signal.removeEventListener("abort", abort),
  });
}
