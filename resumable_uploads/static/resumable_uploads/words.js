/**
 * Sentences, sizes and times in the language of the page.
 */

import { MESSAGES } from "./messages.js";

const UNITS = ["byte", "kilobyte", "megabyte", "gigabyte", "terabyte"];

export class Words {
  /**
   * @param {{messages?: Record<string, string>, language?: string}} [options]
   */
  constructor({ messages = {}, language } = {}) {
    /** @type {Record<string, string>} */
    this.messages = { ...translated(), ...messages };
    this.language = usable(language);
  }

  /**
   * @param {string} key
   * @param {Record<string, any>} [values]
   * @returns {string}
   */
  say(key, values = {}) {
    const text = this.messages[key] ?? key;
    return text.replace(/\{(\w+)\}/g, (_, name) => String(values[name] ?? "")).trim();
  }

  /** @param {string} key */
  knows(key) {
    return key in this.messages;
  }

  /**
   * @param {number} bytes
   * @returns {string} "1.5 MB"; in steps of 1024, as Django's `filesizeformat`
   */
  size(bytes) {
    const power = bytes < 1024 ? 0 : Math.floor(Math.log2(bytes) / 10);
    const unit = Math.min(power, UNITS.length - 1);
    return this.#amount(bytes / 1024 ** unit, UNITS[unit], unit > 0 ? 1 : 0);
  }

  /**
   * @param {number} seconds
   * @returns {string} "40 sec", "2 min, 5 sec", "3 hr, 20 min"
   */
  duration(seconds) {
    const whole = Math.max(1, Math.ceil(seconds));
    if (whole < 60) return this.#amount(whole, "second");
    if (whole < 600) return this.#pair(whole, 60, "minute", "second");
    if (whole < 3600) return this.#amount(Math.round(whole / 60), "minute");
    return this.#pair(Math.round(whole / 60), 60, "hour", "minute");
  }

  /** @param {Date} date */
  date(date) {
    return date.toLocaleDateString(this.language, { dateStyle: "medium" });
  }

  /** @param {number} fraction */
  percent(fraction) {
    const format = { style: "percent", maximumFractionDigits: 0 };
    return new Intl.NumberFormat(this.language, /** @type {any} */ (format)).format(
      Math.floor(100 * fraction) / 100,
    );
  }

  /**
   * @param {number} amount
   * @param {number} per
   * @param {string} large
   * @param {string} small
   */
  #pair(amount, per, large, small) {
    const rest = amount % per;
    const first = this.#amount(Math.floor(amount / per), large);
    return rest ? `${first}, ${this.#amount(rest, small)}` : first;
  }

  /**
   * @param {number} amount
   * @param {string} unit
   * @param {number} [digits]
   */
  #amount(amount, unit, digits = 0) {
    const format = new Intl.NumberFormat(this.language, {
      style: "unit",
      unit,
      unitDisplay: unit === "byte" ? "long" : "short",
      maximumFractionDigits: digits,
    });
    // A number and its unit stay on one line.
    return format.format(amount).replaceAll(" ", "\u00a0");
  }
}

/**
 * @param {string | undefined} language
 * @returns {string | undefined} undefined where the browser does not know it
 */
function usable(language) {
  try {
    return Intl.getCanonicalLocales(language || undefined)[0];
  } catch {
    return undefined;
  }
}

/** @returns {Record<string, string>} by Django's JavaScript catalogue, where that is there */
function translated() {
  const { gettext } = /** @type {any} */ (globalThis);
  if (typeof gettext !== "function") return MESSAGES;
  const pairs = Object.entries(MESSAGES).map(([key, text]) => [key, gettext(text)]);
  return Object.fromEntries(pairs);
}
