// A transcript and what is done to it: texts, splits, joins, speakers, each of which can be undone. Nothing here knows the page.
//
// A segment is never changed, only replaced: undoing is putting the former one back.

const AT_ONCE = 1000; // milliseconds within which typing in one segment is one step
const STEPS = 1000;
const MOST_CELLS = 250_000; // of the comparison of two texts
const LONGEST_WORD = 100; // characters, as the server has it

/** Return the words of a text, as they are written. */
export const split = (text) => text.split(/\s+/).filter(Boolean);

/**
 * Return words with times for an edited text. Those that stayed keep theirs; one in place of one takes its time; what else is new
 * shares the time of what it replaced, or of the gap that it stands in, by length. What a person wrote has no probability.
 */
export function timed(old, text, start, end) {
  const texts = split(text);
  const result = [];
  let [i, j] = [0, 0];
  for (const [stayed, at] of [...common(old.map((word) => word.text), texts), [old.length, texts.length]]) {
    const [replaced, fresh] = [old.slice(i, stayed), texts.slice(j, at)];
    const from = replaced[0]?.start ?? old[i - 1]?.end ?? start;
    const to = replaced.at(-1)?.end ?? old[stayed]?.start ?? end;
    result.push(...(fresh.length === replaced.length
      ? fresh.map((word, k) => ({ ...replaced[k], text: word, probability: null }))
      : shared(fresh, from, Math.max(from, to))));
    if (stayed < old.length) result.push(old[stayed]);
    [i, j] = [stayed + 1, at + 1];
  }
  return result;
}

function shared(texts, from, to) {
  const letters = texts.reduce((sum, word) => sum + word.length, 0);
  let done = 0;
  return texts.map((text) => {
    const begun = done;
    done += text.length;
    const [start, end] = [begun, done].map((n) => from + ((to - from) * n) / letters);
    return { start, end, text, probability: null };
  });
}

// The longest common subsequence of two lists, as pairs of places; what is alike at both ends needs no table.
function common(one, other) {
  const shorter = Math.min(one.length, other.length);
  let head = 0;
  while (head < shorter && one[head] === other[head]) head += 1;
  let tail = 0;
  while (tail < shorter - head && one.at(-1 - tail) === other.at(-1 - tail)) tail += 1;
  const pairs = Array.from({ length: head }, (_, k) => [k, k]);
  const [n, m] = [one.length - head - tail, other.length - head - tail];
  if (n * m <= MOST_CELLS) {
    const table = Array.from({ length: n + 1 }, () => new Uint32Array(m + 1));
    for (let i = n - 1; i >= 0; i--)
      for (let j = m - 1; j >= 0; j--)
        table[i][j] = one[head + i] === other[head + j] ? table[i + 1][j + 1] + 1 : Math.max(table[i + 1][j], table[i][j + 1]);
    for (let i = 0, j = 0; i < n && j < m; )
      if (one[head + i] === other[head + j]) pairs.push([head + i++, head + j++]);
      else if (table[i + 1][j] >= table[i][j + 1]) i += 1;
      else j += 1;
  }
  for (let k = tail; k > 0; k--) pairs.push([one.length - k, other.length - k]);
  return pairs;
}

/** Return what a search finds in a text: [start, end] pairs. */
export function matches(text, wanted, exact) {
  if (!wanted) return [];
  const escaped = wanted.replace(/[.*+?^${}()|[\]\\]/g, "\\$&");
  return [...text.matchAll(new RegExp(escaped, exact ? "gu" : "giu"))].map((m) => [m.index, m.index + m[0].length]);
}

/**
 * The segments of a job, as they are now and as they were. `changed` is called as changed(at, removed, added) with segments, for
 * each place of a step; `settled` once a step.
 */
export class Transcript {
  constructor(segments, changed, settled = () => {}) {
    // Timed words are those of the text; what the API was given by others need not be so.
    this.segments = segments.map((s) => ({ ...s, words: timed(s.words, s.text, s.start, s.end) }));
    Object.assign(this, { changed, settled });
    this.done = [];
    this.undone = [];
    this.fresh = false; // whether the last step is still open for more typing
  }

  /** Put `added` in the place of `count` segments from `at` on. A step: {at, removed, added, focus}. */
  replace(at, count, added, focus = null) {
    this.step([{ at, removed: this.segments.slice(at, at + count), added }], focus);
  }

  /** Do some replacements as one step; they are at rising places, and none changes the number of segments. */
  step(parts, focus = null) {
    this.done.push({ parts, focus });
    if (this.done.length > STEPS) this.done.shift();
    this.undone = [];
    this.fresh = false;
    for (const part of parts) this.put(part.at, part.removed.length, part.added);
    this.settled();
  }

  put(at, count, added) {
    this.segments.splice(at, count, ...added);
    this.changed(at, count, added);
  }

  /** Take the last step back; return the segment to look at, or null where there was none. */
  undo() {
    const step = this.done.pop();
    if (!step) return null;
    for (const part of step.parts.toReversed()) this.put(part.at, part.added.length, part.removed);
    this.undone.push(step);
    this.fresh = false;
    this.settled();
    return step.focus ?? step.parts[0].at;
  }

  /** Do the last step that was taken back again; return the segment to look at, or null. */
  redo() {
    const step = this.undone.pop();
    if (!step) return null;
    for (const part of step.parts) this.put(part.at, part.removed.length, part.added);
    this.done.push(step);
    this.fresh = false;
    this.settled();
    return step.parts[0].at;
  }

