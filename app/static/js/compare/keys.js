// Keys: what each does, shown on the buttons, each to be changed, all to be switched off (WCAG 2.1.4).

import { _ } from "../words.js";

const OFF = "hone:keys";
const OWN = "hone:own-keys";
const COMMON = {
  skip: ["s"], why: ["w"], flag: ["f"], comment: ["c"], about: ["k"], edit0: ["q"], edit1: ["p"], raw: ["r"], diff: ["d"],
  whole: ["m"], guidelines: ["g"], undo: ["u", "z"], help: ["?"], reveal: ["v"], leave: ["l"], later: ["s"],
};
const [TO_A, TO_B] = document.dir === "rtl" ? ["arrowright", "arrowleft"] : ["arrowleft", "arrowright"];
const PAIR = { a: ["a", "1", TO_A], b: ["b", "2", TO_B], tie: ["t", "3"], both_bad: ["x", "4"] };
const STRENGTH = { a3: ["1"], a2: ["2"], a1: ["3"], tie: ["t", "4"], b1: ["5"], b2: ["6"], b3: ["7"], both_bad: ["x"] };
const RANKING = { ranked: ["enter"], tieup: ["="], takeout: ["backspace"], ...Object.fromEntries([..."12345678"].map((key, place) => [`item${place}`, [key]])) };
const NAMES = { arrowleft: "←", arrowright: "→", arrowup: "↑", arrowdown: "↓", enter: "↵", backspace: "⌫", " ": _("space") };

const nameOf = (key) => NAMES[key] ?? (key.length === 1 ? key.toUpperCase() : key);
const element = (action) => document.querySelector(`[data-key="${action}"]`);

let scale = "";
let bindings = {};
let waitingFor = null;

function stored(name) {
  try {
    return localStorage.getItem(name);
  } catch {
    return null;
  }
}

function store(name, value) {
  try {
    if (value === null) localStorage.removeItem(name);
    else localStorage.setItem(name, value);
  } catch {
    // for this page only
  }
}

export const keysOff = () => stored(OFF) === "off";

function ownKeys() {
  try {
    return JSON.parse(stored(OWN)) ?? {};
  } catch {
    return {};
  }
}

function bind() {
  const defaults = { ...COMMON, ...({ strength: STRENGTH, ranking: RANKING }[scale] ?? PAIR) };
  const own = Object.entries(ownKeys()).filter(([action]) => action in defaults);
  const taken = new Set(own.map(([, key]) => key));
  bindings = Object.fromEntries(Object.entries(defaults).map(([action, keys]) => [action, keys.filter((key) => !taken.has(key))]));
  for (const [action, key] of own) bindings[action] = [key];
}

/** Write the keys on the buttons of the desk, and in the list. */
export function setUpKeys(desk) {
  if (desk.dataset.scale) scale = desk.dataset.scale;
  bind();
  const off = keysOff();
  for (const label of document.querySelectorAll("[data-kbd]")) {
    const [key] = bindings[label.dataset.kbd] ?? [];
    label.textContent = key ? nameOf(key) : "";
    label.hidden = off ? label.dataset.kbd !== "help" : !key;
  }
  for (const row of document.querySelectorAll("[data-action]")) {
    row.hidden = !element(row.dataset.action);
    row.querySelector("[data-keys]").textContent = (bindings[row.dataset.action] ?? []).map(nameOf).join("  ") || _("none");
  }
}

const actionOf = (key) => Object.keys(bindings).find((action) => bindings[action].includes(key) && element(action));

/**
 * The key pressed. On an Arabic, Cyrillic or Greek layout a letter or digit of its own, unless somebody has bound it,
 * stands for what a Latin keyboard has in its place (one Arabic key writes two letters).
 */
function keyOf(event) {
  const key = event.key.toLowerCase();
  const [, place] = /^(?:Key|Digit)(\w)$/.exec(event.code) ?? [];
  const foreign = /^[\p{L}\p{M}\p{N}]+$/u.test(key) && !/[\p{Script=Latin}0-9]/u.test(key);
  if (!place || !foreign || event.getModifierState("AltGraph") || Object.values(bindings).flat().includes(key)) return key;
  return place.toLowerCase();
}

