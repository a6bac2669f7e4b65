// Settling a contradiction: the reading view and the keys of the page where reviewers compare, around a plain form.

import { setUpKeys } from "./compare/keys.js";
import { setUpLook } from "./compare/look.js";

const desk = document.getElementById("desk");
const note = document.getElementById("comment");
const name = `hone:note:${document.body.dataset.user}:${location.pathname}`;

for (const item of desk.querySelectorAll(".scripted[hidden]")) item.hidden = false;
setUpKeys(desk);
setUpLook(desk);

/** The note stays in this tab while somebody looks at what reviewers said, or goes on and comes back. */
function keepNote() {
  const filled = () => note.closest(".pop").toggleAttribute("data-filled", note.value.trim() !== "");
  const store = (value) => {
    try {
      if (value) sessionStorage.setItem(name, value);
      else sessionStorage.removeItem(name);
    } catch {
      // for this page only
    }
  };
  try {
    note.value ||= sessionStorage.getItem(name) ?? "";
  } catch {
    // nothing is kept
  }
  note.addEventListener("input", () => {
    filled();
    store(note.value);
  });
  note.form.addEventListener("submit", () => store(""));
  filled();
}

if (note) keepNote();
