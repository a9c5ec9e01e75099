// Captions while somebody speaks: samples to the server's WebSocket, captions back. Nothing of it is kept.

import { announce, byId, clock, make, offer } from "./dom.js";
import { loudness, microphone } from "./record.js";
import { say, show, words } from "./say.js";

const BEHIND_BYTES = 1 << 20; // about ten seconds of sound that the connection has not taken
const LINES = 2000;
const START = 8000; // milliseconds for the browser's sound to run

let session = null;

// The context first: browsers let it run where a click has just been.
async function listen() {
  const context = new AudioContext();
  try {
    const stream = await microphone();
    await context.audioWorklet.addModule("pcm.js");
    return [context, stream];
  } catch (error) {
    context.close();
    throw error;
  }
}

/** Say whether it listens. */
export const listening = () => session !== null;

async function start() {
  const [context, stream] = await listen();
  const source = context.createMediaStreamSource(stream);
  const tap = new AudioWorkletNode(context, "pcm");
  const address = new URL("api/live", location.href.replace(/^http/, "ws"));
  address.hash = "";
  address.search = new URLSearchParams({ format: "pcm16", rate: context.sampleRate, language: byId("spoken-language").value || "da" });
  const socket = new WebSocket(address);
  const silent = loudness(context, source, byId("live-level"));
  session = { stream, context, socket, silent, told: false, lines: new Map() };
  tap.port.addEventListener("message", ({ data }) => {
    if (socket.readyState !== WebSocket.OPEN) return;
    if (socket.bufferedAmount > BEHIND_BYTES) return fail("live behind");
    socket.send(data);
  });
  socket.addEventListener("open", () => {
    source.connect(tap).connect(context.destination); // silence; what leads nowhere is not heard by every browser
    tap.port.start();
  });
  socket.addEventListener("message", ({ data }) => heard(JSON.parse(data)));
  socket.addEventListener("close", ({ code }) => {
    if (session?.socket !== socket) return;
    if (!session.over && !session.told) fail(code === 1008 ? "live refused" : "live broken");
    close();
  });
  stream.getAudioTracks()[0].addEventListener("ended", stop);
  setTimeout(() => session?.context === context && context.state !== "running" && fail("live mute"), START);
  state("live starting");
  byId("live-empty").hidden = true;
  buttons(true);
}

function heard(message) {
  if (message.type === "ready") {
    state("live listening");
    announce("live listening");
  } else if (message.type === "error") {
    session.told = true;
    trouble((node) => show(node, message.message));
  } else if (message.type === "end") {
    session.over = true;
    state("live ended", [message.seconds]);
  } else if (message.type === "caption") caption(message);
}

function caption({ utterance, start, committed, tentative, final, doubt }) {
  const { lines } = session;
  const log = byId("captions");
  const below = innerHeight + scrollY >= document.documentElement.scrollHeight - 80;
  if (final && !committed.trim()) {
    lines.get(utterance)?.node.remove();
    lines.delete(utterance);
  } else {
    if (!lines.has(utterance)) {
      const [sure, open] = [make("span"), make("span", { className: "tentative" })];
      const time = make("span", { className: "time" }, clock(start));
      const node = make("li", {}, time, make("p", { dir: "auto", lang: byId("spoken-language").value || "da" }, sure, open));
      lines.set(utterance, { node, sure, open });
      log.append(node);
      if (log.children.length > LINES) log.firstElementChild.remove();
    }
    const { node, sure, open } = lines.get(utterance);
    show(sure, committed);
    show(open, final ? "" : tentative);
    node.classList.toggle("final", final);
    node.classList.toggle("doubtful", Boolean(doubt));
    // A screen reader hears a line once, when it is finished.
    if (final) byId("announced").textContent = committed;
  }
  byId("live-save").disabled = log.children.length === 0;
  if (below) scrollTo(0, document.documentElement.scrollHeight);
}

function stop() {
  if (!session) return;
  if (session.socket.readyState === WebSocket.OPEN) session.socket.send(JSON.stringify({ type: "end" }));
  else session.socket.close();
  session.silent();
  for (const track of session.stream.getTracks()) track.stop();
  session.context.close();
  session.context = null;
  state("live ending");
  byId("live-stop").disabled = true;
}

function close() {
  if (session.context) {
    session.silent();
    for (const track of session.stream.getTracks()) track.stop();
    session.context.close();
  }
  if (!session.over) state("live off");
  session = null;
  byId("live-empty").hidden = byId("captions").children.length > 0;
  buttons(false);
}

function fail(key) {
  session.told = true;
  trouble((node) => say(node, key));
  session.socket.close();
}

function trouble(tell) {
  const node = byId("live-trouble");
  node.hidden = false;
  tell(node);
}

const state = (key, values = []) => say(byId("live-state"), key, values);

function buttons(on) {
  const had = [byId("live-start"), byId("live-stop")].includes(document.activeElement);
  byId("live-start").hidden = on;
  byId("live-stop").hidden = !on;
  byId("live-stop").disabled = false;
  byId("live-level").hidden = !on;
  if (had || on) byId(on ? "live-stop" : "live-start").focus();
}

/** Make the buttons work. */
export function begin() {
  state("live off");
  say(byId("live-level"), "level", [], "aria-label");
  byId("live-start").addEventListener("click", async () => {
    byId("live-trouble").hidden = true;
    byId("captions").replaceChildren();
    byId("live-save").disabled = true;
    try {
      await start();
    } catch (error) {
      trouble((node) => show(node, error.message));
    }
  });
  byId("live-stop").addEventListener("click", stop);
  byId("live-save").addEventListener("click", () => {
    const lines = [...byId("captions").querySelectorAll("p")].map((node) => `${node.textContent.trim()}\n`);
    offer(`${words("live name", new Date())}.txt`, new Blob(lines, { type: "text/plain" }));
  });
}
