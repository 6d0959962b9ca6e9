import assert from "node:assert/strict";
import { test } from "node:test";

import {
  acceptList,
  refusal,
} from "../../resumable_uploads/static/resumable_uploads/limits.js";

const file = (name, type = "", size = 5) => ({ name, type, size });

test("without limits everything may be uploaded, empty files too", () => {
  assert.equal(refusal(file("a", "", 0), {}), null);
  assert.equal(refusal(file("a"), { max_size: null, allowed_types: [] }), null);
});

test("a file may have the greatest size, and not one byte more", () => {
  const limits = { max_size: 5 };
  assert.equal(refusal(file("a", "", 5), limits), null);
  assert.deepEqual(refusal(file("a", "", 6), limits), { code: "too_large", max_size: 5 });
});

test("extensions are compared without regard to case", () => {
  const limits = { allowed_extensions: [".pdf", ".tar.gz"] };
  assert.equal(refusal(file("A.PDF"), limits), null);
  assert.equal(refusal(file("x.tar.gz"), limits), null);
  assert.equal(refusal(file("pdf"), limits).code, "type_not_allowed");
  assert.equal(refusal(file("a.pdf.exe"), limits).code, "type_not_allowed");
});

test("types may have a star", () => {
  const limits = { allowed_types: ["image/*", "application/pdf", "text/x-*"] };
  assert.equal(refusal(file("a", "image/png"), limits), null);
  assert.equal(refusal(file("a", "text/x-c;charset=utf-8"), limits), null);
  assert.equal(refusal(file("a", "application/pdf"), limits), null);
  assert.equal(refusal(file("a", "application/pdfx"), limits).code, "type_not_allowed");
  assert.equal(refusal(file("a", "video/mp4"), limits).code, "type_not_allowed");
});

test("what the browser knows no type of is for the server to judge", () => {
  assert.equal(refusal(file("a.xyz", ""), { allowed_types: ["image/*"] }), null);
});

test("where extensions and types are given both must fit", () => {
  const limits = { allowed_types: ["image/*"], allowed_extensions: [".png"] };
  assert.equal(refusal(file("a.png", "image/png"), limits), null);
  assert.equal(refusal(file("a.png", "video/mp4"), limits).code, "type_not_allowed");
  assert.equal(refusal(file("a.gif", "image/gif"), limits).code, "type_not_allowed");
  assert.equal(acceptList(limits), ".png");
  assert.equal(acceptList({ allowed_types: ["image/*", "text/csv"] }), "image/*,text/csv");
  assert.equal(acceptList({}), "");
});
