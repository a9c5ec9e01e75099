// A recording's page: its text beside its sound, corrected by hand. Texts that still come are shown as they come.

import { announce, byId, make } from "./dom.js";
import * as find from "./find.js";
import { keys } from "./keys.js";
import * as player from "./player.js";
import { describe, watch } from "./queue.js";
import { Rows, caret, doubts, setCaret } from "./rows.js";
import { Saver } from "./saving.js";
import { say, show } from "./say.js";
import { ask, follow } from "./server.js";
import { conflict, hideConflict } from "./sides.js";
import { Transcript, places } from "./transcript.js";

let open = null; // {id, job, transcript, rows, saver, ends: functions}

/** Return the transcript that is being edited, once all of it is saved; else null. */
export async function saved() {
  return open?.saver && (await open.saver.flush()) ? open : null;
}

/** Say whether something is not saved. */
export const unsaved = () => Boolean(open?.saver?.dirty);

/** Show a job. */
export async function view(id) {
  const mine = (open = { id, ends: [], spokenAt: null });
  for (const part of ["job-trouble", "job-warning", "conflict", "tools", "job-actions", "no-sound", "nothing-said"]) byId(part).hidden = true;
  byId("segments").replaceChildren();
  player.load(null, 0, () => {});
  show(byId("job-title"), "…");
  show(byId("job-state"), "");
  say(byId("save-state"), "saved");
  mine.ends.push(watch((job) => job.id === id && changed(job)));
  try {
    const job = await ask(`jobs/${id}`);
    if (open !== mine) return;
    show(byId("job-title"), job.name);
    changed(job);
    if (job.state === "done") await edit(job);
    else if (["queued", "running"].includes(job.state)) listen(job);
  } catch (failure) {
    if (open === mine) trouble(failure);
  }
}

function trouble(failure) {
  byId("job-trouble").hidden = false;
  show(byId("job-trouble"), failure.sentence ?? failure.message);
}

// Two streams tell of a job, and the slower one may tell what was.
function late(job, before) {
  const again = job.attempt === before.attempt && ["failed", "cancelled"].includes(before.state) && job.state === "running";
  return (before.state === "done" && job.state !== "done") || job.attempt < before.attempt || again;
}

function changed(job) {
  const before = open.job;
  if (job.state === "gone") {
    open.saver = null;
    byId("tools").hidden = true;
    byId("segments").replaceChildren();
    player.load(null, 0, () => {});
    byId("no-sound").hidden = true;
    byId("job-trouble").hidden = false;
    say(byId("job-trouble"), "job gone");
    return;
  }
  if (before && late(job, before)) return;
  open.job = job;
  describe(byId("job-state"), job);
  byId("job-progress").hidden = !["queued", "running"].includes(job.state);
  if (job.progress === null) byId("job-progress").removeAttribute("value");
  else byId("job-progress").value = job.progress;
  byId("job-warning").hidden = !job.warning;
  show(byId("job-warning"), job.warning ?? "");
  if (job.audio !== before?.audio) player.load(job.audio ? `api/jobs/${job.id}/audio` : null, job.seconds ?? 0, moved);
  else if (job.seconds !== before.seconds) player.lasts(job.seconds);
  byId("no-sound").hidden = job.audio || job.state !== "done";
  if (before && before.state !== "running" && before.state !== "queued" && ["queued", "running"].includes(job.state)) listen(job);
}

function listen(job) {
  const mine = open;
  mine.rows = new Rows(byId("segments"), job.language, false);
  mine.transcript = new Transcript([], (at, count, added) => mine.rows.change(at, count, added, mine.transcript.segments));
  const end = follow(`jobs/${job.id}/events`, {
    job: changed,
    segments({ first, segments }) {
      const { transcript } = mine;
      if (first === 0) transcript.put(0, transcript.segments.length, []);
      transcript.put(transcript.segments.length, 0, segments);
    },
    end(last) {
      changed(last);
      if (last.state === "done") edit(last).catch(trouble);
    },
    gone: () => changed({ id: job.id, state: "gone" }),
  });
  mine.ends.push(end);
}

