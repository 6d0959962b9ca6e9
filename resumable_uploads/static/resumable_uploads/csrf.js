/**
 * Django's CSRF token, read anew for every request: it changes when somebody logs in,
 * perhaps in another tab.
 */

/**
 * @typedef {object} CsrfOptions
 * @property {string} [cookieName]
 * @property {string} [headerName]
 * @property {ParentNode} [root] where to look for a form's token first
 */

/**
 * Return the header that carries the token; empty where there is no token, and for
 * other sites, which it is no business of.
 *
 * @param {string} url
 * @param {CsrfOptions} [options]
 * @returns {Record<string, string>}
 */
export function csrfHeaders(url, options = {}) {
  if (!isOurSite(url)) return {};
  const token = csrfToken(options);
  return token ? { [options.headerName ?? "X-CSRFToken"]: token } : {};
}

/**
 * Find the token: the cookie (always the newest), else a form's hidden field, else
 * `<meta name="csrf-token">`.
 *
 * @param {CsrfOptions} [options]
 * @returns {string}
 */
export function csrfToken({ cookieName = "csrftoken", root } = {}) {
  return cookie(cookieName) || field(root) || field(globalThis.document) || "";
}

/** @param {string} name */
function cookie(name) {
  const pairs = (globalThis.document?.cookie ?? "").split("; ");
  const found = pairs.find((pair) => pair.startsWith(`${name}=`));
  return found ? decodeURIComponent(found.slice(name.length + 1)) : "";
}

/** @param {ParentNode | undefined} root */
function field(root) {
  const input = root?.querySelector("input[name=csrfmiddlewaretoken]");
  const meta = root?.querySelector("meta[name=csrf-token]");
  return input?.getAttribute("value") || meta?.getAttribute("content") || "";
}

/** @param {string} url */
function isOurSite(url) {
  const here = globalThis.location;
  return !here || new URL(url, here.href).origin === here.origin;
}
