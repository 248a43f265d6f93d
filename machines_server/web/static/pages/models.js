// The models page: where each model is and where it could be loaded, and where a request would go now.

import { h, labelled, renderIfChanged, renderList, scrollable, setText, tableHead, updateTimes } from "../base/dom.js";
import { ageText, duration, gib, timeElement } from "../base/format.js";
import { serverNow, state } from "../base/live.js";
import { changeUrl, errorText, get, siteUrl, withQuery } from "../base/site.js";
import { makeRouteForm } from "../models/route_form.js";
import { roomiestGpu } from "../shared/machine_facts.js";
import { machineLink, machineList } from "../shared/machine_parts.js";
import { loadStyles } from "../shared/styles.js";

const REFRESH_MS = 30_000;
/** How many machines of a model are listed before the others are folded. */
const FIRST_MACHINES = 3;
const HEADINGS = [
  "Model",
  "In memory",
  "Can be loaded on",
  "Last seen in memory",
  "Time in memory, last 24 h, all machines",
];

await loadStyles("models.css");

export function open(main) {
  const query = new URLSearchParams(location.search);
  const rows = h("tbody");
  const message = h("p", { class: "empty", role: "status" });
  const route = makeRouteForm(query);
  const search = h("input", {
    type: "search",
    name: "q",
    "aria-label": "Search",
    placeholder: "Search…",
    value: query.get("q") ?? "",
    input: filter,
  });
  const table = scrollable(
    "Models",
    { class: "scroll stacked models", hidden: true },
    h("table", null, tableHead(HEADINGS), rows),
  );
  const form = h(
    "form",
    { class: "controls", role: "search", "aria-label": "Filter models", submit: (event) => event.preventDefault() },
    search,
  );
  const heading = h("h2", { id: "where" }, "Where each model is");
  main.append(
    h("h1", null, "Models"),
    route.root,
    h("section", { "aria-labelledby": "where" }, h("div", { class: "where" }, heading, form), message, table),
  );
  let models = null;
  let failure = "";
  let fetchedAt = -Infinity;

  function filter() {
    if (search.value) query.set("q", search.value);
    else query.delete("q");
    changeUrl(withQuery("/models", Object.fromEntries(query)));
    show();
  }

  async function fetchModels() {
    fetchedAt = performance.now();
    try {
      models = (await get("/api/models")).models;
      failure = "";
    } catch (error) {
      failure = errorText(error);
    }
    show();
  }

  function show() {
    const wanted = (models ?? []).filter(({ model }) => model.toLowerCase().includes(search.value.toLowerCase()));
    setText(message, failure || (models ? emptyText(wanted.length, models.length) : "Loading…"));
    if (!models) return;
    table.hidden = wanted.length === 0;
    renderList(rows, wanted, rowKey, modelRow);
    for (const [index, model] of wanted.entries()) showLastLoaded(rows.children[index], model);
    const machines = new Map(state.fleet.machines.map((machine) => [machine.name, machine]));
    for (const place of rows.querySelectorAll("[data-machine]"))
      setText(place, roomText(machines.get(place.dataset.machine)));
    updateTimes(rows, (time) => ageText(time, serverNow()));
  }

  function update(hasChanged) {
    if (hasChanged) {
      route.update();
      if (performance.now() - fetchedAt > REFRESH_MS || models === null) fetchModels();
    }
    show();
  }

  return { update };
}

function emptyText(shown, all) {
  if (shown) return "";
  return all ? "No model matches the search." : "No models: none is declared or on a disk, and none was ever loaded.";
}

const rowKey = ({ model, declared, on_disk: onDisk, loaded }) => JSON.stringify([model, declared, onDisk, loaded]);

/** A model can be loaded where it is declared or on the disk. */
function modelRow({ model, declared, on_disk: onDisk, loaded }) {
  const others = [...new Set([...declared, ...onDisk])].filter((name) => !loaded.includes(name));
  const link = h("a", { href: siteUrl(withQuery("/models", { model })) }, model);
  const count = (names) => names.length > FIRST_MACHINES + 1 && h("p", { class: "quiet" }, `${names.length} machines`);
  const machines = (names) => h("td", null, count(names), machineList(roomiestFirst(names), FIRST_MACHINES, roomPlace));
  const cells = [h("th", { scope: "row" }, link), machines(loaded), machines(others), h("td"), h("td")];
  return labelled(h("tr", null, cells), HEADINGS);
}

/** The place where `show` puts the free VRAM of a machine. */
const roomPlace = (name) => h("span", { class: "quiet", "data-machine": name });

function showLastLoaded({ cells }, { loaded, last_loaded: last, residency_s: residency }) {
  const [, , , lastCell, residencyCell] = cells;
  renderIfChanged(lastCell, loaded.length ? "now" : last, () => {
    if (loaded.length) return "now";
    return last ? [machineLink(last.machine), " ", timeElement(last.at, serverNow())] : "never";
  });
  setText(residencyCell, residency ? duration(residency) : "–");
}

/** The machines with the most free VRAM first, as it was when the row was built. */
function roomiestFirst(names) {
  const room = (machine) => (machine.status === "online" ? (roomiestGpu(machine, state.leases)?.free ?? 0) : -1);
  const rooms = new Map(state.fleet.machines.map((machine) => [machine.name, room(machine)]));
  const roomOf = (name) => rooms.get(name) ?? -2;
  return [...names].sort((one, other) => roomOf(other) - roomOf(one) || one.localeCompare(other));
}

/** How much VRAM is free on one GPU of a machine. */
function roomText(machine) {
  if (!machine) return "";
  if (machine.status !== "online") return machine.status;
  const roomiest = roomiestGpu(machine, state.leases);
  if (roomiest) return `${gib(roomiest.free)} free`;
  return machine.sampled_at && !machine.telemetry.gpu_unreadable ? "no GPU" : "VRAM unknown";
}
