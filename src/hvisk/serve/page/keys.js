// The keyboard of the editor.

import { byId, make } from "./dom.js";
import { say } from "./say.js";

const CHORDS = {
  "Ctrl+z": "undo", "Ctrl+Shift+z": "redo", "Ctrl+y": "redo", "Ctrl+f": "find",
  "F8": "play", "Shift+F8": "back", "Ctrl+ ": "play", "Ctrl+Enter": "hear", "Ctrl+Shift+Enter": "check",
  "F2": "speaker", "F9": "doubt", "Shift+F9": "doubtBefore", "Alt+ArrowUp": "up", "Alt+ArrowDown": "down",
};

function chord(event) {
  const key = event.key.length === 1 ? event.key.toLowerCase() : event.key;
  const parts = [(event.ctrlKey || event.metaKey) && "Ctrl", event.altKey && "Alt", event.shiftKey && "Shift", key];
  return parts.filter(Boolean).join("+");
}

/** Do what a key means. caret: gives the caret's character in a text. */
export function keys(event, deeds, caret) {
  if (event.isComposing || event.defaultPrevented) return;
  const pressed = chord(event);
  const text = event.target.closest(".text");
  let deed = CHORDS[pressed];
  const field = event.target.matches("input:not([type=checkbox]):not([type=range])");
  if (field && ["undo", "redo"].includes(deed)) return; // a field has its own
  if (deed === "find" && event.target.closest("#find")) return; // the second time the browser's own opens
  if (event.target.matches(".speaker") && pressed === "Enter") {
    event.preventDefault();
    event.target.closest("li").querySelector(".text").focus();
    return;
  }
  if (!deed && text) deed = inText(pressed, text, caret);
  if (!deed) return;
  event.preventDefault();
  deeds[deed]();
}

function inText(pressed, text, caret) {
  const selection = getSelection();
  if (pressed === "Enter" || pressed === "Shift+Enter") return "split";
  if (!selection.isCollapsed) return null;
  const at = caret(text);
  const all = text.textContent.length;
  if (pressed === "Backspace" && at === 0) return "joinBefore";
  if (pressed === "Delete" && at === all) return "join";
  if (pressed === "ArrowLeft" && at === 0) return "up";
  if (pressed === "ArrowRight" && at === all) return "down";
  if (pressed === "ArrowUp" && (!all || edge(text, selection, "top"))) return "up";
  if (pressed === "ArrowDown" && (!all || edge(text, selection, "bottom"))) return "down";
  return null;
}

// Whether the caret is in the first or the last line of a text.
function edge(text, selection, side) {
  const here = selection.getRangeAt(0).getClientRects()[0];
  if (!here) return true;
  const box = text.getBoundingClientRect();
  const line = here.height || 20;
  return side === "top" ? here.top - box.top < line * 0.8 : box.bottom - here.bottom < line * 0.8;
}

const HELP = [
  ["F8 / Ctrl+␣", "key play"], ["Shift+F8", "key back"], ["Ctrl+Enter", "key hear"], ["F9 / Shift+F9", "key doubt"],
  ["Enter", "key split"], ["Backspace", "key join before"], ["Delete", "key join"], ["↑ ↓", "key move"],
  ["F2", "key speaker"], ["Ctrl+Shift+Enter", "key check"], ["Ctrl+F", "key find"], ["Ctrl+Z / Ctrl+Y", "key undo"],
];

/** Make the list of keys. */
export function begin() {
  byId("chords").replaceChildren(...HELP.map(([pressed, key]) =>
    make("div", {}, make("dt", {}, make("kbd", {}, pressed)), say(make("dd"), key))));
  byId("help-open").addEventListener("click", () => byId("help").showModal());
}
