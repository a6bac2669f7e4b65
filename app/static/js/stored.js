// What this browser keeps of half-written things: under names that say whose and what, for two weeks at most.

const KEEP_MS = 14 * 24 * 3600 * 1000;

/** Do something with the browser's store; null where it lets us store nothing. */
export function storage(act) {
  try {
    return act(localStorage);
  } catch {
    return null;
  }
}

export const read = (name) => storage((box) => JSON.parse(box.getItem(name)));
export const write = (name, entry) => storage((box) => box.setItem(name, JSON.stringify({ at: Date.now(), ...entry })));
export const drop = (name) => storage((box) => box.removeItem(name));
export const names = (prefix) => storage((box) => Object.keys(box).filter((name) => name.startsWith(prefix))) ?? [];

/** Drop what is too old under ``prefix``, and what ``unwanted`` names. */
export function prune(prefix, unwanted = () => false) {
  for (const name of names(prefix)) {
    if (unwanted(name) || !(read(name)?.at > Date.now() - KEEP_MS)) drop(name);
  }
}
