// Comparing. The next pair waits in the page, so that a choice shows it at once; the choice itself is kept in this
// browser and sent, once, until the server has acknowledged it. Without this file the page is a plain form.

import { complain, entryOf, missing } from "./ballot.js";
import * as drafts from "./drafts.js";
import { keptChoices } from "./kept.js";
import { setUpKeys } from "./keys.js";
import { setUpLook } from "./look.js";
import { setUpRanking } from "./ranking.js";
import { clearRefusals, deskIn, get, notify, post, say, showRefusal, tell } from "./requests.js";
import * as watch from "./watch.js";
import { _ } from "../words.js";

const AGAIN_MS = 350; // a second press within this is a double click, not an opinion on the next pair
const RETRY_MS = [1000, 2000, 4000, 8000, 15000];
const GIVE_UP_AFTER = 3; // refusals for a reason that reloading should have mended
const WAIT_MS = 4000; // between two looks for a pair when there is none
const SPARE_SECONDS = 5; // a pair that has less than this left is not shown from the page's store

const desk = () => document.getElementById("desk");
const action = location.pathname;
const kept = keptChoices(`hone:kept:${desk().dataset.reviewer}:${action}`, (count) => { document.body.dataset.kept = count; });
let ahead = null; // the next desk, and until when it is ours
let asking = null; // a request for it is on its way
let lastPress = 0;
let sending = false;
let failures = 0;
let lost = false;
let shownAt = performance.now();
let active = false; // somebody has moved, typed or scrolled since the lease was last kept
let lastWritten = null; // with the last choice, to be there again when it is taken back
let guidelinesTouched = false; // open for newcomers, closed after their first choice unless they want it open
const timers = { late: 0, keep: 0, retry: 0, wait: 0 };

// ——— A desk on the page ———

function setUp() {
  const here = desk();
  watch.start();
  shownAt = performance.now();
  here.querySelector("#ballot")?.setAttribute("novalidate", ""); // the browser cannot point into a closed box: missing() does
  for (const item of here.querySelectorAll(".scripted[hidden]:not(.board, [data-saved])")) item.hidden = false;
  drafts.restore(here);
  setUpKeys(here);
  setUpRanking(here);
  setUpLook(here);
  here.querySelector(".pop [name=comment]")?.closest(".pop").toggleAttribute("data-filled", here.querySelector("[name=comment]").value.trim() !== "");
  lock(lost || waitingForAnswer());
  clearTimeout(timers.wait);
  if (here.dataset.waiting) timers.wait = setTimeout(lookAgain, WAIT_MS);
  here.dataset.ahead = ahead ? "ready" : "none";
  holdLease(Number(here.dataset.secondsLeft ?? NaN));
}

/** A choice on the very pair that is shown is on its way: no second one until it is there. */
const waitingForAnswer = () => kept.of(desk().dataset.lease) !== null;

/** again: the pair has been here before, so it is not read out as the next one. */
function arrive(said, again) {
  setUp();
  const title = desk().querySelector(".pair-title");
  const top = desk().getBoundingClientRect().top;
  if (top < 0) window.scrollTo(0, window.scrollY + top - 16);
  title.focus({ preventScroll: true });
  const asked = desk().querySelector(".talk > :is(.turn, .asked):last-child .prose");
  const prompt = asked?.textContent.trim().slice(0, 200);
  const now = asked ? (again ? prompt : _("Next pair: %(prompt)s", { prompt })) : title.textContent;
  say([said?.replace(/\.$/, ""), now].filter(Boolean).join(". "));
}

function show(next, said = next.dataset.told, again = false) {
  drafts.keep(desk());
  desk().replaceWith(next);
  if (location.search) history.replaceState(history.state, "", action);
  arrive(said, again);
}

function lock(locked) {
  for (const button of desk().querySelectorAll(".bar button")) {
    if (locked) button.setAttribute("aria-disabled", "true");
    else button.removeAttribute("aria-disabled");
  }
}

function connection(away) {
  lost = away;
  const banner = document.getElementById("connection");
  banner.hidden = !away;
  banner.querySelector("[data-kept]").hidden = !kept.any();
  lock(away || waitingForAnswer());
}

// ——— Its lease ———

