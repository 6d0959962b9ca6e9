// What a program does with ali-oss: upload in parts, stop, go on from JSON, look, delete.

import assert from "node:assert/strict";
import { readFileSync } from "node:fs";

import OSS from "ali-oss";

const { url, held, path, v4 } = JSON.parse(process.argv[2]);
const client = new OSS({
  // With an IP address, the client in Node makes up a host name of its own.
  endpoint: url.replace("127.0.0.1", "localhost"),
  sldEnable: true,
  bucket: "demo-bucket",
  region: "oss-local",
  authorizationV4: v4,
  accessKeyId: held.AccessKeyId,
  accessKeySecret: held.AccessKeySecret,
  stsToken: held.SecurityToken,
  refreshSTSToken: async () => held,
});
const key = "dir/影片 (1)!.bin";
const partSize = 256 * 1024;
let checkpoint;

// Of the parts that cancel() ends, the SDK catches the first one only.
process.on("unhandledRejection", (error) => {
  if (error.name !== "cancel") throw error;
});
await assert.rejects(
  client.multipartUpload(key, path, {
    partSize,
    parallel: 3,
    meta: { who: "zs" },
    progress: async (done, found) => {
      checkpoint = found;
      if (done > 0.4) client.cancel();
    },
  }),
  { name: "cancel" },
);
const { uploads } = await client.listUploads({ "max-uploads": 10 });
assert.deepEqual(uploads.map((one) => one.uploadId), [checkpoint.uploadId]);
const listed = await client.listParts(key, checkpoint.uploadId, { "max-parts": 2 });
assert.equal(listed.parts.length, 2);
assert.equal(listed.isTruncated, "true");

const saved = JSON.parse(JSON.stringify(checkpoint));
const result = await client.multipartUpload(key, path, {
  checkpoint: { ...saved, file: path },
});
const data = readFileSync(path);
assert.equal(result.res.status, 200);
assert.ok(result.etag.endsWith(`-${Math.ceil(data.length / partSize)}"`));
const got = await client.get(key);
assert.ok(data.equals(got.content));
const head = await client.head(key);
assert.equal(head.status, 200);
assert.deepEqual(head.meta, { who: "zs" });

await client.put("small.txt", Buffer.from("hello"));
assert.deepEqual((await client.list({})).objects.map((one) => one.name), [key, "small.txt"]);
assert.deepEqual((await client.listV2({ delimiter: "/" })).prefixes, ["dir/"]);
const page = await fetch(client.signatureUrl("small.txt"));
assert.equal(await page.text(), "hello");
await client.delete("small.txt");
await assert.rejects(client.head("small.txt"), { code: "NoSuchKey" });
await assert.rejects(client.get("small.txt"), { code: "NoSuchKey", status: 404 });

const begun = await client.initMultipartUpload("other");
assert.equal((await client.abortMultipartUpload("other", begun.uploadId)).res.status, 204);
await assert.rejects(client.abortMultipartUpload("other", begun.uploadId), {
  code: "NoSuchUpload",
});
console.log("all is well");
