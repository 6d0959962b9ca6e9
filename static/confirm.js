/** Asks before a form with `data-confirm` is sent. Without scripts it is sent at once. */

document.addEventListener("submit", (event) => {
  const question = /** @type {HTMLFormElement} */ (event.target).dataset.confirm;
  if (question && !confirm(question)) event.preventDefault();
});