async function edit(job, at = 0) {
  const mine = open;
  const { version, segments } = await ask(`jobs/${job.id}/transcript`);
  if (open !== mine) return;
  hideConflict();
  const rows = (mine.rows = new Rows(byId("segments"), job.language, true));
  const transcript = (mine.transcript = new Transcript(segments, (place, count, added) => {
    rows.change(place, count, added, transcript.segments);
  }, () => {
    mine.saver.change();
    find.refresh();
    tell();
  }));
  mine.saver?.close();
  mine.saver = new Saver(job.id, version, () => transcript.saved(), state, () => edit(job, rows.index(rows.current)));
  rows.change(0, 0, transcript.segments, transcript.segments);
  if (rows.rows.length) rows.enter(rows.rows[Math.min(Math.max(at, 0), rows.rows.length - 1)]);
  find.use(transcript, rows);
  byId("tools").hidden = false;
  byId("job-actions").hidden = false;
  byId("nothing-said").hidden = segments.length > 0;
  tell();
}

function state(key, what) {
  const mine = open;
  say(byId("save-state"), `save ${key}`, key === "away" ? [what.sentence] : []);
  byId("save-state").className = key;
  if (key !== "conflict") return;
  conflict(mine, what, { theirs: () => edit(mine.job), mine: (version) => mine.saver.overwrite(version) });
}

// What depends on the whole text: who speaks, how much is checked, what can be undone.
function tell() {
  const { transcript } = open;
  const speakers = transcript.speakers();
  byId("speakers").replaceChildren(...speakers.map((name) => make("option", { value: name })));
  const all = transcript.segments.length;
  say(byId("checked-count"), "checked count", [transcript.segments.filter((segment) => segment.checked).length, all]);
  byId("undo").disabled = !transcript.done.length;
  byId("redo").disabled = !transcript.undone.length;
  byId("rename-open").hidden = !speakers.length;
}

function moved(seconds, playing) {
  const { transcript, rows } = open ?? {};
  if (!transcript?.segments.length) return;
  const at = transcript.at(seconds);
  const segment = transcript.segments[at];
  const word = segment.words.findLastIndex((one) => one.start <= seconds + 0.02);
  const spoken = playing || seconds > 0 ? `${at} ${word} ${segment.text.length}` : "";
  if (spoken === open.spokenAt) return;
  open.spokenAt = spoken;
  const place = word >= 0 && seconds <= segment.end + 0.5 ? places(segment.text)[word] : null;
  rows.mark("spoken", place ? [[at, place]] : []);
  if (playing) rows.speak(at);
}

const place = () => {
  const at = Math.max(open.rows.index(open.rows.current), 0);
  return { at, offset: caret(open.rows.text(at)) ?? open.caret ?? 0 };
};

function hear(at, offset, byClick) {
  const segment = open.transcript.segments[at];
  const word = Math.max(places(segment.text).findLastIndex(([start]) => start <= offset), 0);
  player.play(segment.words[word]?.start ?? segment.start, byClick);
}

function go(at, start, end) {
  const { rows } = open;
  const row = rows.rows[Math.max(0, Math.min(at, rows.rows.length - 1))];
  if (!row) return;
  rows.enter(row);
  setCaret(row.querySelector(".text"), start, end);
}

/** What can be done to the text, by name: buttons and keys call these. */
export const deeds = {
  undo() {
    const at = open.transcript.undo();
    if (at === null) return announce("nothing to undo");
    announce("undone");
    go(at, Infinity);
  },
  redo() {
    const at = open.transcript.redo();
    if (at === null) return announce("nothing to redo");
    announce("redone");
    go(at, Infinity);
  },
  split() {
    const { at, offset } = place();
    if (!open.transcript.split(at, offset)) return announce("nothing to split");
    go(at + 1, 0);
    announce("was split");
  },
  join() {
    const { at } = place();
    const meet = open.transcript.join(at);
    if (meet < 0) return announce("nothing to join");
    go(at, meet + 1);
    announce("was joined");
  },
  joinBefore() {
    const { at } = place();
    if (at === 0) return;
    const meet = open.transcript.join(at - 1);
    go(at - 1, open.transcript.segments[at - 1].text.length > meet ? meet + 1 : meet);
    announce("was joined");
  },
  hear() {
    const { at, offset } = place();
    hear(at, offset, false);
  },
  check() {
    const { at } = place();
    const { checked } = open.transcript.segments[at];
    open.transcript.set(at, { checked: !checked });
    announce(checked ? "unchecked" : "was checked");
    if (!checked) go(at + 1, 0);
  },
  speaker() {
    const field = open.rows.current?.querySelector(".speaker");
    field?.focus();
    field?.select();
  },
  doubt: () => nextDoubt(1),
  doubtBefore: () => nextDoubt(-1),
  up: () => go(place().at - 1, Infinity),
  down: () => go(place().at + 1, 0),
  play: player.toggle,
  back: player.back,
  find: find.open,
};

