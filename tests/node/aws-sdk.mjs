// What a program does with Amazon's SDK: files by parts, and a stream of pieces.

import assert from "node:assert/strict";
import { createReadStream, readFileSync, statSync } from "node:fs";

import {
  DeleteObjectCommand,
  GetObjectCommand,
  HeadObjectCommand,
  ListObjectsV2Command,
  PutObjectCommand,
  S3Client,
} from "@aws-sdk/client-s3";
import { Upload } from "@aws-sdk/lib-storage";

const { url, held, path } = JSON.parse(process.argv[2]);
const client = new S3Client({
  endpoint: `${url}/uploads/s3`,
  region: "us-east-1",
  forcePathStyle: true,
  credentials: { ...held.credentials, expiration: new Date(held.Expiration) },
});
const Bucket = "demo-bucket";
const data = readFileSync(path);

const whole = new Upload({
  client,
  partSize: 5 * 1024 * 1024,
  queueSize: 3,
  params: { Bucket, Key: "dir/ü (1)!.bin", Body: createReadStream(path) },
});
const done = await whole.done();
assert.ok(done.ETag.endsWith(`-${Math.ceil(data.length / (5 * 1024 * 1024))}"`));
const got = await client.send(new GetObjectCommand({ Bucket, Key: "dir/ü (1)!.bin" }));
assert.ok(data.equals(Buffer.from(await got.Body.transformToByteArray())));

// A stream goes in pieces, with its checksum in a trailer.
await client.send(
  new PutObjectCommand({
    Bucket,
    Key: "stream",
    Body: createReadStream(path),
    ContentLength: statSync(path).size,
  }),
);
const ChecksumMode = "ENABLED";
const head = await client.send(
  new HeadObjectCommand({ Bucket, Key: "stream", ChecksumMode }),
);
assert.ok(head.ChecksumCRC32);
assert.equal(head.ContentEncoding, undefined);
const stream = await client.send(
  new GetObjectCommand({ Bucket, Key: "stream", ChecksumMode }),
);
assert.ok(data.equals(Buffer.from(await stream.Body.transformToByteArray())));

const listed = await client.send(new ListObjectsV2Command({ Bucket, Delimiter: "/" }));
assert.deepEqual(listed.Contents.map((one) => one.Key), ["stream"]);
assert.deepEqual(listed.CommonPrefixes.map((one) => one.Prefix), ["dir/"]);
await client.send(new DeleteObjectCommand({ Bucket, Key: "stream" }));
await assert.rejects(client.send(new GetObjectCommand({ Bucket, Key: "stream" })), {
  name: "NoSuchKey",
});
console.log("all is well");
