// Finding and replacing in a transcript.

import { announce, byId } from "./dom.js";
import { say } from "./say.js";
import { setCaret } from "./rows.js";
import { matches } from "./transcript.js";

let transcript = null;
let rows = null;
let found = []; // [segment, [start, end]]
let here = -1;

/** Work on another transcript. */
export function use(newTranscript, newRows) {
  [transcript, rows] = [newTranscript, newRows];
  close();
}

/** Open the bar, with what is selected. */
export function open() {
  const selected = String(getSelection()).trim();
  byId("find").hidden = false;
  if (selected && selected.length < 100 && rows.index(getSelection().anchorNode?.parentElement) >= 0) byId("find-what").value = selected;
  byId("find-what").focus();
  byId("find-what").select();
  search();
}

export function close() {
  const focused = byId("find").contains(document.activeElement);
  byId("find").hidden = true;
  const at = here >= 0 ? found[here] : null;
  found = [];
  here = -1;
  rows?.mark("found", []);
  rows?.mark("here", []);
  if (!focused || !rows) return;
  if (at) setCaret(rows.text(at[0]), ...at[1]);
  else rows.current?.querySelector(".text").focus();
}

/** Look again, after a change of the text. */
export function refresh() {
  if (!byId("find").hidden) search(true);
}

function search(stay = false) {
  const [wanted, exact] = [byId("find-what").value, byId("find-case").checked];
  found = transcript.segments.flatMap((segment, at) => matches(segment.text, wanted, exact).map((place) => [at, place]));
  const first = Math.max(rows.index(rows.current), 0);
  if (!stay) here = Math.max(found.findIndex(([at]) => at >= first), found.length ? 0 : -1);
  here = Math.min(here, found.length - 1);
  rows.mark("found", found);
  look(!stay);
}

function look(move = true) {
  rows.mark("here", here >= 0 ? [found[here]] : []);
  if (here >= 0 && move) {
    rows.enter(rows.rows[found[here][0]]);
    rows.rows[found[here][0]].scrollIntoView({ block: "center" });
  }
  say(byId("find-count"), byId("find-what").value ? "found" : "find nothing yet", [here + 1, found.length]);
  for (const id of ["find-next", "find-before", "replace-one", "replace-all"]) byId(id).disabled = !found.length;
}

function step(by) {
  if (!found.length) return;
  here = (here + by + found.length) % found.length;
  look();
}

/** Make the bar work. */
export function begin() {
  byId("find-what").addEventListener("input", () => search());
  byId("find-case").addEventListener("change", () => search());
  byId("find-next").addEventListener("click", () => step(1));
  byId("find-before").addEventListener("click", () => step(-1));
  byId("find-close").addEventListener("click", close);
  byId("replace-one").addEventListener("click", () => {
    if (here < 0) return;
    const [at, place] = found[here];
    const by = byId("find-by").value;
    transcript.replaceOne(at, place, by);
    search(true);
    here = found.findIndex(([row, [start]]) => row > at || (row === at && start >= place[0] + by.length));
    if (here < 0 && found.length) here = 0;
    look();
  });
  byId("replace-all").addEventListener("click", () => {
    const count = transcript.replaceAll(byId("find-what").value, byId("find-by").value, byId("find-case").checked);
    search();
    announce("replaced", count);
    say(byId("find-count"), "replaced", [count]);
  });
  byId("find").addEventListener("keydown", (event) => {
    if (event.key === "Escape") close();
    else if (event.key === "Enter" && event.target === byId("find-what")) step(event.shiftKey ? -1 : 1);
    else if (event.key === "Enter" && event.target === byId("find-by")) byId("replace-one").click();
    else return;
    event.preventDefault();
    event.stopPropagation();
  });
}
