// Comparing: keys, the time a pair was looked at, and choices that survive a lost connection or an expired sign-in.
// HTMX sends the forms and swaps the desk; without this file, or without HTMX, they are plain forms.

const AGAIN_MS = 350; // a second press within this is a double click, not an opinion on the next pair
const RETRY_MS = [1000, 2000, 4000, 8000, 15000];
const GIVE_UP_AFTER = 3; // refusals for a reason that reloading should have mended
const CHOICES = { a: "a", 1: "a", arrowleft: "a", b: "b", 2: "b", arrowright: "b", t: "tie", 3: "tie", x: "both_bad", 4: "both_bad", s: "skip", u: "undo", z: "undo", "?": "help" };

const desk = () => document.getElementById("desk");
const action = location.pathname;
const keptName = `hone:kept:${desk().dataset.reviewer}:${action}`;
let memory = null; // where the browser lets us store nothing
let lastPress = 0;
let sending = false;
let failures = 0;
let timer = 0;
let guidelinesTouched = false; // open for newcomers, closed after their first choice unless they want it open

const store = {
  get() {
    try {
      return JSON.parse(localStorage.getItem(keptName)) ?? memory;
    } catch {
      return memory;
    }
  },
  set(value) {
    memory = value;
    try {
      if (value) localStorage.setItem(keptName, JSON.stringify(value));
      else localStorage.removeItem(keptName);
    } catch {
      // kept in memory
    }
  },
};

function say(text) {
  const live = document.getElementById("announce");
  live.textContent = "";
  setTimeout(() => { live.textContent = text; }, 50);
}

function notify(text, tone) {
  document.dispatchEvent(new CustomEvent("hone:notice", { detail: { text, tone } }));
}

// ——— The time a pair was on the screen; a hidden tab does not count ———

const watch = {
  total: 0,
  since: 0,
  start() {
    this.total = 0;
    this.since = document.hidden ? 0 : performance.now();
  },
  pause() {
    if (this.since) this.total += performance.now() - this.since;
    this.since = 0;
  },
  resume() {
    if (!this.since) this.since = performance.now();
  },
  seconds() {
    return ((this.total + (this.since ? performance.now() - this.since : 0)) / 1000).toFixed(2);
  },
};
document.addEventListener("visibilitychange", () => (document.hidden ? watch.pause() : watch.resume()));

// ——— A new desk ———

function setUp() {
  watch.start();
  const help = desk().querySelector("[data-key=help]");
  if (help) help.hidden = false;
  clearTimeout(timer);
  const left = Number(desk().dataset.secondsLeft ?? NaN);
  if (!Number.isNaN(left)) {
    timer = setTimeout(() => { desk().querySelector("[data-late]")?.removeAttribute("hidden"); }, Math.min(left * 1000, 2 ** 31 - 1));
  }
}

function arrive() {
  setUp();
  const title = desk().querySelector(".pair-title");
  const top = desk().getBoundingClientRect().top;
  if (top < 0) window.scrollTo(0, window.scrollY + top - 16);
  title.focus({ preventScroll: true });
  const asked = desk().querySelector(".talk > .turn:last-child .prose");
  say([desk().dataset.said, asked ? `Next pair: ${asked.textContent.trim().slice(0, 200)}` : title.textContent].filter(Boolean).join(". "));
}

// ——— Choices on their way ———

function lock(locked) {
  for (const button of desk().querySelectorAll(".bar button")) {
    if (locked) button.setAttribute("aria-disabled", "true");
    else button.removeAttribute("aria-disabled");
  }
}

function connection(lost) {
  const banner = document.getElementById("connection");
  banner.hidden = !lost;
  banner.querySelector("[data-kept]").hidden = !store.get();
}

function resend() {
  clearTimeout(resend.timer);
  const kept = store.get();
  if (!kept || sending) return;
  htmx.ajax("POST", action, { source: document.body, values: kept.values, target: "#desk", swap: "outerHTML" }).catch(() => {});
}

function later() {
  clearTimeout(resend.timer);
  resend.timer = setTimeout(resend, RETRY_MS[Math.min(failures, RETRY_MS.length - 1)]);
  failures += 1;
}

const isVote = (detail) => detail.requestConfig?.verb === "post" && detail.requestConfig.path === action;

document.addEventListener("htmx:configRequest", (event) => {
  const { verb, path, parameters, triggeringEvent } = event.detail;
  if (verb !== "post" || !path.startsWith(action)) return;
  const isResend = event.detail.elt === document.body;
  if (!isResend && (store.get() || sending || (triggeringEvent && Date.now() - lastPress < AGAIN_MS))) {
    event.preventDefault();
    return;
  }
  if (path === action && !isResend) {
    const pressed = triggeringEvent?.submitter; // HTMX looks for it inside the form only
    if (pressed) parameters[pressed.name] = pressed.value;
    parameters.seconds = watch.seconds();
    const { lease, choice, key, comment, seconds } = Object.fromEntries(["lease", "choice", "key", "comment", "seconds"].map((name) => [name, parameters[name] ?? ""]));
    store.set({ values: { lease, choice, key, comment, seconds }, refused: 0 });
  }
  if (!isResend) lastPress = Date.now();
});

