// The segments on the page: a row each. Marks on words are highlights of the browser's, so that a text is one text node.

import { clock, make } from "./dom.js";
import { say, show } from "./say.js";
import { places } from "./transcript.js";

const DOUBTFUL = 0.5; // the recogniser's own probability of a word

const marks = Object.fromEntries(["doubt", "spoken", "found", "here"].map((name) => [name, new Highlight()]));
for (const [name, mark] of Object.entries(marks)) CSS.highlights.set(name, mark);
marks.spoken.priority = 1;
marks.found.priority = 2;
marks.here.priority = 3;

const range = (node, [start, end]) => {
  const text = node.firstChild;
  const last = text.length;
  const [from, to] = [Math.min(start, last), Math.min(end, last)];
  return new StaticRange({ startContainer: text, startOffset: from, endContainer: text, endOffset: to });
};

/** Return the words of a segment that the recogniser itself doubted, as characters of its text. */
export function doubts(segment) {
  if (segment.checked) return [];
  const all = places(segment.text);
  return all.filter((_, i) => (segment.words[i]?.probability ?? 1) < DOUBTFUL);
}

/** Return the character of `node`'s text at which the caret is, or null where it is elsewhere. */
export function caret(node) {
  const selection = getSelection();
  if (!selection.rangeCount || !node.contains(selection.focusNode)) return null;
  const before = document.createRange();
  before.setStart(node, 0);
  before.setEnd(selection.focusNode, selection.focusOffset);
  return before.toString().length;
}

/** Put the caret at a character of `node`'s text, or select up to another one. */
export function setCaret(node, start, end = start) {
  node.focus({ preventScroll: true });
  const text = node.firstChild ?? node;
  const most = text.length ?? 0;
  getSelection().setBaseAndExtent(text, Math.min(start, most), text, Math.min(end, most));
  node.closest("li").scrollIntoView({ block: "nearest" });
}

export class Rows {
  /** list: an <ol>. language: of what is said. editable: whether texts can be changed. */
  constructor(list, language, editable) {
    Object.assign(this, { list, language, editable, rows: [], current: null, ranges: new WeakMap() });
    for (const mark of Object.values(marks)) mark.clear();
    list.replaceChildren();
    list.classList.toggle("editable", editable);
  }

  /** Show that `count` segments from `at` on are now `added`; `all` are all of them. */
  change(at, count, added, all) {
    const same = Math.min(count, added.length);
    for (let i = 0; i < same; i++) this.render(this.rows[at + i], added[i]);
    for (const row of this.rows.splice(at + same, count - same)) this.remove(row);
    const next = this.rows[at + same] ?? null;
    const fresh = added.slice(same).map((segment) => this.create(segment));
    const fragment = document.createDocumentFragment();
    fragment.append(...fresh);
    this.list.insertBefore(fragment, next);
    this.rows.splice(at + same, 0, ...fresh);
    for (let i = at; i <= at + added.length && i < all.length; i++)
      this.rows[i].classList.toggle("same", i > 0 && all[i].speaker === all[i - 1].speaker);
    if (!this.current?.isConnected && this.rows.length) this.enter(this.rows[Math.min(at, this.rows.length - 1)]);
  }

  create(segment) {
    const time = make("button", { type: "button", className: "time", tabIndex: -1 });
    const text = make("div", { className: "text", lang: this.language, dir: "auto" });
    const note = make("p", { className: "note", hidden: true });
    const row = make("li", { className: "segment" }, time);
    if (this.editable) {
      Object.assign(text, { contentEditable: "plaintext-only", tabIndex: -1, spellcheck: true });
      text.setAttribute("role", "textbox");
      text.setAttribute("aria-multiline", "true");
      const speaker = make("input", { className: "speaker", list: "speakers", tabIndex: -1, maxLength: 100, autocomplete: "off" });
      say(speaker, "speaker", [], "placeholder");
      const check = make("input", { type: "checkbox", tabIndex: -1 });
      row.append(speaker, make("div", { className: "said" }, text, note), make("label", { className: "check" }, check));
    } else row.append(make("div", { className: "said" }, text, note));
    this.render(row, segment);
    return row;
  }

  render(row, segment) {
    const [time, text, note] = [row.querySelector(".time"), row.querySelector(".text"), row.querySelector(".note")];
    const at = clock(segment.start);
    show(time, at);
    say(time, "play from", [at], "aria-label");
    this.put(text, segment.text);
    for (const old of this.ranges.get(row) ?? []) marks.doubt.delete(old);
    const doubted = text.firstChild ? doubts(segment).map((place) => range(text, place)) : [];
    for (const one of doubted) marks.doubt.add(one);
    this.ranges.set(row, doubted);
    const doubtful = segment.doubt && !segment.checked;
    note.hidden = !doubtful;
    if (doubtful) say(note, "doubtful passage");
    row.classList.toggle("checked", Boolean(segment.checked));
    if (!this.editable) return;
    say(text, "text at", [at, segment.speaker], "aria-label");
    const [speaker, check] = [row.querySelector(".speaker"), row.querySelector("input[type=checkbox]")];
    say(speaker, "speaker at", [at], "aria-label");
    say(check, "checked at", [at], "aria-label");
    if (speaker.value !== segment.speaker) speaker.value = segment.speaker;
    check.checked = segment.checked;
  }

  // What was typed is there already; a text node that the browser has split or joined to others is made one again.
  put(node, text) {
    const only = node.childNodes.length === 1 && node.firstChild.nodeType === Node.TEXT_NODE;
    if ((only && node.firstChild.data === text) || (!text && !node.childNodes.length)) return;
    const at = document.activeElement === node ? caret(node) : null;
    node.replaceChildren(...(text ? [text] : []));
    if (at !== null) getSelection().collapse(node.firstChild ?? node, Math.min(at, text.length));
  }

  remove(row) {
    for (const old of this.ranges.get(row) ?? []) marks.doubt.delete(old);
    row.remove();
  }

  /** Make a row the one that Tab leads through. */
  enter(row) {
    if (row === this.current) return;
    for (const [one, index] of [[this.current, -1], [row, 0]])
      for (const node of one?.querySelectorAll("button, input, .text") ?? []) node.tabIndex = index;
    this.current?.classList.remove("current");
    row.classList.add("current");
    this.current = row;
  }

  /** Return the index of the row that holds a node, or -1. */
  index(node) {
    return this.rows.indexOf(node?.closest?.("li.segment"));
  }

  text(at) {
    return this.rows[at]?.querySelector(".text");
  }

  /** Mark words: `name` is spoken, found or here; `found` has [row, [start, end]] each. */
  mark(name, found) {
    marks[name].clear();
    for (const [at, place] of found) {
      const node = this.text(at);
      if (node?.firstChild) marks[name].add(range(node, place));
    }
  }

  /** Show which row is spoken; scroll to it where the last one was in sight. */
  speak(at) {
    const before = this.spoken;
    const row = this.rows[at];
    if (before === row) return;
    before?.classList.remove("playing");
    row?.classList.add("playing");
    this.spoken = row;
    if (row && (!before || visible(before))) row.scrollIntoView({ block: "nearest" });
  }
}

function visible(node) {
  const { top, bottom } = node.getBoundingClientRect();
  return bottom > 0 && top < innerHeight;
}
