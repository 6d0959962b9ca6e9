/**
 * What screen readers say: few sentences, one after another.
 */

/** Milliseconds between two sentences; without a pause the first is never heard. */
const APART = 900;
const MOST_WAITING = 3;

/** Turns a fraction that grows into steps of 25 percent, each told once. */
export class Steps {
  #told = 0;

  /** @param {number} [size] percent */
  constructor(size = 25) {
    this.size = size;
  }

  /**
   * @param {number} fraction 0...1
   * @returns {number | null} the percent of a step that was just reached
   */
  reach(fraction) {
    const percent = Math.floor((100 * fraction) / this.size) * this.size;
    const news = percent > this.#told;
    // It falls when files are added.
    this.#told = percent;
    return news ? percent : null;
  }
}

/** Speaks through an element that is a live region. */
export class Announcer {
  /** @type {string[]} */
  #waiting = [];
  /** @type {ReturnType<typeof setTimeout> | null} */
  #timer = null;

  /** @param {{textContent: string | null} | null} element */
  constructor(element) {
    this.element = element;
  }

  /** @param {string} sentence */
  say(sentence) {
    // Of many files at once only the last is worth hearing.
    if (this.#waiting.length >= MOST_WAITING) this.#waiting.shift();
    this.#waiting.push(sentence);
    if (this.#timer === null) this.#next();
  }

  #next() {
    const sentence = this.#waiting.shift();
    this.#timer = sentence === undefined ? null : setTimeout(() => this.#next(), APART);
    if (sentence !== undefined && this.element) this.element.textContent = sentence;
  }
}
