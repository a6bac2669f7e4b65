// The texts of scripts in the reader's language: the page holds those that are not English.

const words = JSON.parse(document.getElementById("words")?.textContent ?? "{}");
const language = document.documentElement.lang;
const ORDER = ["zero", "one", "two", "few", "many", "other"];

const fill = (text, values) => text.replace(/%\((\w+)\)s/g, (place, name) => values[name] ?? place);

/** A text, with values in its places: _("%(key)s is set.", { key }). */
export const _ = (text, values = {}) => fill(words[text] ?? text, values);

/** A text that depends on a number, which is also its value n. */
export function _n(one, many, n, values = {}) {
  const rules = new Intl.PluralRules(language);
  const forms = words[one] ?? [one, many];
  const kinds = ORDER.filter((kind) => rules.resolvedOptions().pluralCategories.includes(kind));
  return fill(forms[kinds.indexOf(rules.select(n))] ?? forms.at(-1), { n, ...values });
}

/** A moment in the reader's zone and language, digits as the server writes them. */
export const localMoment = (moment) => moment.toLocaleString(`${language}-u-nu-latn`, { dateStyle: "medium", timeStyle: "short" });