/** Do what a key stands for, as a press of its button would. */
function act(action) {
  const target = element(action);
  if (target.matches("summary")) {
    const box = target.parentElement;
    if (box.matches(".pop, .correct") || !box.open) box.open = true;
    else box.open = false;
    if (box.open) box.querySelector("textarea, .pop-panel button")?.focus();
  } else if (target.matches("textarea")) {
    target.focus();
  } else if (target.matches("fieldset")) {
    (target.querySelector("input:checked") ?? target.querySelector("input")).focus();
  } else {
    target.classList.add("picked");
    setTimeout(() => target.classList.remove("picked"), 300);
    target.click();
  }
}

function rebind(event) {
  const action = waitingFor;
  const told = document.querySelector("[data-keys-told]");
  const key = event.key.toLowerCase();
  if (["shift", "control", "alt", "meta", "altgraph", "tab"].includes(key)) return;
  event.preventDefault();
  event.stopPropagation();
  waitingFor = null;
  document.querySelector(".listening")?.classList.remove("listening");
  if (key === "escape") {
    told.textContent = _("Nothing was changed.");
    return;
  }
  const lost = Object.keys(bindings).find((other) => other !== action && bindings[other].includes(key) && element(other));
  const own = Object.fromEntries(Object.entries(ownKeys()).filter(([, other]) => other !== key));
  store(OWN, JSON.stringify({ ...own, [action]: key }));
  setUpKeys(document.getElementById("desk"));
  told.textContent = lost && !bindings[lost].length
    ? _("%(key)s is set. What had it before has no key now: choose one for it.", { key: nameOf(key) })
    : _("%(key)s is set.", { key: nameOf(key) });
}

document.addEventListener("keydown", (event) => {
  if (waitingFor) rebind(event);
}, true);

document.addEventListener("keydown", (event) => {
  if (event.defaultPrevented) return;
  const pop = document.querySelector("details.pop[open]");
  if (event.key === "Escape") {
    const box = pop ?? event.target.closest?.("details.correct[open]");
    if (box) {
      box.open = false;
      box.querySelector("summary").focus();
    } else if (event.target.matches?.("textarea, input, select")) {
      document.querySelector(".pair-title")?.focus({ preventScroll: true });
    }
    return;
  }
  if (event.repeat || event.ctrlKey || event.metaKey || event.altKey || event.isComposing || keysOff()) return;
  if (pop || document.querySelector("dialog[open]") || event.target.closest("textarea, select, [contenteditable], input:not([type=radio], [type=checkbox])")) return;
  const key = keyOf(event);
  const marks = /^\d$/.test(key) && event.target.closest("[role=radiogroup]");
  if (marks) { // a number is a mark there; one that the row does not have is no choice either
    const mark = marks.querySelector(`input[value="${key}"]`);
    mark?.focus();
    mark?.click();
    event.preventDefault();
    return;
  }
  const judged = ["backspace", "delete"].includes(key) && event.target.closest(".segments");
  if (judged) { // takes the mark back
    judged.querySelector("input[value='']")?.click();
    event.preventDefault();
    return;
  }
  const ownUse = { enter: "button, a, summary", " ": "button, a, summary, input" }[key] ?? (key.startsWith("arrow") ? "input, .answers, .chip, pre, table" : "");
  if (ownUse && event.target.closest(ownUse)) return;
  const action = actionOf(key);
  if (!action) return;
  event.preventDefault();
  act(action);
});

document.addEventListener("click", (event) => {
  if (event.target.closest("[data-key=help]")) document.getElementById("keys").showModal();
  const change = event.target.closest("[data-rebind]");
  if (change) {
    waitingFor = change.dataset.rebind;
    document.querySelector(".listening")?.classList.remove("listening");
    change.classList.add("listening");
    document.querySelector("[data-keys-told]").textContent = _("Press the new key.");
  }
  if (event.target.closest("[data-reset-keys]")) {
    store(OWN, null);
    setUpKeys(document.getElementById("desk"));
    document.querySelector("[data-keys-told]").textContent = _("All keys are as they were.");
  }
  const open = document.querySelector("details.pop[open]");
  if (open && !open.contains(event.target)) open.open = false;
});

document.getElementById("keys").addEventListener("close", () => {
  waitingFor = null;
  document.querySelector(".listening")?.classList.remove("listening");
});

const shortcuts = document.querySelector("[data-shortcuts]");
shortcuts.checked = !keysOff();
shortcuts.addEventListener("change", () => {
  store(OFF, shortcuts.checked ? "on" : "off");
  setUpKeys(document.getElementById("desk"));
});
