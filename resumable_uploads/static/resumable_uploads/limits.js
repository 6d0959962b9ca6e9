/**
 * The policy's limits, checked before a byte is sent. The server checks them again; this
 * only saves people the wait.
 */

/**
 * @typedef {object} Limits sizes in bytes
 * @property {number | null} [max_size]
 * @property {string[]} [allowed_types] as "image/png" or "image/*"; none: all
 * @property {string[]} [allowed_extensions] lower case with the dot; none: all
 * @property {number} [chunk_size]
 * @property {number} [max_chunk_size]
 * @property {number} [max_chunks]
 * @property {number} [parallel]
 * @property {number} [records_expire_in] seconds
 */

/**
 * Say why a file may not be uploaded.
 *
 * @param {{name: string, size: number, type: string}} file
 * @param {Limits} limits
 * @returns {{code: string, [fact: string]: any} | null} null: it may
 */
export function refusal(file, limits) {
  const { max_size: most = null } = limits;
  if (most !== null && file.size > most) return { code: "too_large", max_size: most };
  if (typeFits(file, limits)) return null;
  return { code: "type_not_allowed", allowed: acceptList(limits) };
}

/**
 * Return what belongs into the `accept` attribute of a file input.
 *
 * @param {Limits} limits
 * @returns {string} "" for everything
 */
export function acceptList({ allowed_types = [], allowed_extensions = [] }) {
  // The attribute means "one of these", the policy means both lists.
  const list = allowed_extensions.length > 0 ? allowed_extensions : allowed_types;
  return list.join(",");
}

/**
 * @param {{name: string, type: string}} file
 * @param {Limits} limits
 */
function typeFits(file, { allowed_types = [], allowed_extensions = [] }) {
  const name = file.name.toLowerCase();
  const named =
    allowed_extensions.length === 0 ||
    allowed_extensions.some((extension) => name.endsWith(extension));
  // Browsers do not know every type: no type is for the server to judge.
  const typed =
    allowed_types.length === 0 ||
    !file.type ||
    allowed_types.some((pattern) => typeMatches(file.type, pattern));
  return named && typed;
}

/**
 * @param {string} type
 * @param {string} pattern with "*" for anything
 */
function typeMatches(type, pattern) {
  const given = type.toLowerCase().split(";")[0].trim();
  const pieces = pattern.toLowerCase().split("*").map(literally);
  return new RegExp(`^${pieces.join(".*")}$`).test(given);
}

/** @param {string} text */
function literally(text) {
  return text.replace(/[.*+?^${}()|[\]\\]/g, "\\$&");
}
