// Choices on their way, in order: kept in this browser until the server has acknowledged them.

/** A list of entries under one name; in memory where the browser lets us store nothing. ``changed`` learns how many. */
export function keptChoices(name, changed) {
  let memory = [];

  function read() {
    try {
      const stored = JSON.parse(localStorage.getItem(name));
      return Array.isArray(stored) ? stored : memory;
    } catch {
      return memory;
    }
  }

  function write(entries) {
    memory = entries;
    try {
      if (entries.length) localStorage.setItem(name, JSON.stringify(entries));
      else localStorage.removeItem(name);
    } catch {
      // kept in memory
    }
    changed(entries.length);
  }

  changed(read().length);

  return {
    first: () => read()[0] ?? null,
    any: () => read().length > 0,
    of: (lease) => read().find((entry) => entry.lease === lease) ?? null,
    add: (entry) => write([...read(), entry]),
    drop: (key) => write(read().filter((entry) => entry.key !== key)),
    change: (key, values) => write(read().map((entry) => (entry.key === key ? { ...entry, ...values } : entry))),
  };
}
