// Putting answers in order: tapped from best to worst, dragged, or moved with keys; written into the form's own fields.

import { say } from "./requests.js";
import { _ } from "../words.js";

const LETTERS = "ABCDEFGH";
const ORDINALS = [_("first"), _("second"), _("third"), _("fourth"), _("fifth"), _("sixth"), _("seventh"), _("eighth")];
const BACK = document.dir === "rtl" ? "ArrowRight" : "ArrowLeft";
const ON = document.dir === "rtl" ? "ArrowLeft" : "ArrowRight";
const DRAG_PX = 6;

/** Set up the board of a desk that has one. */
export function setUpRanking(desk) {
  const board = desk.querySelector(".board");
  if (!board) return;
  const fields = [...desk.querySelectorAll("select[name^=place-]")];
  const chips = [...board.querySelectorAll(".chip")];
  const list = board.querySelector(".tiers");
  const pool = board.querySelector(".pool");
  let tiers = read();
  let chosen = null;
  desk.querySelector(".place-fields").hidden = true;
  board.hidden = false;

  function read() {
    const found = new Map();
    fields.forEach((field, item) => { if (field.value) found.set(+field.value, [...(found.get(+field.value) ?? []), item]); });
    return [...found.entries()].sort(([one], [other]) => one - other).map(([, items]) => items);
  }

  const tierOf = (item) => tiers.findIndex((items) => items.includes(item));
  const without = (item) => tiers.map((items) => items.filter((other) => other !== item)).filter((items) => items.length);

  function change(next, item, focus = true) {
    tiers = next.filter((items) => items.length);
    chosen = item;
    fields.forEach((field, at) => { field.value = tierOf(at) < 0 ? "" : String(tierOf(at) + 1); });
    fields[0].dispatchEvent(new Event("input", { bubbles: true }));
    const inside = board.contains(document.activeElement) && document.activeElement.matches(".chip");
    draw();
    if (focus && inside) chips[item].focus();
    const at = tierOf(item);
    const tied = at < 0 ? [] : tiers[at].filter((other) => other !== item).map((other) => LETTERS[other]);
    const values = { letter: LETTERS[item], place: ORDINALS[at], others: tied.join(", ") };
    if (at < 0) say(_("%(letter)s is taken out", values));
    else say(tied.length ? _("%(letter)s: %(place)s, tied with %(others)s", values) : _("%(letter)s: %(place)s", values));
  }

  function draw() {
    const focused = document.activeElement;
    list.replaceChildren(...tiers.map((items, at) => {
      const row = document.createElement("li");
      row.className = "tier";
      row.dataset.tier = at;
      row.append(...items.map((item) => chips[item]));
      return row;
    }));
    pool.replaceChildren(...chips.filter((_, item) => tierOf(item) < 0));
    pool.hidden = !pool.children.length;
    chips.forEach((chip, item) => {
      const at = tierOf(item);
      chip.setAttribute("aria-label", at < 0 ? _("%(letter)s, not placed", { letter: LETTERS[item] }) : _("%(letter)s: %(place)s", { letter: LETTERS[item], place: ORDINALS[at] }));
      chip.setAttribute("aria-pressed", String(item === chosen));
    });
    const at = chosen === null ? -1 : tierOf(chosen);
    const able = { better: at > 0 || (at === 0 && tiers[0].length > 1), worse: at >= 0 && (at < tiers.length - 1 || tiers[at].length > 1), tie: at > 0, out: at >= 0 };
    for (const button of board.querySelectorAll("[data-move]")) button.setAttribute("aria-disabled", String(!able[button.dataset.move]));
    if (chips.includes(focused)) focused.focus();
  }

  function move(kind, item = chosen) {
    const at = item === null ? -1 : tierOf(item);
    if (at < 0) return;
    const alone = tiers[at].length === 1;
    const rest = without(item);
    if (kind === "out") change(rest, item);
    else if (kind === "tie" && at > 0) change(rest.map((items, tier) => (tier === at - 1 ? [...items, item] : items)), item);
    else if (kind === "better" && (at > 0 || !alone)) change(rest.toSpliced(alone ? at - 1 : at, 0, [item]), item);
    else if (kind === "worse" && (at < tiers.length - 1 || !alone)) change(rest.toSpliced(at + 1, 0, [item]), item);
  }

  function tap(item) {
    if (tierOf(item) < 0) change([...tiers, [item]], item);
    else {
      chosen = item;
      draw();
    }
  }

  board.addEventListener("click", (event) => {
    const chip = event.target.closest(".chip");
    const button = event.target.closest("[data-move]");
    if (chip && !chip.dataset.dragged) tap(+chip.dataset.item);
    if (chip) delete chip.dataset.dragged;
    if (button && button.getAttribute("aria-disabled") !== "true") move(button.dataset.move, chosen ?? tiers.at(-1)?.at(-1));
  });

  board.addEventListener("keydown", (event) => {
    const chip = event.target.closest(".chip");
    const kind = { [BACK]: "better", ArrowUp: "better", [ON]: "worse", ArrowDown: "worse" }[event.key];
    if (!chip || !kind || event.ctrlKey || event.metaKey || event.altKey) return;
    event.preventDefault();
    move(kind, +chip.dataset.item);
  });

  board.addEventListener("pointerdown", (event) => {
    const chip = event.target.closest(".chip");
    if (!chip || event.button !== 0) return;
    const from = { x: event.clientX, y: event.clientY };
    let dragging = false;
    const drag = (moved) => {
      if (!dragging && Math.hypot(moved.clientX - from.x, moved.clientY - from.y) < DRAG_PX) return;
      if (!dragging) {
        dragging = true;
        chip.setPointerCapture(event.pointerId);
        chip.classList.add("dragged");
      }
      chip.style.translate = `${moved.clientX - from.x}px ${moved.clientY - from.y}px`;
    };
    const drop = (last) => {
      chip.removeEventListener("pointermove", drag);
      chip.removeEventListener("pointerup", drop);
      chip.removeEventListener("pointercancel", drop);
      chip.classList.remove("dragged");
      chip.style.translate = "";
      if (!dragging) return;
      chip.dataset.dragged = "yes";
      setTimeout(() => { delete chip.dataset.dragged; });
      if (last.type === "pointerup") land(+chip.dataset.item, last.clientX, last.clientY);
    };
    chip.addEventListener("pointermove", drag);
    chip.addEventListener("pointerup", drop);
    chip.addEventListener("pointercancel", drop);
  });

  // Onto the middle of a tier ties; onto its edge, or between two, comes before or after it; below, back to the pool.
  function land(item, x, y) {
    const box = pool.hidden ? null : pool.getBoundingClientRect();
    const rest = without(item);
    if (box && y > box.top) {
      change(rest, item, false);
      return;
    }
    const rows = [...list.children].map((row) => ({ items: tiers[row.dataset.tier].filter((other) => other !== item), box: row.getBoundingClientRect() })).filter((row) => row.items.length);
    const backwards = getComputedStyle(list).direction === "rtl";
    for (const [at, row] of rows.entries()) {
      const inLine = y < row.box.bottom + 8;
      const along = ((backwards ? row.box.right - x : x - row.box.left)) / row.box.width;
      if (!inLine || along > 0.75) continue;
      if (along < 0.25) change(rest.toSpliced(at, 0, [item]), item, false);
      else change(rest.map((items, tier) => (tier === at ? [...items, item] : items)), item, false);
      return;
    }
    change([...rest, [item]], item, false);
  }

  draw();
}
