/**
 * The files in a drop, folders opened, each with the path it had.
 */

/** @typedef {{file: File, relativePath: string}} FoundFile */

/**
 * Return the files of a drop or of the clipboard.
 *
 * @param {DataTransfer} transfer
 * @returns {Promise<FoundFile[]>}
 */
export async function filesOf(transfer) {
  // The list is emptied as soon as the event is over: take everything out at once.
  const entries = Array.from(transfer.items ?? [], entryOf).filter(Boolean);
  const files = Array.from(transfer.files ?? [], (file) => ({ file, relativePath: "" }));
  if (!entries.some((entry) => entry?.isDirectory)) return files;
  const found = await Promise.all(entries.map((entry) => walk(entry)));
  return found.flat();
}

/**
 * @param {DataTransferItem} item
 * @returns {FileSystemEntry | null}
 */
function entryOf(item) {
  return item.kind === "file" ? (item.webkitGetAsEntry?.() ?? null) : null;
}

/**
 * @param {any} entry
 * @returns {Promise<FoundFile[]>}
 */
async function walk(entry) {
  if (entry.isFile) {
    const file = await fileOf(entry);
    return file ? [{ file, relativePath: folderPath(entry) }] : [];
  }
  const found = [];
  for (const child of await childrenOf(entry)) found.push(...(await walk(child)));
  return found;
}

/** @param {FileSystemEntry} entry */
function folderPath(entry) {
  const path = entry.fullPath.replace(/^\//, "");
  return path.includes("/") ? path : "";
}

/**
 * @param {FileSystemFileEntry} entry
 * @returns {Promise<File | null>} null where it cannot be read
 */
function fileOf(entry) {
  return new Promise((resolve) => entry.file(resolve, () => resolve(null)));
}

/**
 * @param {FileSystemDirectoryEntry} folder
 * @returns {Promise<FileSystemEntry[]>}
 */
async function childrenOf(folder) {
  const reader = folder.createReader();
  const children = [];
  for (;;) {
    // Chromium hands out a hundred at a time; an empty list is the end.
    const some = await new Promise((resolve) =>
      reader.readEntries(resolve, () => resolve([])),
    );
    if (some.length === 0) return children;
    children.push(...some);
  }
}
