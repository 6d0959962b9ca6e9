/**
 * Small pictures of images, one after another, and only of those that come into view.
 * Drawn into a canvas: blob addresses would need an exception in the site's policy.
 */

import { Lanes } from "./lanes.js";

/** Larger files take longer to decode than a picture is worth, in bytes. */
const LARGEST = 64 * 1024 * 1024;

export class Thumbnails {
  #lanes = new Lanes(1);
  #order = 0;
  /** @type {WeakMap<Element, {file: File, canvas: HTMLCanvasElement}>} */
  #wanted = new WeakMap();
  #observer;

  constructor() {
    const { IntersectionObserver: Observer } = globalThis;
    const seen = (/** @type {IntersectionObserverEntry[]} */ entries) =>
      entries.filter((entry) => entry.isIntersecting).forEach(({ target }) => this.#draw(target));
    this.#observer = Observer ? new Observer(seen, { rootMargin: "200px" }) : null;
  }

  /**
   * Draw a file into the canvas of its row, once that is in view.
   *
   * @param {Element} row
   * @param {File} file
   * @param {HTMLCanvasElement} canvas hidden until it is drawn
   */
  add(row, file, canvas) {
    if (!file.type.startsWith("image/") || file.size === 0 || file.size > LARGEST) return;
    this.#wanted.set(row, { file, canvas });
    this.#observer?.observe(row);
  }

  /** Draw no more. */
  close() {
    this.#observer?.disconnect();
  }

  /** @param {Element} row */
  async #draw(row) {
    this.#observer?.unobserve(row);
    const wanted = this.#wanted.get(row);
    if (!wanted) return;
    const leave = await this.#lanes.take((this.#order += 1));
    try {
      if (row.isConnected) await draw(wanted.file, wanted.canvas);
    } catch {
      // A kind of image that this browser does not know, or none at all.
    } finally {
      leave();
    }
  }
}

/**
 * Draw the middle of an image, as large as it fits.
 *
 * @param {File} file
 * @param {HTMLCanvasElement} canvas
 */
async function draw(file, canvas) {
  const image = await createImageBitmap(file);
  const side = Math.min(image.width, image.height);
  const [x, y] = [(image.width - side) / 2, (image.height - side) / 2];
  const { width, height } = canvas;
  const context = canvas.getContext("2d");
  if (context) context.imageSmoothingQuality = "high";
  context?.drawImage(image, x, y, side, side, 0, 0, width, height);
  image.close();
  canvas.hidden = false;
}
