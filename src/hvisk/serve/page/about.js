// Where everything is, and when it is deleted.

import { byId, make } from "./dom.js";
import { say } from "./say.js";

/** Show what /api/about says. */
export function draw(about) {
  const { places, retention, limits, stored, model } = about;
  const rows = [
    ["about sound", "about sound text", [retention.audio_seconds, stored.audio_files, stored.audio_bytes], places.audio],
    ["about text", "about text text", [retention.transcript_seconds, retention.forget], places.database.replace("sqlite:///", "")],
    ["about corpus", "about corpus text", [], places.corpus],
    ["about live", "about live text", []],
    ["about browser", about.token ? "about browser token" : "about browser text", []],
    ["about network", about.token ? "about network token" : "about network text", []],
  ];
  byId("places").replaceChildren(...rows.map(([title, text, values, place]) => make("div", {},
    say(make("dt"), title),
    make("dd", {}, say(make("p"), text, values), ...(place ? [make("code", {}, place)] : [])))));
  const facts = [
    ["about model", "plain", [model.name]],
    ["about state", `model ${model.state}`, []],
    ["about largest", "about largest text", [limits.file_bytes, limits.audio_seconds]],
    ["about version", "plain", [`hvisk ${about.hvisk}`]],
  ];
  byId("facts").replaceChildren(...facts.map(([title, text, values]) => make("div", {},
    say(make("dt"), title), say(make("dd", { dir: "auto" }), text, values))));
}
