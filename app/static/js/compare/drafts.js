// Half-written comments, edits, ticks and orders, kept here until their choice is acknowledged.

import * as stored from "../stored.js";

const PREFIX = "hone:draft:";
const PAUSE_MS = 250;
const WRITTEN = /^(comment|tags|criterion-.*|corrected-\d|place-\d)$/;

let timer = 0;

const nameOf = (desk) => `${PREFIX}${desk.dataset.reviewer}:${desk.dataset.lease}`;

function fields(desk) {
  const form = desk.querySelector("#ballot");
  return form ? [...form.elements].filter((field) => WRITTEN.test(field.name)) : [];
}

/** Keep what stands in the desk's fields now. */
export function keep(desk) {
  if (!desk.isConnected || !desk.dataset.lease || !desk.dataset.written) return; // taken off the page, it has no fields
  const values = {};
  for (const field of fields(desk)) {
    const ticked = field.type === "checkbox" || field.type === "radio";
    if (ticked && !field.checked) continue;
    if (field.dataset.original !== undefined && field.value === field.defaultValue) continue;
    (values[field.name] ??= []).push(field.value);
  }
  stored.write(nameOf(desk), { values });
  const told = desk.querySelector("[data-saved]");
  if (told) told.hidden = false;
}

/** Put back what was kept for the pair on the desk; says whether there was anything. */
export function restore(desk) {
  if (!desk.dataset.lease) return false;
  const draft = stored.read(nameOf(desk));
  if (!draft) return false;
  for (const field of fields(desk)) {
    const kept = draft.values[field.name] ?? [];
    if (field.type === "checkbox" || field.type === "radio") field.checked = kept.includes(field.value);
    else if (kept.length) {
      field.value = kept[0];
      if (field.dataset.original !== undefined) field.closest("details").open = true; // no correction out of sight
    }
    else if (field.dataset.original === undefined) field.value = "";
  }
  desk.dataset.written = "yes";
  return true;
}

/** The choice is acknowledged: what was written for it is stored there. Gives what it was, for an undo. */
export function forget(desk, lease) {
  const name = `${PREFIX}${desk.dataset.reviewer}:${lease}`;
  return stored.storage((box) => {
    const text = box.getItem(name);
    box.removeItem(name);
    return text && { lease, name, text };
  });
}

/** The choice was taken back: what was written for it is there again. */
export function recall(forgotten, lease) {
  if (forgotten?.lease === lease) stored.storage((box) => box.setItem(forgotten.name, forgotten.text));
}

/** Keep whatever is written on the desk that ``current`` gives, soon after it was written and when the page goes. */
export function watchDrafts(current) {
  const written = (event) => {
    const desk = current();
    if (!WRITTEN.test(event.target.name ?? "") || !desk.contains(event.target)) return;
    desk.dataset.written = "yes";
    clearTimeout(timer);
    timer = setTimeout(() => keep(desk), PAUSE_MS);
  };
  document.addEventListener("input", written);
  document.addEventListener("change", written);
  window.addEventListener("pagehide", () => keep(current()));
  document.addEventListener("visibilitychange", () => { if (document.hidden) keep(current()); });
  stored.prune(PREFIX);
}
