// The recordings: those that are being sent, and the server's jobs with how far they are.

import { announce, ask as confirm, button, byId, make } from "./dom.js";
import { say, show } from "./say.js";
import { ask, follow, now, send } from "./server.js";

const AT_ONCE = 2; // uploads
const SHOWN = 50; // jobs, until more are asked for
const RATE_SECONDS = 0.5; // of an upload, before anything is said of its end

let about = null;
const jobs = new Map(); // id -> job
const told = new Set(); // ids of all jobs that the events have ever told of
const rows = new Map(); // id or upload -> its row
const uploads = [];
let most = SHOWN;
let peek = { id: null, end: () => {} };
const watchers = new Set();

/** Call `then` with a job whenever one has changed, and with {id, state: "gone"}; return a function that ends it. */
export function watch(then) {
  watchers.add(then);
  return () => watchers.delete(then);
}

/** Begin to follow all jobs. service: what /api/about said. connection: told "open" or "away". */
export function begin(service, connection) {
  about = service;
  const changed = (job) => {
    const before = jobs.get(job.id);
    jobs.set(job.id, job);
    told.add(job.id);
    if (before && before.state !== job.state && ["done", "failed"].includes(job.state))
      announce(`announce ${job.state}`, job.name);
    for (const watcher of watchers) watcher(job);
  };
  follow("events", {
    jobs: (data) => {
      const known = new Set(data.jobs.map((job) => job.id));
      for (const id of jobs.keys()) if (!known.has(id)) forget(id);
      for (const job of data.jobs.toReversed()) changed(job);
      draw();
    },
    job: (job) => {
      changed(job);
      draw();
    },
    gone: ({ id }) => {
      forget(id);
      draw();
    },
  }, connection);
  setInterval(draw, 1000); // what is left of the time
  byId("more").addEventListener("click", () => {
    most += SHOWN;
    draw();
  });
}

function forget(id) {
  jobs.delete(id);
  for (const watcher of watchers) watcher({ id, state: "gone" });
}

/** Send files, some at once, with what is asked for now. Those that the server would refuse are told at once. */
export function add(files) {
  const options = { language: byId("spoken-language").value, style: byId("style").value, keywords: byId("keywords").value };
  for (const file of files) {
    const upload = { file, name: file.name, options, sent: 0, state: "waiting", failure: null, control: null, began: 0 };
    if (about && file.size > about.limits.file_bytes)
      Object.assign(upload, { state: "failed", failure: ["too large here", about.limits.file_bytes, file.size] });
    else if (!file.size) Object.assign(upload, { state: "failed", failure: ["empty file"] });
    uploads.unshift(upload);
  }
  next();
}

function next() {
  const under = uploads.filter((upload) => upload.state === "sending").length;
  const waiting = uploads.filter((upload) => upload.state === "waiting").reverse();
  for (const upload of waiting.slice(0, AT_ONCE - under)) transfer(upload);
  draw();
}

async function transfer(upload) {
  Object.assign(upload, { state: "sending", failure: null, sent: 0, began: performance.now() });
  upload.control = new AbortController();
  const progress = (sent) => {
    upload.sent = sent;
    draw();
  };
  try {
    const job = await send(upload.file, upload.name, upload.options, progress, upload.control.signal);
    if (!told.has(job.id)) jobs.set(job.id, job); // else it may be done by now, or deleted
    drop(upload);
    announce("announce sent", upload.name);
  } catch (failure) {
    if (failure.code === "aborted") drop(upload);
    else Object.assign(upload, { state: "failed", failure });
  }
  next();
}

function drop(upload) {
  const at = uploads.indexOf(upload);
  if (at >= 0) uploads.splice(at, 1);
  rows.get(upload)?.node.remove();
  rows.delete(upload);
  draw();
}

/** Say whether leaving the page would lose something. */
export const sending = () => uploads.some((upload) => upload.state === "sending" || upload.state === "waiting");

function draw() {
  const list = byId("jobs");
  const sorted = [...jobs.values()].sort((a, b) => b.created - a.created);
  const shown = [...uploads, ...sorted.slice(0, most)];
  const keys = new Set(shown.map((item) => item.id ?? item));
  for (const [key, row] of rows)
    if (!keys.has(key)) {
      const focused = row.node.contains(document.activeElement);
      row.node.remove();
      rows.delete(key);
      if (focused) byId("queue-title").focus();
    }
  let place = list.firstElementChild;
  for (const item of shown) {
    const key = item.id ?? item;
    if (!rows.has(key)) rows.set(key, item.id ? jobRow(item.id) : uploadRow(item));
    const row = rows.get(key);
    row.update(item);
    if (row.node === place) place = place.nextElementSibling;
    else list.insertBefore(row.node, place);
  }
  byId("no-jobs").hidden = shown.length > 0;
  byId("more").hidden = sorted.length <= most;
  glance(byId("queue").hidden ? null : sorted.findLast((job) => job.state === "running" && job.heard > 0)?.id ?? null);
}

