import assert from "node:assert/strict";
import { test } from "node:test";

import { filesOf } from "../../resumable_uploads/static/resumable_uploads/dropped.js";

const fileEntry = (fullPath) => ({
  isFile: true,
  fullPath,
  file: (found) => found({ name: fullPath.split("/").at(-1) }),
});

const unreadable = { isFile: true, fullPath: "/d/x", file: (_found, fail) => fail() };

/** A folder that hands out its children a few at a time, as browsers do. */
function folderEntry(fullPath, children, atOnce = 2) {
  const left = [...children];
  const reader = { readEntries: (found) => found(left.splice(0, atOnce)) };
  return { isFile: false, isDirectory: true, fullPath, createReader: () => reader };
}

const transferOf = (entries, files = []) => ({
  items: entries.map((entry) => ({ kind: "file", webkitGetAsEntry: () => entry })),
  files,
});

test("plain files are taken as they are", async () => {
  const files = [{ name: "a" }, { name: "b" }];
  const entries = files.map(({ name }) => fileEntry(`/${name}`));
  const found = await filesOf(transferOf(entries, files));
  assert.deepEqual(found.map(({ file }) => file), files);
  assert.deepEqual(found.map(({ relativePath }) => relativePath), ["", ""]);
});

test("folders are opened, to the last file, and paths are kept", async () => {
  const inner = folderEntry("/trip/day", [fileEntry("/trip/day/c")]);
  const outer = [fileEntry("/trip/a"), fileEntry("/trip/b"), inner, unreadable];
  const entries = [folderEntry("/trip", outer), fileEntry("/alone")];
  const found = await filesOf(transferOf(entries));
  assert.deepEqual(
    found.map(({ file, relativePath }) => [file.name, relativePath]),
    [["a", "trip/a"], ["b", "trip/b"], ["c", "trip/day/c"], ["alone", ""]],
  );
});

test("an empty folder, and a drop of text, are no files", async () => {
  assert.deepEqual(await filesOf(transferOf([folderEntry("/empty", [])])), []);
  assert.deepEqual(await filesOf({ items: [{ kind: "string" }], files: [] }), []);
});
