// Where two answers differ: their words compared, and those that have no partner marked in both.

const WORD = /[\p{L}\p{N}][\p{L}\p{N}\p{M}'’_-]*|[^\s\p{L}\p{N}]/gu;
const MOST_CHANGES = 900; // beyond it the answers share hardly a line, and words are only looked up in the other one

// A formula is one word, told by its markup: the text of x^2 is that of x_2.
function wordsIn(root) {
  const words = [];
  const walker = document.createTreeWalker(root, NodeFilter.SHOW_ELEMENT | NodeFilter.SHOW_TEXT, (node) => {
    if (node.nodeType === Node.ELEMENT_NODE) return node.localName === "math" ? NodeFilter.FILTER_ACCEPT : NodeFilter.FILTER_SKIP;
    return node.parentElement.closest("math") ? NodeFilter.FILTER_REJECT : NodeFilter.FILTER_ACCEPT;
  });
  while (walker.nextNode()) {
    const node = walker.currentNode;
    if (node.localName === "math") {
      words.push({ node, text: node.outerHTML });
      continue;
    }
    for (const found of node.data.matchAll(WORD)) {
      words.push({ node, start: found.index, end: found.index + found[0].length, text: found[0] });
    }
  }
  return words;
}

/** Myers' shortest edit script (1986): which words of each side stand in the other; null if too many do not. */
export function common(a, b) {
  const n = a.length, m = b.length, most = Math.min(n + m, MOST_CHANGES);
  const trace = [];
  let reach = new Int32Array(2 * most + 3);
  for (let d = 0; d <= most; d += 1) {
    trace.push(reach.slice());
    for (let k = -d; k <= d; k += 2) {
      const at = k + most + 1;
      let x = k === -d || (k !== d && reach[at - 1] < reach[at + 1]) ? reach[at + 1] : reach[at - 1] + 1;
      while (x < n && x - k < m && a[x] === b[x - k]) x += 1;
      reach[at] = x;
      if (x >= n && x - k >= m) return walkBack(trace, n, m, most);
    }
  }
  return null;
}

function walkBack(trace, n, m, most) {
  const inA = new Uint8Array(n), inB = new Uint8Array(m);
  let x = n, y = m;
  for (let d = trace.length - 1; d >= 0; d -= 1) {
    const reach = trace[d], k = x - y, at = k + most + 1;
    const down = k === -d || (k !== d && reach[at - 1] < reach[at + 1]);
    const before = down ? k + 1 : k - 1;
    const startX = d === 0 ? 0 : reach[before + most + 1], startY = startX - before;
    const floorX = d === 0 ? 0 : down ? startX : startX + 1;
    while (x > floorX && y > 0) {
      x -= 1;
      y -= 1;
      inA[x] = inB[y] = 1;
    }
    if (d === 0) break;
    x = startX;
    y = startY;
  }
  return [inA, inB];
}

function mark(words, kept) {
  let passages = 0;
  for (let end = words.length; end > 0;) { // from the end, so that what is marked moves nothing before it
    if (kept[end - 1]) {
      end -= 1;
      continue;
    }
    let start = end - 1;
    while (start > 0 && !kept[start - 1] && words[start - 1].node === words[end - 1].node) start -= 1;
    const range = document.createRange();
    if (words[start].node.localName === "math") range.selectNode(words[start].node);
    else {
      range.setStart(words[start].node, words[start].start);
      range.setEnd(words[end - 1].node, words[end - 1].end);
    }
    const marked = document.createElement("mark");
    marked.className = "differs";
    range.surroundContents(marked);
    passages += 1;
    end = start;
  }
  return passages;
}

/** Mark the differences between two elements; how many passages differ in each. */
export function markDifferences(left, right) {
  const sides = [wordsIn(left), wordsIn(right)];
  const texts = sides.map((words) => words.map((word) => word.text));
  const kept = common(...texts) ?? [0, 1].map((side) => {
    const others = new Set(texts[1 - side]);
    return texts[side].map((text) => others.has(text));
  });
  return sides.map((words, side) => mark(words, kept[side]));
}

export function unmark(root) {
  for (const marked of root.querySelectorAll("mark.differs")) marked.replaceWith(...marked.childNodes);
  root.normalize();
}
