"use strict";
{
  const list = document.getElementById("clip-list");
  if (list) {
    const form = document.getElementById("controls");
    const input = document.getElementById("filter");
    const clips = [...list.children];
    const fold = (text) => text.normalize("NFC").toLowerCase();
    const texts = new Map(clips.map((clip) => [clip, fold(clip.dataset.text)]));
    const byId = new Intl.Collator("da", { numeric: true });
    const number = (clip, key) => Number(clip.dataset[key]);

    const orders = {
      worst: (all) => all.sort((a, b) => number(b, "errors") - number(a, "errors") || number(b, "rate") - number(a, "rate")),
      id: (all) => all.sort((a, b) => byId.compare(a.dataset.id, b.dataset.id)),
      random: (all) => {
        for (let i = all.length - 1; i > 0; i--) {
          const j = Math.floor(Math.random() * (i + 1));
          [all[i], all[j]] = [all[j], all[i]];
        }
        return all;
      },
    };

    const filter = () => {
      const terms = fold(input.value).split(/\s+/).filter(Boolean);
      let shown = 0;
      for (const clip of clips) {
        const hit = terms.every((term) => texts.get(clip).includes(term));
        clip.hidden = !hit;
        shown += hit;
      }
      document.getElementById("shown").textContent = `${shown} of ${clips.length} clips`;
      document.getElementById("no-match").hidden = shown > 0;
    };

    const sort = () => list.append(...orders[new FormData(form).get("order")]([...clips]));

    form.addEventListener("submit", (event) => event.preventDefault());
    form.addEventListener("change", (event) => event.target.name === "order" && sort());
    input.addEventListener("input", filter);
    // One voice at a time; play does not bubble, hence the capture.
    list.addEventListener("play", (event) => {
      for (const other of list.querySelectorAll("audio")) if (other !== event.target) other.pause();
    }, true);

    form.reset(); // a browser that goes back restores the fields, not the order
    form.hidden = false;
    sort();
    filter();
  }
}
