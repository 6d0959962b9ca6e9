/**
 * The widget's markup, for pages that were not rendered by Django: the same as that of
 * templates/resumable_uploads/uploader.html, as a test checks.
 */

const ICONS = {
  "queued preparing": '<circle cx="12" cy="12" r="9"/><path d="M12 7v5l3 2"/>',
  uploading: '<circle cx="12" cy="12" r="9"/><path d="M12 16V8m0 0-3.5 3.5M12 8l3.5 3.5"/>',
  waiting:
    '<path d="M4.5 12a7.5 7.5 0 0 1 13-5l2 2m0-5v5h-5M19.5 12a7.5 7.5 0 0 1-13 5l-2-2m0 5v-5h5"/>',
  paused: '<circle cx="12" cy="12" r="9"/><path d="M10 9v6m4-6v6"/>',
  processing: '<circle cx="12" cy="12" r="9"/><path d="M7.5 12h.01M12 12h.01m4.49 0h.01"/>',
  complete:
    '<circle class="ru-icon__full" cx="12" cy="12" r="9"/><path class="ru-icon__on-full" d="m8 12.5 2.7 2.7L16 9.5"/>',
  failed: '<path d="M12 3.5 22 20.5H2z"/><path d="M12 10v4.5m0 3v.01"/>',
  cancelled: '<circle cx="12" cy="12" r="9"/><path d="m9 9 6 6m0-6-6 6"/>',
};

/**
 * @typedef {object} Shape
 * @property {boolean} [multiple]
 * @property {boolean} [folders]
 * @property {boolean} [camera]
 * @property {string} [accept]
 */

/**
 * Make the element that `mount` takes.
 *
 * @param {import("./words.js").Words} words
 * @param {Shape} shape
 * @returns {HTMLElement}
 */
export function makeMarkup(words, shape) {
  const template = document.createElement("template");
  template.innerHTML = markup((key) => escaped(words.say(key)), shape);
  return /** @type {HTMLElement} */ (template.content.firstElementChild);
}

/**
 * @param {(key: string) => string} say
 * @param {Shape} shape
 */
