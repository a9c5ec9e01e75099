// Recording with the browser's own recorder; what is recorded is in this tab's memory until it is sent.

import { announce, byId, clock } from "./dom.js";
import { say, show, words } from "./say.js";
import { add } from "./queue.js";

const KINDS = ["audio/webm;codecs=opus", "audio/ogg;codecs=opus", "audio/mp4"];

let recorder = null;
let meter = 0;

/** Ask for the microphone as speech wants it. Raises an Error with a sentence. */
export async function microphone() {
  if (!navigator.mediaDevices) throw new Error(words("microphone insecure"));
  try {
    return await navigator.mediaDevices.getUserMedia({ audio: { channelCount: 1, echoCancellation: false } });
  } catch (error) {
    throw new Error(words(error.name === "NotAllowedError" ? "microphone refused" : "microphone missing"));
  }
}

/** Show how loud a source is in a <meter>, until the function that is returned is called. */
export function loudness(context, source, node) {
  const analyser = new AnalyserNode(context, { fftSize: 1024 });
  source.connect(analyser);
  const samples = new Float32Array(analyser.fftSize);
  let frame = 0;
  const step = () => {
    analyser.getFloatTimeDomainData(samples);
    const power = samples.reduce((sum, sample) => sum + sample * sample, 0) / samples.length;
    node.value = Math.max(0, Math.min(1, 1 + Math.log10(power + 1e-10) / 5)); // 50 dB
    frame = requestAnimationFrame(step);
  };
  step();
  return () => cancelAnimationFrame(frame);
}

/** Say whether something is being recorded. */
export const recording = () => recorder !== null;

async function start() {
  const stream = await microphone();
  const kind = KINDS.find((type) => MediaRecorder.isTypeSupported(type));
  const parts = [];
  recorder = new MediaRecorder(stream, { mimeType: kind, audioBitsPerSecond: 64_000 });
  recorder.addEventListener("dataavailable", (event) => parts.push(event.data));
  const began = performance.now();
  const context = new AudioContext();
  const silent = loudness(context, context.createMediaStreamSource(stream), byId("record-level"));
  const shown = () => show(byId("record-time"), clock((performance.now() - began) / 1000));
  meter = setInterval(shown, 250);
  shown();
  recorder.addEventListener("stop", () => {
    clearInterval(meter);
    silent();
    context.close();
    for (const track of stream.getTracks()) track.stop();
    const kept = recorder.kept;
    recorder = null;
    byId("recording").hidden = true;
    byId("record").hidden = false;
    byId("record").focus();
    if (!kept) return;
    const ending = { "audio/ogg": "ogg", "audio/mp4": "m4a" }[kind.split(";")[0]] ?? "webm";
    add([new File(parts, `${words("recording name", new Date())}.${ending}`, { type: kind.split(";")[0] })]);
  });
  recorder.start(1000);
  byId("recording").hidden = false;
  byId("record").hidden = true;
  byId("record-stop").focus();
  announce("announce recording");
}

/** Make the buttons work. */
export function begin() {
  byId("record").addEventListener("click", async () => {
    const told = byId("record-trouble");
    told.hidden = true;
    try {
      await start();
    } catch (error) {
      told.hidden = false;
      show(told, error.message);
    }
  });
  const end = (kept) => () => {
    recorder.kept = kept;
    recorder.stop();
  };
  byId("record-stop").addEventListener("click", end(true));
  byId("record-discard").addEventListener("click", end(false));
  say(byId("record-level"), "level", [], "aria-label");
}
