// What the pages of all clients share: rows of files, the CSRF token, the address.

const client = document.querySelector("#client");

export const endpoint = client.dataset.endpoint;
export const element = (id) => document.getElementById(id);

/** Return Django's CSRF token, which changes when somebody logs in. */
export function csrfToken() {
  return /(?:^|; )csrftoken=([^;]*)/.exec(document.cookie)?.[1] ?? "";
}

const CAPABILITY = "Upload-Capability";
// The last one that was given, by file.
const capabilities = new WeakMap();

/** Keep what an answer has given: with it, the next chunks of the file cost less. */
export function keepCapability(file, xhr) {
  const given = xhr.getResponseHeader(CAPABILITY);
  if (given) capabilities.set(file, given);
}

/** Return what to send with a file's chunks, to prove whose it is. */
export function proof(file) {
  const capability = capabilities.get(file);
  return { "X-CSRFToken": csrfToken(), ...(capability && { [CAPABILITY]: capability }) };
}

/** Return the headers of a chunk: Resumable.js and its relatives ask for each. */
export function chunkHeaders(file, chunk) {
  chunk.xhr.addEventListener("load", ({ target }) => keepCapability(file, target));
  return proof(file);
}

/** Return an option from the address of the page, of the same type as its default. */
export function option(name, byDefault) {
  const value = new URLSearchParams(location.search).get(name);
  if (value === null) return byDefault;
  if (typeof byDefault === "number") return Number(value);
  return typeof byDefault === "boolean" ? value !== "0" : value;
}

/** Return where a file lies in what was chosen or dropped. */
export const path = (file) => file.webkitRelativePath || file.relativePath || file.name;

/** One file as the page shows it. */
export class Row {
  constructor(name, onRetry) {
    this.item = document.createElement("li");
    this.item.className = "row";
    this.item.innerHTML = `<div class="row__body"><h3 class="row__name" dir="auto"></h3>
      <progress class="row__bar" max="1" value="0"></progress><p class="row__state"></p></div>
      <div class="row__actions"><button class="button" type="button" hidden>Retry</button></div>`;
    this.item.querySelector(".row__name").textContent = name;
    this.bar = this.item.querySelector("progress");
    this.bar.setAttribute("aria-label", `Progress of ${name}`);
    this.retry = this.item.querySelector("button");
    this.retry.addEventListener("click", () => {
      this.show("waiting", "Waiting");
      onRetry();
    });
    this.show("waiting", "Waiting");
    element("rows").append(this.item);
  }

  /** Show a state: a word for programs and one for people. */
  show(state, text) {
    this.item.dataset.state = state;
    this.item.querySelector(".row__state").textContent = text;
    this.retry.hidden = state !== "failed";
  }

  progress(fraction) {
    // Of a file that has failed, some clients still tell how its other chunks get on.
    if (this.item.dataset.state === "failed") return;
    // Of an empty file, some clients say NaN.
    this.bar.value = fraction || 0;
    this.show("uploading", `${Math.floor(100 * this.bar.value)} %`);
  }

  complete() {
    this.bar.value = 1;
    this.show("complete", "Complete");
  }

  fail(answer) {
    this.show("failed", reason(answer));
  }
}

/** Return why the server refused something, as it says so itself. */
function reason(answer) {
  try {
    return JSON.parse(answer).detail;
  } catch {
    return "The upload failed.";
  }
}

/** Is the file all there, as far as an answer of the server tells? */
export function isAllThere(answer) {
  return ["assembling", "complete"].includes(JSON.parse(answer).state);
}
