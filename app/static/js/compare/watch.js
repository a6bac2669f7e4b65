// The time a pair was on the screen; a hidden tab does not count.

let total = 0;
let since = 0;

export function start() {
  total = 0;
  since = document.hidden ? 0 : performance.now();
}

export function seconds() {
  return (total + (since ? performance.now() - since : 0)) / 1000;
}

document.addEventListener("visibilitychange", () => {
  if (!document.hidden) {
    since ||= performance.now();
    return;
  }
  if (since) total += performance.now() - since;
  since = 0;
});
