// What every page has: messages in the live region, menus that close, times in the reader's zone, copying, and drafts
// that survive a sign-in. Everything works without this file, only with less comfort.

import { keepForms } from "./forms.js";
import { _, localMoment } from "./words.js";

const DRAFTS = "hone:drafts";

document.documentElement.classList.add("js");

/** Show a message in the live region. tone: "good" | "info" | "bad". */
export function notify(text, tone = "info") {
  const box = document.getElementById("notices");
  const notice = document.createElement("div");
  notice.className = `notice ${["good", "info", "bad"].includes(tone) ? tone : "info"}`;
  const line = document.createElement("p");
  line.textContent = text;
  const close = document.createElement("button");
  close.type = "button";
  close.className = "close";
  close.dataset.dismiss = "";
  close.setAttribute("aria-label", _("Dismiss"));
  close.textContent = "×";
  notice.append(line, close);
  box.replaceChildren(notice);
}

function prepare(root) {
  for (const time of root.querySelectorAll("time[data-local]")) {
    const moment = new Date(time.dateTime);
    time.title = time.textContent;
    time.textContent = localMoment(moment);
    time.removeAttribute("data-local");
  }
  if (navigator.clipboard) {
    for (const button of root.querySelectorAll("[data-copy][hidden]")) button.hidden = false;
  }
}

async function copy(button) {
  const field = button.closest("[data-copy-box]").querySelector("[data-copy-value]");
  try {
    await navigator.clipboard.writeText(field.value);
    const label = button.textContent;
    button.textContent = _("Copied");
    setTimeout(() => { button.textContent = label; }, 2000);
  } catch {
    field.focus();
    field.select();
    notify(_("Copying is not allowed here: the text is selected, press Ctrl+C."));
  }
}

function closeMenus(except) {
  for (const open of document.querySelectorAll("details.menu[open], details.confirm[open]")) {
    if (!open.contains(except)) open.open = false;
  }
}

// What was typed when the sign-in had expired: kept in this tab, put back after the way through the sign-in page.
function keepDraft(element) {
  const form = element.closest("form");
  if (!form) return;
  const values = {};
  for (const field of form.elements) {
    if (field.name && field.value && /^(TEXTAREA|INPUT)$/.test(field.tagName) && !/^(password|hidden|file|checkbox|radio)$/.test(field.type)) {
      values[field.name] = field.value;
    }
  }
  if (Object.keys(values).length) sessionStorage.setItem(DRAFTS, JSON.stringify({ path: location.pathname, values }));
}

function restoreDraft() {
  const stored = sessionStorage.getItem(DRAFTS);
  if (!stored) return;
  const draft = JSON.parse(stored);
  if (draft.path !== location.pathname) return;
  sessionStorage.removeItem(DRAFTS);
  let restored = 0;
  for (const [name, value] of Object.entries(draft.values)) {
    const field = document.querySelector(`form [name="${CSS.escape(name)}"]`);
    if (field && !field.value) {
      field.value = value;
      restored += 1;
    }
  }
  if (restored) notify(_("What you had typed before signing in again is back in the form."), "good");
}

document.addEventListener("click", (event) => {
  const dismiss = event.target.closest("[data-dismiss]");
  if (dismiss) dismiss.closest(".notice").remove();
  const button = event.target.closest("[data-copy]");
  if (button) copy(button);
  closeMenus(event.target);
});

document.addEventListener("keydown", (event) => {
  if (event.key !== "Escape") return;
  const open = event.target.closest?.("details.menu[open], details.confirm[open]");
  closeMenus(null);
  open?.querySelector("summary").focus();
});

document.addEventListener("focusin", (event) => {
  if (event.target.matches("[data-copy-value]")) event.target.select();
});

document.addEventListener("hone:notice", (event) => notify(event.detail.text, event.detail.tone));
document.addEventListener("htmx:beforeOnLoad", (event) => {
  if (event.detail.xhr.status === 401) keepDraft(event.detail.elt);
});
document.addEventListener("htmx:sendError", () => {
  notify(_("The server cannot be reached. Nothing was lost on this page: check your connection and try again."), "bad");
});
document.addEventListener("htmx:timeout", () => notify(_("The server took too long to answer. Try again."), "bad"));
document.addEventListener("htmx:afterSettle", (event) => prepare(event.detail.elt));

keepForms();
prepare(document);
restoreDraft();
const tab = document.querySelector(".tabs [aria-current]");
if (tab) {
  const [row, here] = [tab.closest("ul"), tab.getBoundingClientRect()];
  const middle = row.getBoundingClientRect();
  row.scrollLeft += here.left + here.width / 2 - middle.left - middle.width / 2; // negative where it runs right to left
}