function holdLease(seconds) {
  clearTimeout(timers.late);
  clearTimeout(timers.keep);
  if (Number.isNaN(seconds)) return;
  timers.late = setTimeout(() => desk().querySelector("[data-late]")?.removeAttribute("hidden"), Math.min(seconds * 1000, 2 ** 31 - 1));
  timers.keep = setTimeout(keepLease, Math.min(seconds * 500, 2 ** 31 - 1));
}

async function keepLease() {
  const { lease } = desk().dataset;
  if (!active || document.hidden || lost || kept.any()) return;
  active = false;
  try {
    const answer = await post(`${action}/keep`, { lease });
    const seconds = Number(answer.headers.get("Hone-Seconds-Left"));
    if (answer.ok && seconds > 1 && desk().dataset.lease === lease) holdLease(seconds);
  } catch {
    // the lease runs out as it would have; the choice still finds its place, if there is one
  }
}

for (const name of ["pointermove", "keydown", "wheel", "touchmove"]) {
  document.addEventListener(name, () => { active = true; }, { passive: true });
}

// ——— The pair after it ———

function keepAhead(next) {
  ahead = next?.dataset.lease ? { desk: next, until: Date.now() + (Number(next.dataset.secondsLeft) - SPARE_SECONDS) * 1000 } : null;
  desk().dataset.ahead = ahead ? "ready" : "none";
}

function fetchAhead() {
  const { lease } = desk().dataset;
  if (!lease || ahead || asking || kept.any() || lost) return;
  asking = post(`${action}/ahead`, { holding: lease })
    .then(async (answer) => {
      const next = answer.ok ? deskIn(await answer.text()) : null;
      if (desk().dataset.lease === lease && next?.dataset.lease !== lease) keepAhead(next);
    })
    .catch(() => {})
    .finally(() => { asking = null; });
}

function takeAhead() {
  const next = ahead && Date.now() < ahead.until ? ahead.desk : null;
  ahead = null;
  return next;
}

// ——— Choices ———

function choose(form, button) {
  if (kept.any() && (lost || waitingForAnswer())) return;
  const problem = missing(desk(), button);
  complain(desk(), problem);
  if (problem) return;
  lastPress = Date.now();
  const entry = entryOf(form, button);
  drafts.keep(desk());
  kept.add(entry);
  if (!guidelinesTouched) document.getElementById("guidelines")?.removeAttribute("open");
  const next = takeAhead();
  if (next) goOn(next, entry);
  else lock(true);
  send();
}

/** The pair after a choice, at once; the choice itself is still on its way. */
function goOn(next, entry) {
  const last = next.querySelector(".last");
  last.hidden = false;
  next.querySelector(".bar").hidden = false;
  next.querySelector("[data-last]").textContent = entry.said;
  next.querySelector("#undo [name=lease]").value = entry.lease;
  const numbers = desk().querySelector(".numbers");
  if (numbers) next.querySelector(".numbers").replaceChildren(...numbers.cloneNode(true).childNodes);
  show(next, entry.said);
}

async function send() {
  clearTimeout(timers.retry);
  const entry = kept.first();
  if (!entry || sending) return;
  sending = true;
  const body = new URLSearchParams(entry.body);
  const on = desk().dataset.lease;
  const showing = on && on !== entry.lease ? on : "";
  if (showing) {
    body.set("showing", showing);
    body.set("showing_for", ((performance.now() - shownAt) / 1000).toFixed(2));
  }
  let answer = null;
  let html = "";
  try {
    answer = await post(action, body, { "Hone-Kept": "1" }); // a choice that meets an expired sign-in is not lost
    html = await answer.text();
  } catch {
    answer = null; // the connection is away, or went away while the answer came
  }
  sending = false;
  if (answer?.ok) acknowledged(entry, showing, answer, html);
  else if (!answer || answer.status === 408 || answer.status === 429 || answer.status >= 500) later();
  else if (answer.status === 401) {
    kept.change(entry.key, { signedOut: true }); // it is sent after the sign-in
    location.assign(answer.headers.get("HX-Redirect") ?? "/login");
  } else if (answer.status === 403) outOfDate(entry, html);
  else await refused(entry, answer.status, html);
}

