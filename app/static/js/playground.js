// The playground: fetches the stream of a turn's two answers and shows them; keys for choosing and sending.
// The HTML of an answer comes from the server, sanitised there; nothing here builds HTML from text.

import { _ } from "./words.js";

const [TO_A, TO_B] = document.dir === "rtl" ? ["arrowright", "arrowleft"] : ["arrowleft", "arrowright"];
const CHOICES = { a: "a", 1: "a", [TO_A]: "a", b: "b", 2: "b", [TO_B]: "b", t: "tie", 3: "tie", x: "both_bad", 4: "both_bad" };
const AGAIN_MS = 350; // a key pressed in the instant after the answers appear is not an opinion on them

const notify = (text, tone) => document.dispatchEvent(new CustomEvent("hone:notice", { detail: { text, tone } }));
const stage = () => document.getElementById("stage");
let shownAt = 0; // when the first words of an answer were on the page
let cancel = null;

function say(text) {
  const live = document.getElementById("announce");
  live.textContent = "";
  setTimeout(() => { live.textContent = text; }, 50);
}

const place = (side) => stage().querySelector(`[data-side="${side}"]`);

function text({ side, html }) {
  place(side).querySelector("[data-text]").innerHTML = html;
  if (shownAt) return;
  shownAt = performance.now();
  const ballot = stage().querySelector("[data-ballot]");
  if (ballot) ballot.hidden = false;
}

function end({ side, error }) {
  const answer = place(side);
  answer.removeAttribute("aria-busy");
  answer.querySelector("[data-writing]").hidden = true;
  const words = answer.querySelector("[data-text]");
  if (error) {
    const cut = answer.querySelector("[data-cut]");
    cut.textContent = error;
    cut.hidden = false;
  } else if (!words.textContent.trim()) {
    words.textContent = _("This answer is empty.");
  } else {
    say(_("Answer %(letter)s is complete.", { letter: side.toUpperCase() }));
  }
}

function settle(state) {
  stage().dataset.state = state;
  for (const answer of stage().querySelectorAll("[data-side]")) {
    answer.removeAttribute("aria-busy");
    answer.querySelector("[data-writing]").hidden = true;
  }
  lockAsking();
  if (state === "done") return;
  stage().querySelector("[data-ballot]")?.remove();
  offerAgain();
}

// A turn whose answers were not written to their end: the same question again, in a form that the page does not have yet.
function offerAgain() {
  const again = stage().querySelector("[data-again]");
  if (again) {
    again.hidden = false;
    return;
  }
  if (stage().querySelector("#ask")) return; // a choice was made: the form to go on is there
  const link = document.createElement("a");
  link.href = location.href;
  link.className = "button secondary";
  link.textContent = _("Look again");
  document.getElementById("verdict").append(link);
}

// Going on needs both answers whole; until then the form says so.
function lockAsking() {
  const button = stage().querySelector("#ask button[type=submit]");
  if (button) button.disabled = stage().dataset.state === "streaming";
}

async function read(url) {
  const headers = { "X-CSRF-Token": JSON.parse(document.body.getAttribute("hx-headers"))["X-CSRF-Token"], Accept: "text/event-stream" };
  cancel = new AbortController();
  const answer = await fetch(url, { method: "POST", headers, signal: cancel.signal });
  if (!answer.ok || !answer.headers.get("content-type")?.startsWith("text/event-stream")) {
    throw new Error(answer.status === 429 ? _("That was too much at once. Wait a minute, then ask again.") : _("The answers cannot be written now. Try again in a moment."));
  }
  const handlers = { text, end, done: ({ state }) => settle(state) };
  let rest = "";
  for await (const part of chunks(answer.body.pipeThrough(new TextDecoderStream()).getReader())) {
    const events = (rest + part).split("\n\n");
    rest = events.pop();
    for (const event of events) {
      const [, name, data] = /^event: (\w+)\ndata: (.*)$/s.exec(event);
      handlers[name](JSON.parse(data));
    }
  }
  if (stage().dataset.state === "streaming") throw new Error(_("The connection was lost before the answers were whole."));
}

async function* chunks(reader) {
  for (;;) {
    const { done, value } = await reader.read();
    if (done) return;
    yield value;
  }
}

async function start() {
  const here = stage();
  const url = here.dataset.stream;
  shownAt = 0;
  lockAsking();
  if (!url) {
    if (here.dataset.state === "streaming") offerAgain();
    return;
  }
  delete here.dataset.stream;
  here.dataset.state = "streaming";
  try {
    await read(url);
  } catch (error) {
    if (error.name === "AbortError" || here !== stage()) return;
    notify(error.message, "bad");
    settle("failed");
  }
}

document.addEventListener("htmx:configRequest", (event) => {
  if (event.detail.elt.id !== "ballot") return;
  event.detail.parameters.seconds = shownAt ? ((performance.now() - shownAt) / 1000).toFixed(2) : "";
});

document.addEventListener("htmx:afterSettle", (event) => {
  const id = event.detail.target?.id ?? event.detail.elt?.id;
  if (id === "stage") {
    cancel?.abort();
    start();
    stage().querySelector(".error") ? stage().querySelector("textarea").focus() : stage().querySelector(".pair-title").focus();
    say(_("Both answers are being written."));
  }
  if (id === "verdict") {
    lockAsking();
    const chosen = document.querySelector(".revealed h2");
    if (!chosen) return;
    const side = stage().querySelector(`[data-side="${chosen.dataset.choice}"]`);
    side?.classList.add("chosen");
    stage().querySelector(".pair-title").textContent = _("Playground");
    chosen.focus({ preventScroll: true });
    chosen.scrollIntoView({ block: "nearest" });
    say(document.querySelector(".revealed").textContent.replace(/\s+/g, " ").trim());
  }
});

const keysOff = () => {
  try {
    return localStorage.getItem("hone:keys") === "off";
  } catch {
    return false;
  }
};

document.addEventListener("keydown", (event) => {
  if (event.target.matches("[data-ask]") && event.key === "Enter" && (event.ctrlKey || event.metaKey)) {
    event.preventDefault();
    event.target.form.requestSubmit(event.target.form.querySelector("button[type=submit]:enabled"));
    return;
  }
  if (event.repeat || event.ctrlKey || event.metaKey || event.altKey || event.isComposing || keysOff()) return;
  if (event.target.closest("input, textarea, select, [contenteditable]")) return;
  const key = event.key.toLowerCase();
  if (key.startsWith("arrow") && event.target.closest("pre, table")) return;
  const button = CHOICES[key] && stage().querySelector(`[data-ballot]:not([hidden]) [data-key=${CHOICES[key]}]`);
  if (!button || !shownAt && stage().dataset.state === "streaming" || shownAt && performance.now() - shownAt < AGAIN_MS) return;
  event.preventDefault();
  button.click();
});

start();
