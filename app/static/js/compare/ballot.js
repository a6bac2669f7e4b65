// Reading the ballot: what a press of a button means, and what is still missing.

import * as watch from "./watch.js";
import { _, _n } from "../words.js";

const LETTERS = "ABCDEFGH";

/** As the server counts: characters, without the space around them. */
const lengthOf = (field) => [...field.value.trim()].length;

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
  const asked = unjudged(desk) ?? half(desk) ?? comment(desk);
  if (asked) return asked;
  const best = bestOf(desk, choice);
  for (const field of desk.querySelectorAll("textarea[data-original]")) {
    const place = Number(field.name.split("-")[1]);
    if (field.value.trim() === field.closest(".answer").querySelector(".raw").textContent.trim() || !field.value.trim()) continue;
    if (place !== best) {
      return { text: _("You corrected %(letter)s, but did not choose it. Choose %(letter)s, or discard the correction.", { letter: LETTERS[place] }), at: field, corrected: field };
    }
    if (tooLong(field)) return tooLong(field);
  }
  return null;
}

/** The criteria that have to be judged and are not, and the first row of marks without one. */
function unjudged(desk) {
  const judged = (radio) => desk.querySelector(`input[name="${CSS.escape(radio.name)}"]:checked`);
  const open = [...desk.querySelectorAll(".criterion input[required]")].filter((radio) => !judged(radio));
  if (!open.length) return null;
  const names = [...new Set(open.map((radio) => nameOf(radio.closest("fieldset"))))];
  return { text: _n("%(names)s is not judged yet.", "%(names)s are not judged yet.", names.length, { names: names.join(", ") }), at: open[0] };
}

/** The first criterion of which one answer has points and the other has none. */
function half(desk) {
  for (const criterion of desk.querySelectorAll(".criterion")) {
    const rows = [...criterion.querySelectorAll("[role=radiogroup]")];
    const open = rows.filter((row) => !row.querySelector("input:checked:not([value=''])"));
    if (open.length === 1 && rows.length === 2) {
      const at = open[0].querySelector("input");
      return { text: _("%(name)s: give both answers points, or clear those you gave.", { name: nameOf(criterion) }), at };
    }
  }
  return null;
}

const nameOf = (criterion) => criterion.querySelector("legend").firstChild.textContent.trim();

/** What is wrong with the comment: missing where it is asked for, too short, or too long. */
function comment(desk) {
  const field = desk.querySelector("#comment");
  if (!field) return null;
  const length = lengthOf(field);
  if (field.required && !length) return { text: [_("This project asks for a comment."), _("Say in a few words why.")].join(" "), at: field };
  if (length && length < field.minLength) {
    const wanted = _("Write at least %(comment_min_chars)s.", { comment_min_chars: field.minLength });
    return { text: [_("The comment has %(length)s characters.", { length }), wanted].join(" "), at: field };
  }
  return tooLong(field);
}

function tooLong(field) {
  const chars = lengthOf(field);
  if (field.maxLength < 0 || chars <= field.maxLength) return null;
  return { text: _("%(chars)s characters, at most %(max_chars)s are allowed; shorten it", { chars, max_chars: field.maxLength }), at: field };
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

/** A button that makes an edited answer what it was. */
function discarding(desk, field) {
  const button = document.createElement("button");
  button.type = "button";
  button.className = "button secondary small";
  button.textContent = _("Discard my correction");
  button.addEventListener("click", () => {
    field.value = field.closest(".answer").querySelector(".raw").textContent;
    field.closest("details").open = false;
    field.dispatchEvent(new Event("input", { bubbles: true })); // kept as it is now, and nothing is missing any more
    desk.querySelector(".pair-title")?.focus({ preventScroll: true });
  });
  return button;
}

/** Show what is missing, in words that are read out, and take people there. */
export function complain(desk, problem) {
  const line = desk.querySelector("#problem");
  line.textContent = problem?.text ?? "";
  line.hidden = !problem;
  if (problem?.corrected) line.append(" ", discarding(desk, problem.corrected));
  if (!problem?.at) return;
  problem.at.closest("details")?.setAttribute("open", "");
  problem.at.focus();
}
