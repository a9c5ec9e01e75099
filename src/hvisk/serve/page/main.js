// The page begins here: who may see it, which part is shown, what is dropped on it.

import * as about from "./about.js";
import { ask as confirm, byId, make } from "./dom.js";
import * as editor from "./editor.js";
import * as find from "./find.js";
import * as keys from "./keys.js";
import * as live from "./live.js";
import * as player from "./player.js";
import * as queue from "./queue.js";
import * as record from "./record.js";
import * as say from "./say.js";
import { ask, whenLocked } from "./server.js";
import * as takeaway from "./takeaway.js";

const LOOK = 500; // milliseconds between looks at a model that is being loaded
const VIEWS = ["queue", "job", "live", "about"];
let told = null;
let shown = null; // the fragment that is shown

function wanted() {
  const [, view, id] = /^#(job|live|about)?(?:=([0-9a-f]{32}))?$/.exec(location.hash || "#") ?? [];
  return view === "job" && !id ? ["queue"] : [view ?? "queue", id];
}

function present(view) {
  for (const name of VIEWS) byId(name).hidden = name !== view;
  for (const link of document.querySelectorAll("nav a"))
    if (link.hash === (["queue", "job"].includes(view) ? "" : `#${view}`)) link.setAttribute("aria-current", "page");
    else link.removeAttribute("aria-current");
}

async function route() {
  if (shown === location.hash) return;
  const before = shown;
  shown = location.hash;
  if (before !== null && !(await editor.close())) {
    if (!(await confirm("leave question", [], "leave"))) {
      shown = before;
      location.hash = before;
      return;
    }
    editor.leave();
  }
  const [view, id] = wanted();
  present(view);
  scrollTo(0, 0);
  titled();
  if (before !== null) byId(`${view}-title`).focus();
  if (view === "job") await editor.view(id);
  if (view === "about") about.draw((told = await ask("about").catch(() => told)));
  titled();
}

function titled() {
  const [view] = wanted();
  const title = byId(`${view}-title`).textContent;
  document.title = view === "queue" ? "hvisk" : `${title} – hvisk`;
}

async function begin() {
  told = await ask("about");
  byId("locked").hidden = true;
  const select = byId("spoken-language");
  const names = () => {
    const languages = told.model.languages.length ? told.model.languages : [told.language];
    const name = new Intl.DisplayNames([say.language], { type: "language" });
    const kept = select.value || told.language;
    const options = languages.map((code) => make("option", { value: code, textContent: name.of(code) }));
    select.replaceChildren(...options.sort((a, b) => a.textContent.localeCompare(b.textContent, say.language)));
    select.value = kept;
    byId("spoken").hidden = languages.length < 2;
    byId("written").hidden = !told.model.styles.includes("plain");
  };
  names();
  byId("language").addEventListener("change", names);
  // What the model can do is known once it is loaded, half a second after the page may be there.
  const loaded = async () => {
    told = await ask("about").catch(() => told);
    if (told.model.state === "starting") setTimeout(loaded, LOOK);
    else names();
  };
  if (told.model.state === "starting") setTimeout(loaded, LOOK);
  say.say(byId("limits"), "limits", [told.limits.file_bytes, told.limits.audio_seconds]);
  say.say(byId("kept"), "kept", [told.retention.audio_seconds, told.retention.transcript_seconds, told.retention.forget]);
  queue.begin(told, (state) => (byId("away").hidden = state === "open"));
  addEventListener("hashchange", route);
  await route();
}

// The service is not there yet.
function broken(failure) {
  if (failure.code === "invalid_api_key") return; // the prompt is there
  byId("away").hidden = false;
  setTimeout(() => begin().then(() => (byId("away").hidden = true), broken), 3000);
}

function locked() {
  if (!byId("locked").hidden) return;
  byId("locked").hidden = false;
  for (const name of VIEWS) byId(name).hidden = true;
  byId("token").focus();
}

async function unlock(token) {
  const trouble = byId("token-trouble");
  try {
    await ask("login", { method: "POST", json: { token } });
    byId("token").value = "";
    trouble.hidden = true;
    if (!told) return await begin().catch(broken);
    byId("locked").hidden = true; // what is on the page stays, corrections that are not saved too
    present(wanted()[0]);
  } catch (failure) {
    trouble.hidden = false;
    trouble.textContent = failure.sentence;
    byId("token").focus();
  }
}

function dropping() {
  let depth = 0;
  const files = (event) => event.dataTransfer?.types.includes("Files");
  const over = (by) => (event) => {
    if (!files(event)) return;
    event.preventDefault();
    depth = Math.max(0, depth + by);
    byId("drop").hidden = depth === 0;
  };
  addEventListener("dragenter", over(1));
  addEventListener("dragleave", over(-1));
  addEventListener("dragover", (event) => files(event) && event.preventDefault());
  addEventListener("drop", (event) => {
    if (!files(event)) return;
    event.preventDefault();
    depth = 0;
    byId("drop").hidden = true;
    if (!told || !byId("locked").hidden) return;
    queue.add([...event.dataTransfer.files]);
    if (byId("queue").hidden) location.hash = "";
  });
}

say.begin();
byId("language").value = say.language;
byId("language").addEventListener("change", () => {
  say.speak(byId("language").value);
  titled();
});
for (const part of [record, live, player, find, editor, keys, takeaway]) part.begin();
dropping();
byId("choose").addEventListener("click", () => byId("files").click());
byId("files").addEventListener("change", () => {
  queue.add([...byId("files").files]);
  byId("files").value = "";
});
byId("unlock").addEventListener("submit", (event) => {
  event.preventDefault();
  unlock(byId("token").value.trim());
});
addEventListener("beforeunload", (event) => {
  if (editor.unsaved() || queue.sending() || record.recording() || live.listening()) event.preventDefault();
});
whenLocked(locked);
const token = /^#token=(.+)$/.exec(location.hash);
if (token) {
  history.replaceState(null, "", location.pathname);
  await unlock(decodeURIComponent(token[1]));
} else await begin().catch(broken);
