"use strict";
{
  const controls = document.getElementById("picture-controls");
  if (controls) {
    const views = [...document.querySelectorAll(".view")];
    const select = document.getElementById("picture-test");
    const unique = (values) => [...new Set(values)];
    const draw = (event) => {
      const chosen = new FormData(controls);
      if (event?.target !== select) { // the test sets are those of the scale; the one that was chosen stays if it can
        const tests = unique(views.filter((v) => v.dataset.scale === chosen.get("scale")).map((v) => v.dataset.test));
        const kept = tests.includes(select.value) ? select.value : tests[0];
        select.replaceChildren(...tests.map((test) => new Option(test, test, test === kept, test === kept)));
        select.parentElement.hidden = tests.length < 2;
      }
      let shown = 0;
      for (const view of views) {
        const hit = view.dataset.scale === chosen.get("scale") && view.dataset.axis === chosen.get("axis")
          && view.dataset.test === select.value;
        view.hidden = !hit;
        shown += hit;
      }
      document.getElementById("no-picture").hidden = shown > 0;
    };
    controls.addEventListener("submit", (event) => event.preventDefault());
    controls.addEventListener("change", draw);
    controls.reset();
    controls.hidden = false;
    draw();
  }

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
    const byId = new Intl.Collator("da", { numeric: true });
    const system = () => field("system")?.value ?? Object.keys(clips[0].rates)[0];
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
      for (const clip of clips) {
        const hit = terms.every((term) => clip.text.includes(term))
          && (!column || clip.labels[column] === group.value)
          && of(clip.rates) >= least;
        clip.item.hidden = !hit;
        shown += hit;
      }
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
