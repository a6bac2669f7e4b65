// Half-written comments, edits, ticks and orders: kept in this browser until the choice they belong to is acknowledged.

const PREFIX = "hone:draft:";
const KEEP_MS = 14 * 24 * 3600 * 1000;
const PAUSE_MS = 250;
const WRITTEN = /^(comment|tags|criterion-.*|corrected-\d|place-\d)$/;

let timer = 0;

const nameOf = (desk) => `${PREFIX}${desk.dataset.reviewer}:${desk.dataset.lease}`;

function fields(desk) {
  const form = desk.querySelector("#ballot");
  return form ? [...form.elements].filter((field) => WRITTEN.test(field.name)) : [];
}

function storage(act) {
  try {
    return act(localStorage);
  } catch {
    return null; // the browser lets us store nothing
  }
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
  storage((box) => box.setItem(nameOf(desk), JSON.stringify({ at: Date.now(), values })));
  const told = desk.querySelector("[data-saved]");
  if (told) told.hidden = false;
}

/** Put back what was kept for the pair on the desk; says whether there was anything. */
export function restore(desk) {
  if (!desk.dataset.lease) return false;
  const stored = storage((box) => JSON.parse(box.getItem(nameOf(desk))));
  if (!stored) return false;
  for (const field of fields(desk)) {
    const kept = stored.values[field.name] ?? [];
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
  return storage((box) => {
    const text = box.getItem(name);
    box.removeItem(name);
    return text && { lease, name, text };
  });
}

/** The choice was taken back: what was written for it is there again. */
export function recall(forgotten, lease) {
  if (forgotten?.lease === lease) storage((box) => box.setItem(forgotten.name, forgotten.text));
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
  storage((box) => {
    for (const name of Object.keys(box)) {
      if (name.startsWith(PREFIX) && !(JSON.parse(box.getItem(name))?.at > Date.now() - KEEP_MS)) box.removeItem(name);
    }
  });
}
