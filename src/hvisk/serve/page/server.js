// What the page asks of its server. Every failure is a Failure with a sentence to show.

import { speaks, words } from "./say.js";

/** A request that failed. code: as docs/service.md has it, or "away" without an answer. param: what it is about. */
export class Failure extends Error {
  constructor(code, message, param = null) {
    super(message);
    this.code = code;
    this.param = param;
  }

  /** The sentence in the reader's language; the server's own, in English, where the page has none. */
  get sentence() {
    return this.code !== "failed" && speaks(`error ${this.code}`) ? words(`error ${this.code}`) : this.message;
  }
}

let locked = () => {};
/** Call `then` when the server wants a token. */
export const whenLocked = (then) => (locked = then);

let skew = 0; // milliseconds that the server's clock is ahead of ours
/** Return the server's time, in seconds since 1970. */
export const now = () => (Date.now() + skew) / 1000;

function failure(status, body) {
  const error = body?.error ?? {};
  if (status === 401 && error.code === "invalid_api_key") locked();
  return new Failure(error.code ?? "failed", error.message ?? `HTTP ${status}`, error.param ?? null);
}

/** Ask for `path` under /api/; resolve to the JSON of the answer, or null. Raises Failure. */
export async function ask(path, { method = "GET", json } = {}) {
  const headers = json === undefined ? {} : { "content-type": "application/json" };
  const body = json === undefined ? undefined : JSON.stringify(json);
  let response;
  try {
    response = await fetch(`api/${path}`, { method, headers, body });
  } catch {
    throw new Failure("away", words("error away"));
  }
  const date = Date.parse(response.headers.get("date"));
  if (date) skew = date + 500 - Date.now();
  const value = response.status === 204 ? null : await response.json().catch(() => null);
  if (!response.ok) throw failure(response.status, value);
  return value;
}

/**
 * Send a file; resolve to its job. options: language, style, keywords. progress: told the bytes that are gone. `signal` ends it.
 * Raises Failure. XMLHttpRequest, because fetch does not tell how far an upload is.
 */
export function send(file, name, options, progress, signal) {
  const form = new FormData();
  for (const [field, value] of Object.entries(options)) form.append(field, value);
  form.append("files", file, name);
  const request = new XMLHttpRequest();
  request.open("POST", "api/jobs");
  request.responseType = "json";
  signal.addEventListener("abort", () => request.abort());
  request.upload.addEventListener("progress", (event) => progress(Math.min(event.loaded, file.size)));
  return new Promise((resolve, reject) => {
    request.addEventListener("load", () => {
      if (request.status === 201 && request.response) resolve(request.response.jobs[0]);
      else reject(failure(request.status, request.response));
    });
    request.addEventListener("error", () => reject(new Failure("away", words("error away"))));
    request.addEventListener("abort", () => reject(new Failure("aborted", words("error aborted"))));
    request.send(form);
  });
}

/**
 * Follow server-sent events of `path` while this tab is seen; return a function that ends it.
 * heard: name -> function of the data; after "end" or "gone" nothing more is asked. state: told "open" or "away".
 *
 * A tab that nobody sees lets go of its connection: browsers have six a host, and each tab would take its share for good.
 */
export function follow(path, heard, state = () => {}) {
  let source = null;
  let timer = 0;
  let over = false;
  const stop = () => {
    clearTimeout(timer);
    source?.close();
    source = null;
  };
  const start = () => {
    stop();
    if (over || document.hidden) return;
    source = new EventSource(`api/${path}`);
    source.addEventListener("open", () => state("open"));
    source.addEventListener("error", () => {
      state("away");
      if (source?.readyState !== EventSource.CLOSED) return; // it tries again by itself
      timer = setTimeout(start, 3000);
      ask("about").catch(() => {}); // a 401 shows only here
    });
    for (const [name, then] of Object.entries(heard))
      source.addEventListener(name, (event) => {
        const last = name === "end" || (name === "gone" && path !== "events");
        if (last) end();
        then(JSON.parse(event.data));
      });
  };
  const end = () => {
    over = true;
    stop();
    document.removeEventListener("visibilitychange", start);
  };
  document.addEventListener("visibilitychange", start);
  start();
  return end;
}