  /** Take what was typed into a segment. Quick typing in one segment is one step. */
  type(at, text) {
    const old = this.segments[at];
    if (old.text === text) return;
    // Against what was heard, not against the last letter: a word that is typed again has its own time again.
    const heard = old.heard ?? old.words;
    const added = [{ ...old, text, heard, words: timed(heard, text, old.start, old.end) }];
    const now = Date.now();
    const last = this.done.at(-1);
    if (this.fresh && last.parts[0].at === at && now - this.typed < AT_ONCE) {
      last.parts[0].added = added;
      this.put(at, 1, added);
      this.settled();
    } else {
      this.replace(at, 1, added);
      this.fresh = true;
    }
    this.typed = now;
  }

  /** Change a segment's other values. */
  set(at, values) {
    this.replace(at, 1, [{ ...this.segments[at], ...values }]);
  }

  /** Split a segment before the character `offset`; return whether there was anything on both sides. */
  split(at, offset) {
    const old = this.segments[at];
    const [left, right] = [old.text.slice(0, offset).trimEnd(), old.text.slice(offset).trimStart()];
    if (!left.trim() || !right.trim()) return false;
    const all = timed(old.words, `${left} ${right}`, old.start, old.end);
    const count = split(left).length;
    const [before, after] = [all.slice(0, count), all.slice(count)];
    const cut = { end: before.at(-1).end, start: Math.max(before.at(-1).end, after[0].start) };
    const next = this.segments[at + 1]?.start ?? Infinity; // two people may speak at once
    this.replace(at, 1, [
      { ...old, text: left, words: before, heard: before, end: Math.max(old.start, cut.end) },
      { ...old, text: right, words: after, heard: after, start: Math.max(old.start, Math.min(old.end, cut.start, next)) },
    ]);
    return true;
  }

  /** Join a segment to the one after it; return the character where they meet, or -1 for the last. */
  join(at) {
    const [first, second] = this.segments.slice(at, at + 2);
    if (!second) return -1;
    const text = [first.text.trimEnd(), second.text.trimStart()].filter(Boolean).join(" ");
    const scores = [first.score, second.score].filter((score) => score !== null && score !== undefined);
    const words = [...first.words, ...second.words];
    this.replace(at, 2, [{
      ...first,
      text,
      words,
      heard: words,
      end: Math.max(first.end, second.end),
      score: scores.length ? Math.min(...scores) : null,
      doubt: first.doubt || second.doubt,
      checked: first.checked && second.checked,
      speaker: first.speaker || second.speaker,
    }]);
    return first.text.trimEnd().length;
  }

  /** Name who speaks from a segment on, until somebody else does; return how many segments that were. */
  name(at, speaker) {
    const before = this.segments[at].speaker;
    if (before === speaker) return 0;
    let end = at + 1;
    while (end < this.segments.length && this.segments[end].speaker === before) end += 1;
    this.replace(at, end - at, this.segments.slice(at, end).map((segment) => ({ ...segment, speaker })), at);
    return end - at;
  }

  /** Give a speaker another name everywhere. */
  rename(before, after) {
    this.each((segment) => (segment.speaker === before ? { ...segment, speaker: after } : segment));
  }

  /** Replace all that a search finds; return how many places that were. */
  replaceAll(wanted, by, exact) {
    let count = 0;
    this.each((segment) => {
      const found = matches(segment.text, wanted, exact);
      count += found.length;
      return found.length ? replaced(segment, found, by) : segment;
    });
    return count;
  }

  /** Replace one place. */
  replaceOne(at, range, by) {
    this.replace(at, 1, [replaced(this.segments[at], [range], by)]);
  }

  each(change) {
    const parts = [];
    this.segments.forEach((segment, at) => {
      const next = change(segment);
      if (next !== segment) parts.push({ at, removed: [segment], added: [next] });
    });
    if (parts.length) this.step(parts);
  }

  /** Return who speaks, in the order of their first words. */
  speakers() {
    return [...new Set(this.segments.map((segment) => segment.speaker).filter(Boolean))];
  }

  /** Return the index of the segment that is spoken at `seconds`, or of the last one before. */
  at(seconds) {
    let [low, high] = [0, this.segments.length - 1];
    while (low < high) {
      const middle = (low + high + 1) >> 1;
      if (this.segments[middle].start <= seconds) low = middle;
      else high = middle - 1;
    }
    return low;
  }

  /** Return the segments as the server takes them. */
  saved() {
    const names = ["start", "end", "text", "speaker", "checked", "score", "temperature", "doubt", "words"];
    return this.segments.map((segment) => {
      const kept = Object.fromEntries(names.filter((name) => segment[name] !== undefined).map((n) => [n, segment[n]]));
      kept.text = kept.text.trim();
      if (segment.words.some((word) => word.text.length > LONGEST_WORD)) kept.words = [];
      return kept;
    });
  }
}

function replaced(segment, ranges, by) {
  let [text, at] = ["", 0];
  for (const [start, end] of ranges) {
    text += segment.text.slice(at, start) + by;
    at = end;
  }
  text = (text + segment.text.slice(at)).replace(/\s+/g, " ").trim();
  return { ...segment, text, words: timed(segment.words, text, segment.start, segment.end) };
}

/** Return the characters [start, end] of each word in its segment's text. */
export function places(text) {
  return [...text.matchAll(/\S+/g)].map((m) => [m.index, m.index + m[0].length]);
}
