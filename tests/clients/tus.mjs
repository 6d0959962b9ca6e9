// Uploads a file by tus-js-client in each of its ways, and tells what came of it: a line
// of JSON for each. Arguments: the package, the endpoints of tus and of the draft, a file.

import { createReadStream } from "node:fs";
import { readFile } from "node:fs/promises";
import { PassThrough } from "node:stream";

const [name, endpoint, draft, path] = process.argv.slice(2);
const tus = await import(name);
const data = await readFile(path);
const KIB = 1024;
const PARTS = { chunkSize: 64 * KIB };

/** Resolve with the upload once it is over; `stop` may end it before, by its progress. */
function upload(source, options, { stop, previous, ...more } = {}) {
  return new Promise((resolve, reject) => {
    const client = new tus.Upload(source, {
      endpoint,
      retryDelays: [0, 100, 500],
      metadata: { filename: `${name}.bin` },
      ...options,
      onSuccess: () => resolve(client),
      onError: reject,
      onChunkComplete: (_, accepted) => {
        if (stop?.(accepted)) client.abort(more.terminate).then(() => resolve(client), reject);
      },
    });
    if (previous) client.resumeFromPreviousUpload(previous);
    client.start();
  });
}

/** What browsers keep in localStorage. */
class Memory {
  found = new Map();
  findAllUploads = async () => [...this.found.values()];
  findUploadsByFingerprint = this.findAllUploads;
  removeUpload = async (key) => void this.found.delete(key);
  addUpload = async (fingerprint, previous) => {
    const urlStorageKey = `${fingerprint}::${this.found.size}`;
    this.found.set(urlStorageKey, { ...previous, urlStorageKey });
    return urlStorageKey;
  };
}

const half = { stop: (accepted) => accepted >= data.length / 2 };
// Not the file's own stream: 4.3.1 announces more of its last piece than there is, where
// the length is deferred.
const stream = () => createReadStream(path).pipe(new PassThrough());

async function resumed(options) {
  const first = await upload(data, { ...PARTS, ...options }, half);
  return upload(data, { ...PARTS, ...options, uploadUrl: first.url });
}

async function stored() {
  const options = { ...PARTS, urlStorage: new Memory(), parallelUploads: 2 };
  const source = () => createReadStream(path);
  let seen = 0;
  await upload(source(), options, { stop: () => ++seen === 3 });
  const client = new tus.Upload(source(), options);
  const [previous] = await client.findPreviousUploads();
  if (!previous) throw new Error("Nothing was stored.");
  return upload(source(), options, { previous });
}

const ways = {
  plain: () => upload(data, {}),
  empty: () => upload(Buffer.alloc(0), {}),
  "in chunks": () => upload(data, PARTS),
  "with data": () => upload(data, { ...PARTS, uploadDataDuringCreation: true }),
  "all with data": () => upload(data, { uploadDataDuringCreation: true }),
  "empty with data": () => upload(Buffer.alloc(0), { uploadDataDuringCreation: true }),
  "a stream": () => upload(stream(), { ...PARTS, uploadSize: data.length }),
  deferred: () => upload(stream(), { ...PARTS, uploadLengthDeferred: true }),
  "deferred with data": () =>
    upload(stream(), {
      ...PARTS,
      uploadLengthDeferred: true,
      uploadDataDuringCreation: true,
    }),
  overridden: () => upload(data, { ...PARTS, overridePatchMethod: true }),
  parallel: () => upload(data, { parallelUploads: 3 }),
  "parallel in chunks": () => upload(data, { ...PARTS, parallelUploads: 2 }),
  resumed: () => resumed({}),
  stored,
  terminated: () => upload(data, PARTS, { ...half, terminate: true }),
};
for (const protocol of ["ietf-draft-03", "ietf-draft-05"]) {
  const options = { protocol, endpoint: draft };
  const draftWays = {
    plain: () => upload(data, options),
    empty: () => upload(Buffer.alloc(0), options),
    "in chunks": () => upload(data, { ...PARTS, ...options }),
    "with data": () => upload(data, { ...PARTS, ...options, uploadDataDuringCreation: true }),
    "all with data": () => upload(data, { ...options, uploadDataDuringCreation: true }),
    deferred: () => upload(stream(), { ...PARTS, ...options, uploadLengthDeferred: true }),
    resumed: () => resumed(options),
    terminated: () => upload(data, { ...PARTS, ...options }, { ...half, terminate: true }),
  };
  for (const [way, run] of Object.entries(draftWays)) ways[`${protocol}: ${way}`] = run;
}

for (const [way, run] of Object.entries(ways)) {
  const told = { way };
  try {
    told.url = (await run()).url;
  } catch (error) {
    told.error = String(error);
  }
  console.log(JSON.stringify(told));
}
