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
}
