// The player below the text.

import { byId, clock } from "./dom.js";
import { say, show } from "./say.js";

const BACK = 3; // seconds

const audio = byId("audio");
const place = byId("place");
let length = 0;
let moved = () => {};
let wanted = null; // seconds to go to once the file's header is here
let clicked = false; // whether it plays because of a click into the text

/** Take a job's sound; moved: told the seconds as it plays. Without a url there is no player. */
export function load(url, seconds, then) {
  moved = then;
  length = seconds;
  wanted = null;
  byId("player").hidden = !url;
  byId("player-trouble").hidden = true;
  if (url) audio.src = url;
  else if (audio.hasAttribute("src")) {
    audio.removeAttribute("src");
    audio.load();
  }
  shown();
}

/** Take another length: while a file is being recognised, what its header says may turn out to be wrong. */
export function lasts(seconds) {
  length = seconds ?? length;
  shown();
}

/** Say whether there is a sound to be heard. */
export const present = () => !byId("player").hidden && audio.error === null;

/** Play from `seconds`, or from where it is. byClick: typing ends it. */
export function play(seconds = null, byClick = false) {
  if (!present()) return;
  clicked = byClick;
  if (seconds !== null) go(seconds);
  audio.play().catch(() => {}); // the error event tells
}

export function pause() {
  audio.pause();
}

/** End what a click began: who types wants to think. */
export function typing() {
  if (clicked) audio.pause();
}

export function toggle() {
  if (audio.paused) play();
  else pause();
}

export function back() {
  go(audio.currentTime - BACK);
}

function go(seconds) {
  const to = Math.max(0, Math.min(seconds, length || seconds));
  if (audio.readyState === 0 || !Number.isFinite(audio.duration)) wanted = to;
  else audio.currentTime = to;
  place.value = to;
  shown(to);
}

function shown(seconds = audio.currentTime) {
  const at = clock(seconds);
  const all = clock(length);
  show(byId("time"), `${at} / ${all}`);
  place.max = Math.max(length, 1);
  if (document.activeElement !== place || !audio.paused) place.value = seconds;
  if (place.getAttribute("aria-valuetext") !== at) place.setAttribute("aria-valuetext", at);
}

function step() {
  if (wanted === null) {
    shown();
    moved(audio.currentTime, !audio.paused);
  }
  if (!audio.paused && !audio.ended) requestAnimationFrame(step);
}

/** Make the buttons work. */
export function begin() {
  byId("play").addEventListener("click", toggle);
  byId("back").addEventListener("click", back);
  place.addEventListener("input", () => go(Number(place.value)));
  byId("speed").addEventListener("change", () => {
    audio.defaultPlaybackRate = audio.playbackRate = Number(byId("speed").value);
  });
  for (const name of ["play", "pause", "ended"])
    audio.addEventListener(name, () => {
      say(byId("play"), audio.paused ? "play" : "pause", [], "aria-label");
      byId("play").classList.toggle("on", !audio.paused);
      if (audio.paused) clicked = false;
      step();
    });
  audio.addEventListener("seeked", step);
  audio.addEventListener("durationchange", () => {
    // A browser's own recording does not say how long it is; looking for its end finds that out.
    if (audio.duration === Infinity) {
      wanted ??= audio.currentTime;
      audio.currentTime = 1e9;
    } else if (wanted !== null && audio.readyState > 0) {
      audio.currentTime = wanted;
      wanted = null;
    }
  });
  audio.addEventListener("loadedmetadata", () => {
    if (Number.isFinite(audio.duration) && !length) length = audio.duration;
  });
  audio.addEventListener("error", () => {
    if (!audio.error || !audio.hasAttribute("src")) return; // of a sound that was let go
    byId("player-trouble").hidden = false;
    say(byId("player-trouble"), audio.error?.code === MediaError.MEDIA_ERR_NETWORK ? "sound away" : "sound unknown");
  });
  say(byId("play"), "play", [], "aria-label");
}
