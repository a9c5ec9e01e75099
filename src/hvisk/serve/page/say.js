// What the page says, in the reader's language. A node remembers what it says, so that a change of language changes it in place.

import { da } from "./da.js";
import { en } from "./en.js";

const LANGUAGES = { da, en };
const KEPT = "hvisk.language";
const said = new WeakMap(); // node -> Map(attribute -> [key, values])

export let language = chosen();

function chosen() {
  const kept = read();
  if (kept in LANGUAGES) return kept;
  return /^da\b/i.test(navigator.languages?.[0] ?? navigator.language) ? "da" : "en";
}

function read() {
  try {
    return localStorage.getItem(KEPT);
  } catch {
    return null; // a browser that keeps nothing
  }
}

/** Return the sentence `key` with `values` in it. */
export function words(key, ...values) {
  const found = LANGUAGES[language][key];
  if (found === undefined) throw new Error(`The page has no words for ${key}.`);
  return typeof found === "function" ? found(...values) : found;
}

/** Say whether there are words for `key`. */
export const speaks = (key) => key in LANGUAGES[language];

/** Let a node say `key`: as its text, or in an attribute. */
export function say(node, key, values = [], attribute = "textContent") {
  if (!said.has(node)) said.set(node, new Map());
  said.get(node).set(attribute, [key, values]);
  node.dataset.said = "";
  put(node, attribute, words(key, ...values));
  return node;
}

/** Let a node show a text that is nobody's sentence, such as a file's name. */
export function show(node, text) {
  said.get(node)?.delete("textContent");
  if (node.textContent !== text) node.textContent = text;
  return node;
}

function put(node, attribute, text) {
  if (attribute !== "textContent") node.setAttribute(attribute, text);
  else if (node.textContent !== text) node.textContent = text;
}

/** Give the nodes of index.html, which name their words in data-say and data-say-ATTRIBUTE, what they say. */
export function begin(root = document) {
  for (const node of root.querySelectorAll("[data-say]")) say(node, node.dataset.say);
  for (const attribute of ["aria-label", "placeholder"])
    for (const node of root.querySelectorAll(`[data-say-${attribute}]`))
      say(node, node.getAttribute(`data-say-${attribute}`), [], attribute);
  document.documentElement.lang = language;
}

/** Speak another language from now on, and remember it. */
export function speak(wanted) {
  language = wanted;
  document.documentElement.lang = language;
  try {
    localStorage.setItem(KEPT, wanted);
  } catch {
    // then it is forgotten
  }
  for (const node of document.querySelectorAll("[data-said]"))
    for (const [attribute, [key, values]] of said.get(node) ?? []) put(node, attribute, words(key, ...values));
}
