// Settings that the chosen loss or method does not read are hidden and not sent. Without this they are refused by name.

const form = document.querySelector(".settings-form");

function refresh() {
  for (const cell of form.querySelectorAll("[data-only-field]")) {
    const wanted = cell.dataset.onlyValue.split(" ");
    const shown = wanted.includes(form.elements[cell.dataset.onlyField].value);
    cell.hidden = !shown;
    for (const control of cell.querySelectorAll("input, select, textarea")) control.disabled = !shown;
  }
}

if (form) {
  form.addEventListener("change", refresh);
  refresh();
  form.querySelector("[data-focus]")?.focus();
  // A link in the list of errors opens the section its field lies in.
  form.addEventListener("click", (event) => {
    const target = event.target.closest("a[href^='#']")?.getAttribute("href").slice(1);
    const field = target && document.getElementById(target);
    if (!field) return;
    event.preventDefault();
    field.closest("details")?.setAttribute("open", "");
    field.focus();
  });
}