// One running job shows its newest line; each would take a connection.
function glance(id) {
  if (peek.id === id) return;
  peek.end();
  if (peek.id && rows.has(peek.id)) rows.get(peek.id).line("");
  const line = (text) => rows.get(id)?.line(text);
  peek = { id, end: () => {} };
  if (id) peek.end = follow(`jobs/${id}/events`, {
    segments: ({ segments }) => segments.length && line(segments.at(-1).text),
    end: () => line(""),
    gone: () => {},
  });
}

function frame() {
  const name = make("span", { className: "name", dir: "auto" });
  const state = make("p", { className: "state" });
  const bar = make("progress", { max: 1, hidden: true });
  const line = make("p", { className: "newest", dir: "auto", hidden: true });
  const actions = make("div", { className: "actions" });
  const node = make("li", { className: "job" }, make("div", { className: "what" }, name, state, bar, line), actions);
  return { node, name, state, bar, line, actions };
}

function uploadRow(upload) {
  const { node, name, state, bar, actions } = frame();
  show(name, upload.name);
  say(bar, "sending of", [upload.name], "aria-label");
  const stop = button("cancel", () => (upload.control && upload.state === "sending" ? upload.control.abort() : drop(upload)));
  const again = button("try again", () => {
    upload.state = "waiting";
    next();
  });
  for (const item of [stop, again]) item.setAttribute("aria-description", upload.name);
  actions.append(again, stop);
  return {
    node,
    line: () => {},
    update() {
      const { state: now_, failure, sent, file, began } = upload;
      node.className = `job ${now_}`;
      bar.hidden = now_ !== "sending";
      bar.value = file.size ? sent / file.size : 0;
      again.hidden = now_ !== "failed" || Array.isArray(failure);
      say(stop, now_ === "failed" ? "remove" : "cancel");
      if (now_ === "waiting") say(state, "upload waiting");
      else if (now_ === "sending") {
        const took = (performance.now() - began) / 1000;
        const left = took > RATE_SECONDS && sent ? ((file.size - sent) * took) / sent : null;
        say(state, sent < file.size ? "sending" : "storing", [sent, file.size, left]);
      } else if (Array.isArray(failure)) say(state, failure[0], failure.slice(1));
      else show(state, failure.sentence);
    },
  };
}

function jobRow(id) {
  const { node, name, state, bar, line, actions } = frame();
  const link = make("a", { href: `#job=${id}` });
  name.append(link);
  const act = (key, action) => button(key, async () => {
    try {
      await action();
    } catch (failure) {
      show(state, failure.sentence);
    }
  });
  const stop = act("cancel", () => ask(`jobs/${id}/cancel`, { method: "POST" }));
  const again = act("try again", () => ask(`jobs/${id}/retry`, { method: "POST" }));
  const remove = act("delete", async () => {
    if (await confirm("delete question", [jobs.get(id)?.name ?? ""], "delete")) await ask(`jobs/${id}`, { method: "DELETE" });
  });
  actions.append(again, stop, remove);
  return {
    node,
    line(text) {
      line.hidden = !text;
      show(line, text);
    },
    update(job) {
      show(link, job.name);
      node.className = `job ${job.state}`;
      for (const item of [stop, again, remove]) item.setAttribute("aria-description", job.name);
      say(bar, "recognising of", [job.name], "aria-label");
      bar.hidden = job.state !== "running";
      if (job.progress === null) bar.removeAttribute("value");
      else bar.value = job.progress;
      describe(state, job);
      stop.hidden = !["queued", "running"].includes(job.state);
      again.hidden = !(["failed", "cancelled"].includes(job.state) && job.audio);
      remove.hidden = !stop.hidden;
    },
  };
}

/** Let a node say how a job is. */
export function describe(node, job) {
  if (job.state === "failed" && job.error) {
    show(node, job.error);
    node.lang = "en"; // the server's own sentence
    return;
  }
  node.removeAttribute("lang");
  const left = job.state === "running" ? remaining(job) : null;
  say(node, `job ${job.state}`, [job, left]);
}

// By the pace so far; the server tells how far it is once in some minutes of sound, in between the clock goes on.
const paces = new Map(); // id -> {heard, at}
function remaining(job) {
  if (!job.seconds || !job.heard || !job.started) return null;
  let pace = paces.get(job.id);
  if (pace?.heard !== job.heard) paces.set(job.id, (pace = { heard: job.heard, at: now() }));
  const rate = job.heard / Math.max(pace.at - job.started, 0.1);
  return Math.max(0, (job.seconds - job.heard) / rate - (now() - pace.at));
}

