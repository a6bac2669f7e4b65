// Long forms: what was typed into them is kept in this browser until it is saved, so that an expired sign-in, a closed
// tab or a lost connection takes nothing away. Nothing is kept of passwords and files, nor of whoever is signed out.

import * as stored from "./stored.js";
import { _ } from "./words.js";

const PREFIX = "hone:form:";
const PAUSE_MS = 250;
const { user } = document.body.dataset;
const nameOf = (form) => `${PREFIX}${user}:${new URL(form.action).pathname}`;

function fields(form) {
  return [...form.elements].filter((field) => field.name && field.willValidate !== undefined && !/^(hidden|password|file|submit|button)$/.test(field.type));
}

const ticks = (field) => field.type === "checkbox" || field.type === "radio";

function changed(field) {
  if (ticks(field)) return field.checked !== field.defaultChecked;
  if (field.options) return field.selectedIndex !== Math.max(0, [...field.options].findIndex((option) => option.defaultSelected));
  return field.value !== field.defaultValue;
}

/** A radio button or a box has a value of its own, so that it is part of its name here. */
const keyOf = (field) => (ticks(field) ? `${field.name}=${field.value}` : field.name);

function keep(form) {
  // A form that came back has what was typed as its own values: what was kept of them stays.
  const before = form.dataset.keep === "again" ? stored.read(nameOf(form))?.values ?? {} : {};
  const typed = Object.fromEntries(fields(form).filter(changed).map((field) => [keyOf(field), ticks(field) ? field.checked : field.value]));
  const values = { ...before, ...typed };
  if (Object.keys(values).length) stored.write(nameOf(form), { values, shown: form.elements.shown?.value });
  else stored.drop(nameOf(form));
}

function restore(form) {
  const kept = stored.read(nameOf(form));
  if (!kept || form.dataset.keep === "again") return;
  const { shown } = form.elements;
  const before = shown?.value;
  let restored = 0;
  for (const field of fields(form)) {
    const value = kept.values[keyOf(field)];
    if (value === undefined) continue;
    if (ticks(field)) field.checked = value;
    else field.value = value;
    if (!changed(field)) continue;
    restored += 1;
    field.closest("details")?.setAttribute("open", "");
  }
  if (!restored) {
    stored.drop(nameOf(form));
    return;
  }
  if (shown && kept.shown) shown.value = kept.shown; // the server then knows what somebody else has changed meanwhile
  form.closest("details")?.setAttribute("open", "");
  form.dispatchEvent(new Event("change", { bubbles: true }));
  tell(form, () => {
    form.reset();
    if (shown) shown.value = before;
    stored.drop(nameOf(form));
    form.dispatchEvent(new Event("change", { bubbles: true }));
  });
}

/** Say that what was typed is back, with a way to be rid of it. */
function tell(form, discard) {
  const note = document.createElement("div");
  note.className = "notice info restored";
  note.setAttribute("role", "status");
  const line = document.createElement("p");
  line.textContent = _("Restored what you had typed. It is not saved yet.");
  const button = document.createElement("button");
  button.type = "button";
  button.className = "button secondary small";
  button.textContent = _("Discard it");
  button.addEventListener("click", () => {
    discard();
    note.remove();
    fields(form)[0]?.focus();
  });
  note.append(line, button);
  form.prepend(note);
}

function watch(form) {
  let timer = 0;
  const now = () => {
    clearTimeout(timer);
    timer = 0;
    keep(form);
  };
  const soon = (event) => {
    if (!event.isTrusted && event.target === form) return; // put back, not typed
    clearTimeout(timer);
    timer = setTimeout(now, PAUSE_MS);
  };
  form.addEventListener("input", soon);
  form.addEventListener("change", soon);
  window.addEventListener("pagehide", () => { if (timer) now(); });
  form.addEventListener("submit", () => {
    now();
    const kept = stored.read(nameOf(form));
    if (kept) stored.write(nameOf(form), { ...kept, sent: true });
  });
}

/** What was sent is saved when the page that answers says that something was done; otherwise it is still a draft. */
function settle() {
  const saved = user && document.querySelector("#notices > .notice:not(.bad)");
  for (const name of stored.names(PREFIX)) {
    const kept = stored.read(name);
    if (!kept?.sent) continue;
    if (saved && !document.querySelector("form[data-keep=again]")) stored.drop(name);
    else stored.write(name, { ...kept, sent: false });
  }
}

/** Set up the forms of a page, once its messages are as the server sent them. */
export function keepForms() {
  settle();
  stored.prune(PREFIX, (name) => user && !name.startsWith(`${PREFIX}${user}:`));
  if (!user) return;
  for (const form of document.querySelectorAll("form[data-keep]")) {
    restore(form);
    watch(form);
  }
}
