// Reading the ballot: what a press of a button means, and what is still missing.

import * as watch from "./watch.js";
import { _, _n } from "../words.js";

const LETTERS = "ABCDEFGH";

/** Why this button cannot be pressed yet, and where to mend it; null when it can. */
export function missing(desk, button) {
  const [choice] = button.value.split(":");
  if (choice === "skip" || choice === "flag") return null;
  const needed = Number(desk.dataset.minSeconds || 0);
  if (needed && watch.seconds() < needed) {
    return { text: _n("Have a longer look first: this project asks for %(n)s second.", "Have a longer look first: this project asks for %(n)s seconds.", needed), at: null };
  }
  if (choice === "ranked") {
    const open = [...desk.querySelectorAll("select[name^=place-]")].findIndex((field) => !field.value);
    if (open >= 0) return { text: _("Place every answer first: %(letter)s has no place yet.", { letter: LETTERS[open] }), at: desk.querySelector(".pool .chip, .place-fields select") };
  }
  const best = bestOf(desk, choice);
  for (const field of desk.querySelectorAll("textarea[data-original]")) {
    const place = Number(field.name.split("-")[1]);
    if (field.value.trim() === field.closest(".answer").querySelector(".raw").textContent.trim() || !field.value.trim()) continue;
    if (place !== best) {
      return { text: _("You corrected %(letter)s, but did not choose it. Choose %(letter)s, or undo the correction.", { letter: LETTERS[place] }), at: field };
    }
  }
  return null;
}

function bestOf(desk, choice) {
  if (choice !== "ranked") return { a: 0, b: 1 }[choice];
  const places = [...desk.querySelectorAll("select[name^=place-]")].map((field) => Number(field.value));
  const first = Math.min(...places);
  return places.filter((place) => place === first).length === 1 ? places.indexOf(first) : undefined;
}

/** The choice as it is kept and sent: the same body for every try, so that it counts once. */
export function entryOf(form, button) {
  const body = new URLSearchParams(new FormData(form));
  body.delete("csrf_token");
  body.set(button.name, button.value);
  body.set("seconds", watch.seconds().toFixed(2));
  return { body: body.toString(), key: body.get("key"), lease: body.get("lease"), said: button.dataset.said ?? "", refused: 0 };
}

/** Show what is missing, in words that are read out, and take people there. */
export function complain(desk, problem) {
  const line = desk.querySelector("#problem");
  line.textContent = problem?.text ?? "";
  line.hidden = !problem;
  if (!problem?.at) return;
  problem.at.closest("details")?.setAttribute("open", "");
  problem.at.focus();
}
