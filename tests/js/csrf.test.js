import assert from "node:assert/strict";
import { afterEach, test } from "node:test";

import {
  csrfHeaders,
  csrfToken,
} from "../../resumable_uploads/static/resumable_uploads/csrf.js";

/** A document with a cookie, and perhaps a field or a meta element with a token. */
function page({ cookie = "", field = "", meta = "" }) {
  const element = (value) => ({ getAttribute: () => value });
  const found = {
    "input[name=csrfmiddlewaretoken]": field ? element(field) : null,
    "meta[name=csrf-token]": meta ? element(meta) : null,
  };
  globalThis.document = { cookie, querySelector: (selector) => found[selector] };
  globalThis.location = { href: "https://example.com/upload/", origin: "https://example.com" };
}

afterEach(() => {
  delete globalThis.document;
  delete globalThis.location;
});

test("the cookie comes first: it is the newest", () => {
  page({ cookie: "a=1; csrftoken=fresh; b=2", field: "old" });
  assert.equal(csrfToken(), "fresh");
  document.cookie = "csrftoken=fresher";
  assert.equal(csrfToken(), "fresher");
});

test("a cookie that only ends like it is another one", () => {
  page({ cookie: "xcsrftoken=no; csrftokenx=no" });
  assert.equal(csrfToken(), "");
});

test("its name can be another one", () => {
  page({ cookie: "csrftoken=no; token=yes" });
  assert.equal(csrfToken({ cookieName: "token" }), "yes");
});

test("where scripts see no cookie the field is read, then the meta element", () => {
  page({ field: "from the form", meta: "from the head" });
  assert.equal(csrfToken({ cookieName: "" }), "from the form");
  page({ meta: "from the head" });
  assert.equal(csrfToken(), "from the head");
});

test("the token goes to our own site only", () => {
  page({ cookie: "csrftoken=secret" });
  assert.deepEqual(csrfHeaders("/uploads/"), { "X-CSRFToken": "secret" });
  assert.deepEqual(csrfHeaders("/uploads/", { headerName: "X-T" }), { "X-T": "secret" });
  assert.deepEqual(csrfHeaders("https://files.example.net/uploads/"), {});
});

test("without a token there is no header", () => {
  page({});
  assert.deepEqual(csrfHeaders("/uploads/"), {});
});
