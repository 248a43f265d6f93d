// The page of one machine: its present state, its history and its file.

import { copyButton, h, setText } from "../base/dom.js";
import { state } from "../base/live.js";
import { errorText, getText, machineApi, siteUrl } from "../base/site.js";
import { makeHistory } from "../machine/history.js";
import { brokenFileText, makePresent } from "../machine/present.js";
import { loadStyles } from "../shared/styles.js";

/** The keys that the server adds to what the file declares. */
const LIVE_KEYS = new Set([
  "status",
  "status_reason",
  "sampled_at",
  "last_seen",
  "telemetry",
  "loaded_models",
  "ollama",
]);

await loadStyles("past.css", "machine.css");

export function open(main, name) {
  const present = makePresent();
  const history = makeHistory(name, find, showNoSuchMachine);
  const file = makeMachineFile();
  const removed = h("header", { hidden: true }, h("h1", null, name), removedText());
  const parts = [removed, present.head, present.body, history.root, file.root];
  const page = h("div", { class: "machine" }, parts);
  let isUnknown = false;
  main.append(page);

  /** The live state of the machine, or null. Names differ in more than their case. */
  function find() {
    const wanted = name.toLowerCase();
    return state.fleet?.machines.find((machine) => machine.name.toLowerCase() === wanted) ?? null;
  }

  function showNoSuchMachine() {
    isUnknown = true;
    page.replaceChildren(h("h1", null, "No such machine"), noSuchMachineText(name));
  }

  function update(hasChanged) {
    if (!state.fleet) return;
    const machine = find();
    if (isUnknown && !machine) return;
    if (isUnknown) page.replaceChildren(...parts);
    isUnknown = false;
    removed.hidden = machine !== null;
    present.head.hidden = present.body.hidden = machine === null;
    if (machine && hasChanged) present.show(machine);
    if (machine) present.update();
    history.update();
    file.show(machine);
  }

  return { update, close: history.close };
}

const fleetLink = () => h("a", { href: siteUrl("/") }, "See the fleet");

const removedText = () =>
  h("p", { class: "reason" }, "This machine is no longer declared. Its history is kept. ", fleetLink());

const noSuchMachineText = (name) =>
  h("p", null, "There is no machine named ", h("b", null, name), ", and there never was. ", fleetLink());

/** {root, show(machine)}: fetches the file when what it declares has changed; null hides it. */
function makeMachineFile() {
  const text = h("pre", { tabindex: "0", "aria-labelledby": "file" });
  const fileName = h("code");
  const message = h("p", { class: "empty", role: "status" });
  const problem = h("p", { class: "reason broken-file", role: "status" });
  const copy = copyButton("Copy", () => text.textContent);
  const root = h(
    "section",
    { class: "declared", "aria-labelledby": "file", hidden: true },
    h("h2", { id: "file" }, "Config in effect"),
    problem,
    h("p", { class: "about" }, h("span", null, "As loaded from ", fileName), copy),
    message,
    text,
  );
  let shown = null;
  let requests = 0;

  async function show(machine) {
    root.hidden = !machine;
    setText(problem, machine ? brokenFileText(machine, state.fleet.errors) : "");
    const key = JSON.stringify(Object.entries(machine ?? {}).filter(([name]) => !LIVE_KEYS.has(name)));
    if (!machine || key === shown) return;
    shown = key;
    requests += 1;
    const request = requests;
    setText(fileName, machine._config_file);
    try {
      const content = await getText(machineApi(machine.name, "/file"));
      if (request !== requests) return;
      setText(text, content);
      setText(message, "");
    } catch (error) {
      if (request !== requests) return;
      shown = null; // so that it is fetched again
      setText(message, errorText(error));
    }
    copy.hidden = text.hidden = text.textContent === "";
  }

  return { root, show };
}
