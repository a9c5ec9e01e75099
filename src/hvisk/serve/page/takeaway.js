// What is taken away from a transcript: files, and a corpus to learn from.

import { byId, make, offer } from "./dom.js";
import * as editor from "./editor.js";
import { say, show } from "./say.js";
import { Failure, ask } from "./server.js";

const FORMS = ["txt", "docx", "srt", "vtt", "json"];

async function fetched(id, form) {
  const response = await fetch(`api/jobs/${id}/export?format=${form}`);
  if (!response.ok) {
    const { error } = await response.json();
    throw new Failure(error.code, error.message);
  }
  const [, name] = /filename\*=UTF-8''([^;]+)/.exec(response.headers.get("content-disposition")) ?? [];
  return [name ? decodeURIComponent(name) : `transcript.${form}`, await response.blob()];
}

async function take(form) {
  const told = byId("take-trouble");
  told.hidden = true;
  try {
    const open = await editor.saved();
    if (!open) throw new Failure("not_saved", "Not saved.");
    offer(...(await fetched(open.id, form)));
    byId("take").open = false;
    byId("take").querySelector("summary").focus();
  } catch (failure) {
    told.hidden = false;
    show(told, failure.sentence ?? failure.message);
  }
}

async function learn(which) {
  const result = byId("corpus-result");
  result.hidden = false;
  say(result, "corpus saving");
  byId("corpus-next").hidden = true;
  try {
    const open = await editor.saved();
    if (!open) throw new Failure("not_saved", "Not saved.");
    const saved = await ask(`jobs/${open.id}/corpus`, { method: "POST", json: { which } });
    say(result, "corpus saved", [saved.clips, saved.seconds, saved.left_out, saved.folder]);
    byId("corpus-next").hidden = saved.clips === 0;
    show(byId("corpus-command"), saved.next);
  } catch (failure) {
    show(result, failure.sentence ?? failure.message);
  }
}

/** Make the menu and the dialogue work. */
export function begin() {
  byId("forms").replaceChildren(...FORMS.map((form) =>
    make("li", {}, say(make("button", { type: "button", value: form, click: () => take(form) }), `form ${form}`))));
  const menu = byId("take");
  menu.addEventListener("keydown", (event) => {
    if (event.key !== "Escape" || !menu.open) return;
    menu.open = false;
    menu.querySelector("summary").focus();
  });
  document.addEventListener("click", (event) => menu.contains(event.target) || (menu.open = false));
  byId("corpus-open").addEventListener("click", () => {
    byId("corpus-result").hidden = byId("corpus-next").hidden = true;
    byId("corpus").showModal();
  });
  byId("corpus-checked").addEventListener("click", () => learn("checked"));
  byId("corpus-all").addEventListener("click", () => learn("all"));
  byId("rename-open").addEventListener("click", rename);
}

async function rename() {
  const open = await editor.saved();
  if (!open) return;
  const { transcript } = open;
  byId("names").replaceChildren(...transcript.speakers().map((before) => {
    const field = make("input", { type: "text", value: before, maxLength: 100, autocomplete: "off" });
    field.addEventListener("change", () => {
      const after = field.value.trim();
      if (after === before) return;
      transcript.rename(before, after);
      before = after;
    });
    say(field, "name of", [before], "aria-label");
    return make("li", {}, field);
  }));
  byId("rename").showModal();
}