function acknowledged(entry, showing, answer, html) {
  const next = deskIn(html);
  kept.drop(entry.key);
  lastWritten = drafts.forget(desk(), entry.lease);
  failures = 0;
  connection(false);
  clearRefusals(entry.lease, desk().dataset.lease);
  tell(answer);
  if (entry.signedOut) notify({ text: _("The choice you made before signing in is saved."), tone: "good" });
  if (showing) {
    keepAhead(next);
    const numbers = next?.querySelector(".numbers");
    const mine = desk().querySelector(".numbers");
    if (numbers && mine && desk().dataset.lease === showing) mine.replaceChildren(...numbers.childNodes);
    const other = kept.of(showing); // judged meanwhile, when there was nothing yet to go on to
    const following = other && takeAhead();
    if (following) goOn(following, other);
  } else if (next) {
    ahead = null;
    show(next);
  }
  if (kept.any()) send();
  else fetchAhead();
}

function later() {
  connection(true);
  timers.retry = setTimeout(send, RETRY_MS[Math.min(failures, RETRY_MS.length - 1)]);
  failures += 1;
}

function outOfDate(entry, html) {
  if (entry.refused + 1 < GIVE_UP_AFTER) {
    kept.change(entry.key, { refused: entry.refused + 1 });
    location.reload(); // a sign-in in another tab has changed the form's token
    return;
  }
  kept.drop(entry.key);
  showRefusal(html, entry.lease);
  lock(false);
}

/** Understood and refused: the message is on the page, and the pair is back where something can be mended. */
async function refused(entry, status, html) {
  kept.drop(entry.key);
  connection(false);
  showRefusal(html, entry.lease);
  const back = status === 422 ? `${action}?again=${entry.lease}` : action;
  if (status !== 422 && desk().dataset.lease !== entry.lease) {
    if (kept.any()) send();
    return;
  }
  const answer = await get(back).catch(() => null);
  const next = answer?.ok ? deskIn(await answer.text()) : null;
  if (next) {
    if (desk().dataset.lease && desk().dataset.lease !== next.dataset.lease) keepAhead(desk());
    show(next, "", status === 422);
  }
}

/** Take the last choice back, once it is where it can be taken back from. */
async function undo(form) {
  if (kept.any() || sending || Date.now() - lastPress < AGAIN_MS) return;
  lastPress = Date.now();
  lock(true);
  const body = new URLSearchParams({ lease: form.elements.lease.value });
  const answer = await post(`${action}/undo`, body).catch(() => null);
  if (answer?.status === 401) location.assign(answer.headers.get("HX-Redirect") ?? "/login");
  else if (answer?.ok) {
    const next = deskIn(await answer.text());
    const before = desk();
    if (before.dataset.lease && before.dataset.lease !== next.dataset.lease) keepAhead(before);
    drafts.recall(lastWritten, next.dataset.lease);
    show(next, next.dataset.told, true);
    fetchAhead();
  } else {
    if (answer) showRefusal(await answer.text());
    else notify({ text: _("The server cannot be reached. Nothing was taken back; try again."), tone: "bad" });
    lock(false);
  }
}

/** Nothing to judge: look again, and go on by itself. */
async function lookAgain() {
  const { waiting } = desk().dataset;
  if (!waiting || kept.any()) return;
  const answer = await get(`${action}?waiting=${waiting}`).catch(() => null);
  if (answer?.status === 401) location.assign(answer.headers.get("HX-Redirect") ?? "/login");
  const next = answer?.status === 200 ? deskIn(await answer.text()) : null;
  if (!desk().dataset.waiting) return;
  if (next) {
    show(next);
    fetchAhead();
  } else timers.wait = setTimeout(lookAgain, WAIT_MS);
}

document.addEventListener("submit", (event) => {
  const form = event.target;
  if (form.id !== "ballot" && form.id !== "undo") return;
  event.preventDefault();
  if (form.id === "undo") undo(form);
  else if (event.submitter && Date.now() - lastPress >= AGAIN_MS) choose(form, event.submitter);
});

document.addEventListener("click", (event) => {
  if (event.target.closest("[data-retry]")) {
    failures = 0;
    if (kept.any()) send();
    else location.reload();
  }
  if (event.target.closest("[aria-disabled=true]")) event.preventDefault();
  if (event.target.closest("#guidelines > summary")) guidelinesTouched = true;
});

document.addEventListener("input", (event) => {
  complain(desk(), null);
  if (event.target.id === "comment") event.target.closest(".pop")?.toggleAttribute("data-filled", event.target.value.trim() !== "");
});

window.addEventListener("online", send);
drafts.watchDrafts(desk);
setUp();
if (kept.any()) {
  lock(true);
  send();
} else fetchAhead();