function markup(say, { multiple = true, folders, camera, accept }) {
  return `<section class="ru-uploader" aria-label="${say("upload_files")}" data-ru-uploader="element">
  <div class="ru-drop">
    <svg class="ru-drop__picture" viewBox="0 0 48 48" aria-hidden="true"><path d="M24 31V11m0 0-8 8m8-8 8 8"/><path d="M9 30v5a4 4 0 0 0 4 4h22a4 4 0 0 0 4-4v-5"/></svg>
    <div class="ru-drop__buttons">
      ${choice(say(multiple ? "choose_files" : "choose_file"), " ru-button--main", `${multiple ? " multiple" : ""}${accept ? ` accept="${escaped(accept)}"` : ""}`)}
      ${folders && multiple ? choice(say("choose_folder"), "", " webkitdirectory multiple", "folder") : ""}
      ${camera ? choice(say("take_photo"), "", ' accept="image/*" capture="environment"', "camera") : ""}
    </div>
    <p class="ru-drop__hint">${say(multiple ? "drop_files" : "drop_file")}</p>
    <p class="ru-limits" data-ru="limits"></p>
  </div>
  <div class="ru-notices" role="alert" data-ru="notices"></div>
  <section class="ru-panel ru-unfinished" data-ru="unfinished" hidden>
    <h2 class="ru-heading">${say("unfinished_title")}</h2>
    <p class="ru-hint">${say("unfinished_hint")}</p>
    <ul class="ru-list" data-ru="unfinished-list"></ul>
  </section>
  <section class="ru-panel ru-total" aria-label="${say("all_files")}" data-ru="total" hidden>
    <div class="ru-total__head">
      <p class="ru-total__files" data-ru="total-files"></p>
      <p class="ru-total__facts" dir="auto" data-ru="total-facts"></p>
    </div>
    <progress class="ru-bar ru-bar--total" max="1" value="0" aria-label="${say("progress_all")}" data-ru="total-bar"></progress>
    <p class="ru-line" data-ru="line" hidden></p>
    <div class="ru-actions">
      <button class="ru-button" type="button" data-ru="main-all" data-ru-action="pause-all" hidden>${say("pause_all")}</button>
      <button class="ru-button" type="button" data-ru="retry-all" data-ru-action="retry-all" hidden>${say("retry_all")}</button>
      <button class="ru-button" type="button" data-ru="cancel-all" data-ru-action="cancel-all" hidden>${say("cancel_all")}</button>
      <button class="ru-button" type="button" data-ru="clear" data-ru-action="clear" hidden>${say("clear_finished")}</button>
    </div>
  </section>
  <ul class="ru-list ru-files" aria-label="${say("files")}" data-ru="files"></ul>
  <p class="ru-spoken" role="status" aria-live="polite" data-ru="live"></p>
  <template data-ru-template="file"><li class="ru-file" data-ru-row>
    <span class="ru-icon" aria-hidden="true">
      <canvas class="ru-thumb" width="96" height="96" data-ru="thumb" hidden></canvas>
      ${Object.entries(ICONS).map(icon).join("\n      ")}
    </span>
    <div class="ru-file__body">
      <p class="ru-file__name" dir="auto" data-ru="name"></p>
      <progress class="ru-bar" max="1" value="0" data-ru="bar"></progress>
      <p class="ru-file__facts"><span class="ru-state" data-ru="state"></span> <span dir="auto" data-ru="facts"></span></p>
      <p class="ru-file__error" data-ru="error" hidden></p>
    </div>
    <div class="ru-actions ru-file__actions">
      <a class="ru-button" data-ru="download" hidden></a>
      <button class="ru-button" type="button" data-ru="delete" hidden></button>
      <button class="ru-button" type="button" data-ru="main" hidden></button>
      <button class="ru-button" type="button" data-ru="end" hidden></button>
    </div>
  </li></template>
  <template data-ru-template="unfinished"><li class="ru-file">
    <span class="ru-icon" aria-hidden="true"><svg viewBox="0 0 24 24"><path d="M20.8 14A9 9 0 1 1 21 12"/><path d="M12 7v5l3 2"/></svg></span>
    <div class="ru-file__body">
      <p class="ru-file__name" dir="auto" data-ru="name"></p>
      <progress class="ru-bar" max="1" value="0"></progress>
      <p class="ru-file__facts"><span dir="auto" data-ru="facts"></span></p>
    </div>
    <div class="ru-actions ru-file__actions">
      <button class="ru-button" type="button" data-ru-action="choose-again">${say("choose_again")}</button>
      <button class="ru-button" type="button" data-ru-action="discard">${say("discard")}</button>
    </div>
  </li></template>
</section>`;
}

/**
 * @param {string} label
 * @param {string} looks
 * @param {string} attributes
 * @param {string} [part]
 */
function choice(label, looks, attributes, part) {
  const name = part ? ` data-ru="${part}"` : "";
  return `<label class="ru-choose"${name}>
        <input class="ru-choose__input" type="file" data-ru="input"${attributes}>
        <span class="ru-button${looks}">${label}</span>
      </label>`;
}

/**
 * @param {[string, string]} entry
 * @param {number} index
 */
function icon([states, shape], index) {
  const hidden = index > 0 ? " hidden" : "";
  return `<svg viewBox="0 0 24 24" data-ru-icon="${states}"${hidden}>${shape}</svg>`;
}

/** @param {string} text */
function escaped(text) {
  /** @type {Record<string, string>} */
  const entities = { "&": "&amp;", "<": "&lt;", ">": "&gt;", '"': "&quot;" };
  return text.replace(/[&<>"]/g, (sign) => entities[sign]);
}
