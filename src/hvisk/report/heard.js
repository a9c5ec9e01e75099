"use strict";
{
  const list = document.getElementById("clip-list");
  const form = document.getElementById("controls");
  const input = document.getElementById("filter");
  const clips = [...list.children];
  const buttons = [...document.querySelectorAll("#counts button")];
  const fold = (text) => text.normalize("NFC").toLowerCase();
  const texts = new Map(clips.map((clip) => [clip, fold(clip.dataset.text)]));

  const filter = () => {
    const terms = fold(input.value).split(/\s+/).filter(Boolean);
    let shown = 0;
    for (const clip of clips) {
      const hit = terms.every((term) => texts.get(clip).includes(term));
      clip.hidden = !hit;
      shown += hit;
    }
    for (const button of buttons) button.setAttribute("aria-pressed", String(terms.includes(fold(button.dataset.filter))));
    document.getElementById("shown").textContent = `${shown} of ${clips.length} clips`;
    document.getElementById("no-match").hidden = shown > 0;
  };

  const follow = (audio, clip) => {
    const heads = clip.querySelectorAll(".head");
    const step = () => {
      const share = audio.duration ? audio.currentTime / audio.duration : 0;
      for (const head of heads) {
        head.hidden = share === 0;
        head.style.left = `${100 * share}%`;
      }
      if (!audio.paused && !audio.ended) requestAnimationFrame(step);
    };
    step();
  };

  const from = (clip, place) => {
    const audio = clip.querySelector("audio");
    const go = () => {
      audio.currentTime = place(audio.duration);
      audio.play();
    };
    if (audio.readyState > 0) return go();
    audio.addEventListener("loadedmetadata", go, { once: true });
    audio.load();
  };

  form.addEventListener("submit", (event) => event.preventDefault());
  input.addEventListener("input", filter);
  document.getElementById("counts").addEventListener("click", (event) => {
    const button = event.target.closest("button");
    if (!button) return;
    input.value = button.getAttribute("aria-pressed") === "true" ? "" : button.dataset.filter;
    filter();
  });
  list.addEventListener("click", (event) => {
    const clip = event.target.closest("li");
    const time = event.target.closest("[data-time]");
    const picture = event.target.closest(".fed, .masked");
    if (time) from(clip, () => Number(time.dataset.time));
    if (picture) {
      const box = picture.getBoundingClientRect();
      from(clip, (seconds) => (seconds * (event.clientX - box.left)) / box.width);
    }
  });
  // One voice at a time; media events do not bubble, hence the capture.
  list.addEventListener("play", (event) => {
    for (const other of list.querySelectorAll("audio")) if (other !== event.target) other.pause();
    follow(event.target, event.target.closest("li"));
  }, true);
  list.addEventListener("seeked", (event) => follow(event.target, event.target.closest("li")), true);

  input.value = ""; // a browser that goes back restores the field
  form.hidden = false;
  filter();
}
