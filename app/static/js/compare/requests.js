// Requests of the page: forms sent as HTMX would send them, answered with fragments and messages.

/** Send a form's body. The token is this document's own: a body may have been kept since before another sign-in. */
export function post(path, body, headers = {}) {
  const token = document.querySelector("input[name=csrf_token]")?.value ?? "";
  return fetch(path, {
    method: "POST",
    body: body instanceof URLSearchParams ? body : new URLSearchParams(body),
    headers: { "HX-Request": "true", "HX-Current-URL": location.href, "X-CSRF-Token": token, ...headers },
    redirect: "follow",
  });
}

/** Ask for a fragment. */
export function get(path) {
  return fetch(path, { headers: { "HX-Request": "true", "HX-Current-URL": location.href } });
}

/** The desk in an answer; null when there is none. Other guidelines are told of. */
export function deskIn(html) {
  const page = new DOMParser().parseFromString(html, "text/html");
  const found = page.getElementById("desk");
  const changed = document.getElementById("changed");
  if (found && found.dataset.guidelines !== changed.dataset.guidelines) changed.firstElementChild.hidden = false;
  return found && document.adoptNode(found);
}

/** What the answer wants to tell beside its fragment. */
export function tell(response) {
  const told = response.headers.get("HX-Trigger");
  if (told) notify(JSON.parse(told)["hone:notice"]);
}

export function notify({ text, tone = "info" }) {
  document.dispatchEvent(new CustomEvent("hone:notice", { detail: { text, tone } }));
}

/** An answer to a refused request says why, as a fragment for the page's messages. about: the pair, if it is about one. */
export function showRefusal(html, about = "") {
  const box = document.getElementById("notices");
  box.innerHTML = html;
  for (const notice of box.children) notice.dataset.refusal = about;
}

/** A choice was accepted: what was refused before is past, except on the pair that is still shown to be mended. */
export function clearRefusals(accepted, shown) {
  for (const notice of document.querySelectorAll("#notices > [data-refusal]")) {
    const { refusal } = notice.dataset;
    if (refusal === accepted || refusal !== shown) notice.remove();
  }
}

/** Read a text to those who cannot see the page change. */
export function say(text) {
  const live = document.getElementById("announce");
  live.textContent = "";
  setTimeout(() => { live.textContent = text; }, 50);
}