document.addEventListener("htmx:beforeSend", (event) => {
  if (isVote(event.detail)) {
    sending = true;
    event.detail.xhr.setRequestHeader("Hone-Kept", "1"); // a choice that meets an expired sign-in is not lost
  }
});

document.addEventListener("htmx:afterRequest", (event) => {
  const { xhr, elt } = event.detail;
  if (!isVote(event.detail)) {
    if (xhr.status >= 200 && xhr.status < 500) connection(Boolean(store.get()) && failures > 0);
    return;
  }
  sending = false;
  const kept = store.get();
  if (xhr.status >= 200 && xhr.status < 400) {
    if (!guidelinesTouched) document.getElementById("guidelines")?.removeAttribute("open");
    store.set(null);
    failures = 0;
    connection(false);
    if (elt === document.body && kept?.signedOut) notify("The choice you made before signing in is saved.", "good");
  } else if (xhr.status === 401) {
    store.set({ ...kept, signedOut: true }); // HTMX follows to the sign-in page; the choice is sent after it
  } else if (xhr.status === 403) {
    if (kept.refused + 1 < GIVE_UP_AFTER) {
      store.set({ ...kept, refused: kept.refused + 1 });
      location.reload(); // a sign-in in another tab has changed the form's token
    } else {
      store.set(null);
    }
  } else if (xhr.status === 0 || xhr.status === 408 || xhr.status === 429 || xhr.status >= 500) {
    lock(true);
    connection(true);
    later();
  } else {
    store.set(null); // understood and refused: the message is on the page, the next pair follows
    htmx.ajax("GET", action, { source: document.body, target: "#desk", swap: "outerHTML" });
  }
});

// The banner says it better than the message every page has.
for (const name of ["htmx:sendError", "htmx:timeout"]) {
  document.addEventListener(name, (event) => {
    event.stopPropagation();
    connection(true);
  }, true);
}

// A server that cannot answer (5xx) must not replace the desk or fill the notices while we try again.
document.addEventListener("htmx:beforeSwap", (event) => {
  const { xhr } = event.detail;
  if (isVote(event.detail) && (xhr.status === 429 || xhr.status >= 500)) event.detail.shouldSwap = false;
});

document.addEventListener("htmx:afterSettle", (event) => {
  if (event.detail.target?.id === "desk" || event.detail.elt?.id === "desk") {
    if (store.get()) lock(true);
    arrive();
  }
});

window.addEventListener("online", resend);
document.addEventListener("click", (event) => {
  if (event.target.closest("[data-retry]")) {
    failures = 0;
    if (store.get()) resend();
    else location.reload();
  }
  const press = event.target.closest("[aria-disabled=true]");
  if (press) event.preventDefault();
  const open = document.querySelector("details.pop[open]");
  if (open && !open.contains(event.target)) open.open = false;
});

// ——— Keys ———

const keysOff = () => {
  try {
    return localStorage.getItem("hone:keys") === "off";
  } catch {
    return false;
  }
};

function openPop(name) {
  const pop = desk().querySelector(`[data-pop=${name}]`);
  if (!pop) return;
  pop.open = true;
  pop.querySelector("textarea, .pop-panel button").focus();
}

document.addEventListener("keydown", (event) => {
  const pop = document.querySelector("details.pop[open]");
  if (event.key === "Escape" && pop) {
    pop.open = false;
    pop.querySelector("summary").focus();
    return;
  }
  if (event.repeat || event.ctrlKey || event.metaKey || event.altKey || event.isComposing || keysOff()) return;
  if (pop || document.querySelector("dialog[open]") || event.target.closest("input, textarea, select, [contenteditable]")) return;
  const key = event.key.toLowerCase();
  if (key.startsWith("arrow") && event.target.closest("pre, table")) return;
  if (key === "f" || key === "c") {
    openPop(key === "f" ? "flag" : "comment");
    event.preventDefault();
    return;
  }
  const button = CHOICES[key] && desk().querySelector(`[data-key=${CHOICES[key]}]`);
  if (!button) return;
  event.preventDefault();
  button.classList.add("picked");
  button.click();
  setTimeout(() => button.classList.remove("picked"), AGAIN_MS);
});

document.addEventListener("click", (event) => {
  if (event.target.closest("#guidelines > summary")) guidelinesTouched = true;
  if (event.target.closest("[data-key=help]")) document.getElementById("keys").showModal();
});
document.addEventListener("input", (event) => {
  if (event.target.id === "comment") event.target.closest(".pop").toggleAttribute("data-filled", event.target.value.trim() !== "");
});
const shortcuts = document.querySelector("[data-shortcuts]");
shortcuts.checked = !keysOff();
shortcuts.addEventListener("change", () => {
  try {
    localStorage.setItem("hone:keys", shortcuts.checked ? "on" : "off");
  } catch {
    // for this page only
  }
});

setUp();
if (store.get()) {
  lock(true);
  if (window.htmx) resend();
  else window.addEventListener("load", resend);
}
