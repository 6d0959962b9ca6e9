// An uploader for the protocol of javascript.info: ask how much of a file is there, and
// send the rest of it in one request. Addresses are relative to the page.

/** A file's name for the header: what is not Latin-1 is encoded, as RFC 8187 does it. */
function headerName(name) {
  const isPlain = [...name].every((letter) => letter >= " " && letter <= "\u00ff");
  return isPlain && name.trim() === name ? name : `UTF-8''${encodeURIComponent(name)}`;
}

/** The server did not take what it was sent. */
export class Refused extends Error {}

export class RestOfFile {
  #request = null;
  // The call of upload() that counts: a later one, and stop(), put an end to it.
  #current = null;

  constructor(file, onProgress = () => {}) {
    this.file = file;
    this.id = `${headerName(file.name)}-${file.size}-${file.lastModified}`;
    this.onProgress = onProgress;
  }

  /** Return how many bytes the server has. */
  async stored() {
    const answer = await fetch("status", { headers: { "X-File-Id": this.id } });
    if (answer.status !== 200) throw new Refused(await answer.text());
    return Number(await answer.text());
  }

  /** Send what is missing; return whether that was all, or stop() came in between. */
  async upload() {
    const mine = Symbol("upload");
    this.#current = mine;
    const start = await this.stored();
    return this.#current === mine && this.#send(start);
  }

  stop() {
    this.#current = null;
    this.#request?.abort();
  }

  #send(start) {
    const request = new XMLHttpRequest();
    this.#request = request;
    request.open("POST", "upload");
    request.setRequestHeader("X-File-Id", this.id);
    request.setRequestHeader("X-Start-Byte", start);
    request.upload.onprogress = (event) => {
      this.onProgress(start + event.loaded, start + event.total);
    };
    return new Promise((resolve, reject) => {
      request.onload = () => {
        if (request.status === 200) resolve(true);
        else reject(new Refused(request.responseText));
      };
      request.onerror = () => reject(new Error("The connection broke."));
      request.onabort = () => resolve(false);
      request.send(this.file.slice(start));
    });
  }
}
