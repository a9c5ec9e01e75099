// Two versions of one text: what differs is shown, and the reader says which one counts.

import { byId, clock, make } from "./dom.js";
import { say } from "./say.js";
import { ask } from "./server.js";

const MOST = 30; // differences that are shown

/** Return the texts of two versions that differ: [seconds, mine, theirs], by when they are spoken. */
export function differences(mine, theirs) {
  const line = (segment) => (segment ? `${segment.speaker ? `${segment.speaker}: ` : ""}${segment.text}` : "");
  const [left, right] = [mine, theirs].map((segments) => new Map(segments.map((segment) => [segment.start, segment])));
  return [...new Set([...left.keys(), ...right.keys()])]
    .sort((a, b) => a - b)
    .map((start) => [start, line(left.get(start)), line(right.get(start))])
    .filter(([, one, other]) => one !== other);
}

/** Show that `version` was saved elsewhere. choices: functions `theirs`, and `mine` with the version that is given up. */
export async function conflict({ id, transcript }, version, choices) {
  const box = byId("conflict");
  box.hidden = false;
  say(byId("conflict-text"), "conflict", [version]);
  byId("differences").replaceChildren();
  byId("take-theirs").onclick = choices.theirs;
  byId("keep-mine").onclick = async () => {
    hideConflict();
    await choices.mine(version);
  };
  byId("conflict-title").focus();
  try {
    const { segments } = await ask(`jobs/${id}/transcript`);
    const found = differences(transcript.segments, segments);
    byId("differences").append(...found.slice(0, MOST).map(([start, mine, theirs]) => make("div", {},
      make("dt", {}, clock(start)),
      make("dd", {}, say(make("span", { className: "side" }), "mine"), make("span", { dir: "auto" }, mine || "—")),
      make("dd", {}, say(make("span", { className: "side" }), "theirs"), make("span", { dir: "auto" }, theirs || "—")))));
  } catch {
    // then without the comparison
  }
}

export function hideConflict() {
  byId("conflict").hidden = true;
}