function nextDoubt(by) {
  const { transcript } = open;
  const { at, offset } = place();
  const all = transcript.segments.length;
  for (let i = 0; i <= all; i++) {
    const row = (((at + by * i) % all) + all) % all;
    const beyond = ([start, end]) => i > 0 || (by > 0 ? start >= offset : end < offset);
    const found = doubts(transcript.segments[row]).filter(beyond);
    const one = by > 0 ? found[0] : found.at(-1);
    if (!one) continue;
    go(row, ...one);
    announce("doubtful word", transcript.segments[row].text.slice(...one));
    return;
  }
  announce("no doubtful word");
}

function typed(event) {
  const { transcript, rows } = open;
  if (event.isComposing) return;
  const at = rows.index(event.target);
  player.typing();
  transcript.type(at, event.target.textContent.replace(/\s/g, " "));
}

function clicked(event) {
  const { rows } = open;
  const at = rows.index(event.target);
  if (at < 0) return;
  const segment = open.transcript.segments[at];
  if (event.target.closest(".time")) player.play(segment.start);
  else if (event.target.closest(".text") && getSelection().isCollapsed)
    hear(at, caret(event.target.closest(".text")) ?? 0, true);
}

function altered(event) {
  const { transcript, rows } = open;
  const at = rows.index(event.target);
  if (at < 0) return;
  if (event.target.type === "checkbox") transcript.set(at, { checked: event.target.checked });
  else {
    const name = event.target.value.trim();
    const count = transcript.name(at, name);
    if (count > 1) announce("named", count, name);
  }
}

/** Make the page work. */
export function begin() {
  const list = byId("segments");
  const editing = (then) => (event) => open?.rows?.editable && then(event);
  list.addEventListener("input", editing((event) => event.target.matches(".text") && typed(event)));
  list.addEventListener("compositionend", editing((event) => event.target.matches(".text") && typed(event)));
  list.addEventListener("change", editing(altered));
  list.addEventListener("click", (event) => open?.rows && clicked(event));
  list.addEventListener("focusin", editing((event) => open.rows.enter(event.target.closest("li.segment"))));
  list.addEventListener("focusout", editing((event) => event.target.matches(".text") && (open.caret = caret(event.target))));
  list.addEventListener("beforeinput", editing((event) => {
    if (event.inputType.startsWith("history")) {
      event.preventDefault();
      deeds[event.inputType === "historyUndo" ? "undo" : "redo"]();
    }
  }));
  byId("job").addEventListener("keydown", editing((event) => keys(event, deeds, caret)));
  for (const node of document.querySelectorAll("[data-deed]")) {
    node.addEventListener("pointerdown", (event) => event.preventDefault()); // the caret stays where it is
    node.addEventListener("mousedown", (event) => event.preventDefault());
    node.addEventListener("click", () => deeds[node.dataset.deed]());
  }
  document.addEventListener("visibilitychange", () => document.hidden && open?.saver?.flush());
}

/** Let go of the job that is shown; resolve to whether all is saved. */
export async function close() {
  if (!open) return true;
  player.pause();
  if (open.saver && !(await open.saver.flush())) return false;
  leave();
  return true;
}

/** Let go of it whatever is not saved. */
export function leave() {
  for (const end of open?.ends ?? []) end();
  if (open?.saver) {
    open.saver.changes = 0;
    open.saver.close();
  }
  find.use(null, null);
  player.load(null, 0, () => {});
  hideConflict();
  open = null;
}
