// How the answers are shown: as written, with differences marked, whole or folded; and which one a phone shows.

import { markDifferences, unmark } from "./diff.js";
import { say } from "./requests.js";
import { _ } from "../words.js";

const LOOKS = "hone:looks"; // as written and differences stay from pair to pair; whole answers are for one pair

function remembered() {
  try {
    return JSON.parse(localStorage.getItem(LOOKS)) ?? {};
  } catch {
    return {};
  }
}

function remember(name, on) {
  try {
    localStorage.setItem(LOOKS, JSON.stringify({ ...remembered(), [name]: on }));
  } catch {
    // for this pair only
  }
}

function differences(desk, announce) {
  const on = desk.querySelector("[data-look=diff]")?.checked;
  for (const body of desk.querySelectorAll(".answer .body")) unmark(body);
  if (!on) return;
  const raw = desk.querySelector("[data-look=raw]").checked;
  const [left, right] = desk.querySelectorAll(raw ? ".answer .raw" : ".answer .rendered");
  const [inA, inB] = markDifferences(left, right);
  if (announce) say(_("Differences marked: %(a)s in A, %(b)s in B.", { a: inA, b: inB }));
}

/** A new desk: as the reviewer likes to see it. */
export function setUpLook(desk) {
  const wanted = remembered();
  for (const box of desk.querySelectorAll("[data-look]")) box.checked = box.dataset.look !== "whole" && Boolean(wanted[box.dataset.look]);
  if (wanted.diff) differences(desk, false);
  const row = desk.querySelector(".answers");
  if (!row) return;
  const page = () => {
    const at = Math.round(Math.abs(row.scrollLeft) / Math.max(1, row.clientWidth));
    for (const link of desk.querySelectorAll("[data-page]")) {
      if (Number(link.dataset.page) === at) link.setAttribute("aria-current", "true");
      else link.removeAttribute("aria-current");
    }
  };
  row.addEventListener("scroll", page, { passive: true });
  page();
}

document.addEventListener("change", (event) => {
  const look = event.target.dataset?.look;
  if (!look) return;
  if (look !== "whole") remember(look, event.target.checked);
  const desk = document.getElementById("desk");
  if (look === "raw" || look === "diff") differences(desk, look === "diff");
});

document.addEventListener("click", (event) => {
  const link = event.target.closest("[data-page]");
  if (!link) return;
  event.preventDefault(); // the address of the page stays
  document.getElementById(`answer-${link.dataset.page}`).scrollIntoView({ block: "nearest", inline: "start" });
});

// Guidelines that have changed.
document.addEventListener("toggle", ({ target }) => {
  const [before, now] = target.querySelectorAll("[data-version]");
  if (now && !target.querySelector("mark")) markDifferences(before, now);
}, true);

// Whoever walks with Tab into what is folded away sees it.
document.addEventListener("focusin", (event) => {
  const body = event.target.closest?.(".answers.folded .body");
  const box = body && document.querySelector("[data-look=whole]");
  if (box && !box.checked) box.click();
});
