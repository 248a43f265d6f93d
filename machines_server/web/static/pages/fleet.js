// The fleet page: who is online, what is loaded where, where VRAM is free, and the latest events.

import { afterPaint, copyButton, h, renderIfChanged, renderList, setText, updateTimes } from "../base/dom.js";
import { ageText } from "../base/format.js";
import { serverNow, state } from "../base/live.js";
import { get, replaceUrl, siteUrl, withQuery } from "../base/site.js";
import { filterMachines, makeFilterForm, readSort, sortAfterClick } from "../fleet/filter.js";
import { makeMachineList } from "../fleet/machine_list.js";
import { makeSummary } from "../fleet/summary.js";
import { eventLine } from "../shared/machine_parts.js";

const EVENTS = 5;

export function open(main) {
  const query = new URLSearchParams(location.search);
  const summary = makeSummary(choose);
  const form = makeFilterForm(query, choose);
  const list = makeMachineList((name) => choose("sort", sortAfterClick(query, name)));
  const events = h("ol", { class: "events" });
  const count = h("p", { class: "quiet", role: "status" });
  const latest = h(
    "section",
    { class: "latest", "aria-labelledby": "latest" },
    h("h2", { id: "latest" }, h("a", { href: siteUrl("/events") }, "Recent events")),
    events,
  );
  const overview = h("div", { class: "overview" }, summary.root, latest);
  const fleet = h("div", null, overview, form.root, count, list.root);
  const firstSteps = h("div");
  main.append(h("h1", { class: "unseen" }, "Fleet"), fleet, firstSteps);
  let requests = 0;

  /** Put one choice into the URL and show what it says. */
  function choose(name, value) {
    if (value) query.set(name, value);
    else query.delete(name);
    replaceUrl(withQuery("/", Object.fromEntries(query)));
    if (state.fleet) show();
    updateAges();
  }

  function update(hasChanged) {
    if (hasChanged) {
      show();
      afterPaint(fetchEvents);
    }
    updateAges();
  }

  function updateAges() {
    updateTimes(events, (time) => ageText(time, serverNow()));
    list.update();
  }

  function show() {
    const { machines } = state.fleet;
    fleet.hidden = machines.length === 0;
    renderIfChanged(firstSteps, machines.length === 0, () => (machines.length ? [] : welcome()));
    if (!machines.length) return;
    summary.show(machines, state.leases, query.get("status"));
    form.update(machines);
    const wanted = filterMachines(machines, query, state.leases);
    setText(count, countText(wanted.length, machines.length));
    list.show(wanted, query.get("view") === "table", readSort(query));
  }

  async function fetchEvents() {
    requests += 1;
    const request = requests;
    try {
      const answer = await get(withQuery("/api/events", { limit: EVENTS }));
      if (request !== requests) return;
      renderList(
        events,
        answer.events,
        ({ id }) => id,
        (event) => eventLine(event, serverNow()),
      );
    } catch (error) {
      console.info("no events:", error.message);
    }
  }

  return { update, close: list.close };
}

function countText(shown, all) {
  if (shown === all) return "";
  return shown ? `${shown} of ${all} machines` : "No machine matches the filter.";
}

const FILE = `# machines/workstation.yaml
name: workstation
role: gpu-host
hardware:
  gpu:
    - model: 24GB consumer GPU
      vram_gb: 24
network:
  hostname: workstation.lan
models:
  - llama3.1:70b
tags: [primary, gpu]
`;
const COPY_FILE =
  "Copy this file into the folder of machine files, with the name and address of your machine. One file per machine.";
const runSidecar = () => [
  "On that machine, run ",
  h("code", null, "make run-sidecar"),
  " in a checkout of machines-server, and let Ollama listen with ",
  h("code", null, "OLLAMA_HOST=0.0.0.0:11434"),
  ".",
];
const WAIT =
  "Stay on this page: the machine appears within seconds, without a restart. Mistakes in a file are shown here.";

/** What a fleet without machines shows: how to add one. */
function welcome() {
  const file = h("pre", { tabindex: "0", "aria-label": "A machine file" }, FILE);
  const copy = copyButton("Copy the file", () => FILE);
  return h(
    "section",
    { class: "welcome", "aria-labelledby": "welcome" },
    h("h2", { id: "welcome" }, "No machines yet: add one in three steps"),
    h(
      "ol",
      null,
      h("li", null, h("p", null, COPY_FILE), file, copy),
      h("li", null, h("p", null, runSidecar())),
      h("li", null, h("p", null, WAIT)),
    ),
  );
}
