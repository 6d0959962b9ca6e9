/**
 * The list of unfinished uploads: for each the file can be chosen again, or what there
 * is of it thrown away.
 */

export class UnfinishedList {
  /** @type {import("./uploader.js").Unfinished[]} */
  #items = [];

  /**
   * @param {HTMLElement | null} section holds the list, hidden while it is empty
   * @param {HTMLTemplateElement | null} template for one of them
   * @param {import("./words.js").Words} words
   */
  constructor(section, template, words) {
    this.section = section;
    this.template = template;
    this.words = words;
  }

  /**
   * @param {string | undefined} id
   * @returns {import("./uploader.js").Unfinished | undefined}
   */
  find(id) {
    return this.#items.find((item) => item.id === id);
  }

  /** @param {import("./uploader.js").Unfinished[]} items */
  show(items) {
    this.#items = items;
    const list = this.section?.querySelector("[data-ru=unfinished-list]");
    list?.replaceChildren(...items.map((item) => this.#element(item)));
    if (this.section) this.section.hidden = items.length === 0;
  }

  /** @param {string | undefined} id */
  drop(id) {
    if (this.find(id)) this.show(this.#items.filter((item) => item.id !== id));
  }

  /** @param {import("./uploader.js").Unfinished} item */
  #element(item) {
    const copy = /** @type {DocumentFragment} */ (this.template?.content.cloneNode(true));
    const element = /** @type {HTMLElement} */ (copy.firstElementChild);
    element.dataset.ruId = item.id;
    const name = item.relativePath || item.name;
    fill(element, "name", name);
    fill(element, "facts", this.#facts(item));
    const bar = element.querySelector("progress");
    if (bar) bar.value = item.size ? item.received / item.size : 0;
    bar?.setAttribute("aria-label", this.words.say("progress_of", { name }));
    for (const button of element.querySelectorAll("[data-ru-action]")) {
      const action = button.textContent?.trim();
      button.setAttribute("aria-label", this.words.say("action_on", { action, name }));
    }
    return element;
  }

  /** @param {import("./uploader.js").Unfinished} item */
  #facts({ received, size, expiresAt }) {
    const { words } = this;
    const amounts = { received: words.size(received), size: words.size(size) };
    const facts = [words.say("unfinished_amount", amounts)];
    if (expiresAt) facts.push(words.say("unfinished_until", { date: words.date(expiresAt) }));
    return facts.join(" · ");
  }
}

/**
 * @param {HTMLElement} element
 * @param {string} name
 * @param {string} text
 */
function fill(element, name, text) {
  const part = element.querySelector(`[data-ru="${name}"]`);
  if (part) part.textContent = text;
}
