import assert from "node:assert/strict";
import { test } from "node:test";

import { UploadError } from "../../resumable_uploads/static/resumable_uploads/failures.js";
import {
  errorText,
  refusalText,
} from "../../resumable_uploads/static/resumable_uploads/reasons.js";
import { Words } from "../../resumable_uploads/static/resumable_uploads/words.js";

const words = new Words({ language: "en" });
const plain = (text) => text.replaceAll("\u00a0", " ");

test("sizes go in steps of 1024, with one digit", () => {
  const sizes = [0, 1, 1023, 1024, 1536, 5 * 1024 ** 3, 2 ** 50];
  assert.deepEqual(
    sizes.map((bytes) => plain(words.size(bytes))),
    ["0 bytes", "1 byte", "1,023 bytes", "1 kB", "1.5 kB", "5 GB", "1,024 TB"],
  );
});

test("times become rougher as they grow", () => {
  const times = [0.2, 40, 60, 125, 1800, 3600, 12_000];
  assert.deepEqual(
    times.map((seconds) => plain(words.duration(seconds))),
    ["1 sec", "40 sec", "1 min", "2 min, 5 sec", "30 min", "1 hr", "3 hr, 20 min"],
  );
});

test("numbers are written as in the language of the page", () => {
  assert.equal(plain(new Words({ language: "de" }).size(1536)), "1,5 kB");
  assert.equal(plain(new Words({ language: "xx-bad-tag-!" }).size(10)).length > 0, true);
});

test("a page may bring its own sentences, for some or all", () => {
  const german = new Words({ messages: { pause: "Anhalten" } });
  assert.equal(german.say("pause"), "Anhalten");
  assert.equal(german.say("cancel"), "Cancel");
});

test("values are filled in as text, and what is missing leaves no gap", () => {
  const refused = { code: "refused", detail: "" };
  const file = { name: "$& {size} <b>", size: 3 };
  assert.equal(refusalText(words, refused, file), "“$& {size} <b>” was not accepted.");
});

test("why a file was not taken", () => {
  const file = { name: "a.exe", size: 2048 };
  const say = (refusal) => plain(refusalText(words, refusal, file));
  assert.equal(
    say({ code: "too_large", max_size: 1024 }),
    "“a.exe” is too large: 2 kB, and at most 1 kB are allowed.",
  );
  assert.equal(
    say({ code: "type_not_allowed", allowed: ".png,.jpg" }),
    "“a.exe” is not of an accepted type (.png, .jpg).",
  );
  assert.equal(
    say({ code: "too_many_files", maxFiles: 2 }),
    "“a.exe” was left out: at most 2 files.",
  );
});

test("the server's own words come first, then ours, then at least the code", () => {
  assert.equal(errorText(words, new UploadError("gone", "It is over.")), "It is over.");
  assert.equal(errorText(words, new UploadError("network")), "The connection was lost.");
  assert.equal(
    errorText(words, new UploadError("http_418")),
    "Something went wrong (http_418).",
  );
  assert.equal(errorText(words, null), "");
});
