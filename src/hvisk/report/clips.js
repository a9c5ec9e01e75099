"use strict";
{
  const list = document.getElementById("clip-list");
  if (list) {
    const form = document.getElementById("controls");
    const field = (name) => document.getElementById(name);
    const fold = (text) => text.normalize("NFC").toLowerCase();
    const clips = [...list.children].map((item) => ({
      item,
      id: item.dataset.id,
      text: fold(item.dataset.text),
      errors: JSON.parse(item.dataset.errors),
      rates: JSON.parse(item.dataset.rates),
      labels: JSON.parse(item.dataset.labels),
    }));
    const most = 10; // clips shown before somebody asks for more
    let all = false;
    const byId = new Intl.Collator("da", { numeric: true });
    const system = () => field("system")?.value ?? Object.keys(clips[0]?.rates ?? {})[0];
    const of = (table) => table[system()] ?? 0;
    const spread = (clip) => {
      const rates = Object.values(clip.rates);
      return Math.max(...rates) - Math.min(...rates);
    };

    const orders = {
      worst: (all) => all.sort((a, b) => of(b.errors) - of(a.errors) || of(b.rates) - of(a.rates)),
      apart: (all) => all.sort((a, b) => spread(b) - spread(a)),
      id: (all) => all.sort((a, b) => byId.compare(a.id, b.id)),
      random: (all) => {
        for (let i = all.length - 1; i > 0; i--) {
          const j = Math.floor(Math.random() * (i + 1));
          [all[i], all[j]] = [all[j], all[i]];
        }
        return all;
      },
    };

    const filter = () => {
      const terms = fold(field("filter").value).split(/\s+/).filter(Boolean);
      const group = field("group")?.selectedOptions[0]; // its column is the name of the list that it stands in
      const column = group?.value && group.parentElement.label;
      const least = Number(field("least").value) / 100;
      let shown = 0;
      let hidden = 0;
      const places = new Map([...list.children].map((item, place) => [item, place]));
      for (const clip of [...clips].sort((a, b) => places.get(a.item) - places.get(b.item))) {
        const hit = terms.every((term) => clip.text.includes(term))
          && (!column || clip.labels[column] === group.value)
          && of(clip.rates) >= least;
        const folded = hit && !all && shown >= most;
        clip.item.hidden = !hit || folded;
        shown += hit;
        hidden += folded;
      }
      field("more").hidden = hidden === 0;
      field("more").textContent = `Show ${hidden} more`;
      field("shown").textContent = `${shown} of ${clips.length} clips`;
      field("no-match").hidden = shown > 0;
    };
    const sort = () => {
      const order = new FormData(form).get("order");
      list.append(...orders[order]([...clips]).map((clip) => clip.item));
    };

    form.addEventListener("submit", (event) => event.preventDefault());
    form.addEventListener("input", filter);
    form.addEventListener("change", (event) => {
      if (event.target.name === "order" || event.target.id === "system") sort();
      filter();
    });
    field("more").addEventListener("click", () => {
      const next = [...list.children].findLast((item) => !item.hidden);
      all = true;
      filter();
      next?.nextElementSibling?.querySelector("audio")?.focus(); // the button that had the focus is gone
    });
    // One voice at a time; play does not bubble, hence the capture.
    list.addEventListener("play", (event) => {
      for (const other of list.querySelectorAll("audio")) if (other !== event.target) other.pause();
    }, true);
    // A clip that a list above points to is shown whatever the filters say, and heard.
    for (const link of document.querySelectorAll("a.listen")) {
      link.addEventListener("click", () => {
        const clip = document.querySelector(link.getAttribute("href"));
        clip.hidden = false;
        const player = clip.querySelector("audio");
        player?.focus({ preventScroll: true });
        player?.play().catch(() => {});
      });
    }

    form.reset(); // a browser that goes back restores the fields, not the order
    form.hidden = false;
    sort();
    filter();
  }
}
