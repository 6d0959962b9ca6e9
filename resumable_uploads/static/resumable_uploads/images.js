/**
 * How large pictures are, in pixels, and how to make them smaller before they are sent.
 */

import { UploadError } from "./failures.js";

/**
 * @typedef {object} PictureLimits pixels; what is left out is not checked
 * @property {number} [minWidth]
 * @property {number} [minHeight]
 * @property {number} [maxWidth]
 * @property {number} [maxHeight]
 */

/**
 * See that a picture is neither too small nor too large. Other files, and kinds of
 * pictures that the browser does not know, pass: those are for the server to judge.
 *
 * @param {File} file
 * @param {PictureLimits} limits
 * @returns {Promise<void>} rejected with an `UploadError` "picture_too_small" or
 *   "picture_too_large", with width and height as facts
 */
export async function checkPicture(file, limits) {
  if (!file.type.startsWith("image/")) return;
  const picture = await createImageBitmap(file).catch(() => null);
  if (!picture) return;
  const { width, height } = picture;
  picture.close();
  const { minWidth = 0, minHeight = 0 } = limits;
  const { maxWidth = Infinity, maxHeight = Infinity } = limits;
  const facts = { width, height };
  if (width < minWidth || height < minHeight) {
    throw new UploadError("picture_too_small", "", { facts });
  }
  if (width > maxWidth || height > maxHeight) {
    throw new UploadError("picture_too_large", "", { facts });
  }
}

/**
 * Make a picture smaller, for `preprocess`; one that is small enough stays as it is.
 *
 * @param {File} file
 * @param {{maxWidth?: number, maxHeight?: number, type?: string, quality?: number}} wish
 *   pixels, "image/jpeg" or the like (the file's own where left out), and 0...1
 * @returns {Promise<Blob>}
 */
export async function scaledPicture(file, wish) {
  if (!file.type.startsWith("image/")) return file;
  const picture = await createImageBitmap(file).catch(() => null);
  if (!picture) return file;
  const { maxWidth = Infinity, maxHeight = Infinity, type = file.type, quality } = wish;
  const scale = Math.min(1, maxWidth / picture.width, maxHeight / picture.height);
  const size = [picture.width, picture.height].map((n) => Math.max(1, Math.round(n * scale)));
  const canvas = Object.assign(document.createElement("canvas"), {
    width: size[0],
    height: size[1],
  });
  canvas.getContext("2d")?.drawImage(picture, 0, 0, size[0], size[1]);
  picture.close();
  if (scale === 1 && type === file.type) return file;
  return new Promise((resolve) => {
    canvas.toBlob((blob) => resolve(blob ?? file), type, quality);
  });
}
