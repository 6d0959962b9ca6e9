/**
 * Why a file was not taken, waits or failed, in words.
 */

/**
 * @param {import("./words.js").Words} words
 * @param {{code: string, detail?: string, [fact: string]: any}} refusal
 * @param {{name: string, size: number}} file
 * @returns {string}
 */
export function refusalText(words, refusal, file) {
  const { code, detail = "", allowed = "", max_size: maxSize, maxFiles } = refusal;
  const { min_size: minSize = 0 } = refusal;
  const key = words.knows(`refused_${code}`) ? `refused_${code}` : "refused";
  return words.say(key, {
    name: file.name,
    size: words.size(file.size),
    max: maxFiles ?? words.size(maxSize ?? 0),
    min: words.size(minSize),
    allowed: allowed.split(",").join(", "),
    detail,
  });
}

/**
 * @param {import("./words.js").Words} words
 * @param {import("./failures.js").UploadError | null} error
 * @returns {string} the server's own sentence, where there is one
 */
export function errorText(words, error) {
  if (!error) return "";
  const { code, detail, facts } = error;
  if (detail) return detail;
  return words.say(words.knows(`error_${code}`) ? `error_${code}` : "error", { code, ...facts });
}
