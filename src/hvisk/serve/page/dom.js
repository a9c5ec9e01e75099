// Nodes are made of text, never of markup: nothing that a recording, a file name or a person says is read as HTML.

import { say, words } from "./say.js";

/** Return the element with this id. */
export const byId = (id) => document.getElementById(id);

/** Return an element. `attributes` are set as properties where the element has them, functions as listeners. */
export function make(tag, attributes = {}, ...children) {
  const node = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (value === undefined || value === null) continue;
    if (typeof value === "function") node.addEventListener(name, value);
    else if (name in node && name !== "list") node[name] = value;
    else node.setAttribute(name, value);
  }
  node.append(...children);
  return node;
}

/** Return a button that says `key`. */
export const button = (key, click, attributes = {}) => say(make("button", { type: "button", click, ...attributes }), key);

/** Return 1:02:03 or 2:03 for seconds. */
export function clock(seconds) {
  const whole = Math.max(0, Math.floor(seconds));
  const [h, m, s] = [Math.floor(whole / 3600), Math.floor(whole / 60) % 60, whole % 60];
  const two = (n) => String(n).padStart(2, "0");
  return h ? `${h}:${two(m)}:${two(s)}` : `${m}:${two(s)}`;
}

/** Tell a screen reader what has happened. */
export function announce(key, ...values) {
  const node = byId("announced");
  // The same sentence twice is two events.
  node.textContent = words(key, ...values) + (node.textContent.endsWith("\u00a0") ? "" : "\u00a0");
}

/** Offer a Blob as a file to be saved. */
export function offer(name, content) {
  const url = URL.createObjectURL(content);
  make("a", { href: url, download: name }).click();
  setTimeout(() => URL.revokeObjectURL(url), 60_000);
}

/** Ask with the sentence `key`; resolve to whether `yes` was chosen. */
export function ask(key, values, yes) {
  const dialog = byId("question");
  say(byId("question-text"), key, values);
  say(byId("question-yes"), yes);
  dialog.returnValue = "";
  dialog.showModal();
  return new Promise((resolve) => {
    dialog.addEventListener("close", () => resolve(dialog.returnValue === "yes"), { once: true });
  });
}
