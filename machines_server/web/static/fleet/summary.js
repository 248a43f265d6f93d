// The summary above the machines: how many are in which status, where VRAM is free, what is loaded.

import { h, renderIfChanged, setText } from "../base/dom.js";
import { gib, number } from "../base/format.js";
import { STATUSES } from "../base/live.js";
import { knowsLoadedModels, roomiestGpu } from "../shared/machine_facts.js";
import { machineLink, statusBadge } from "../shared/machine_parts.js";

const MAX_GPUS = 3;
const MAX_MODELS = 6;

/** {root, show(machines, leases, status)}: `onChoose(filter, value)` is called for clicks; `status` is the chosen one. */
export function makeSummary(onChoose) {
  const counts = STATUSES.map(() => h("b"));
  const buttons = STATUSES.map((status, index) => statusButton(status, counts[index], onChoose));
  const vram = h("p");
  const best = h("ul", { class: "best", "aria-label": "Most free VRAM on one GPU" });
  const loaded = h("p");
  const models = h("div", { class: "counts", role: "group", "aria-label": "Models in memory" });
  const statuses = h("div", { class: "counts", role: "group", "aria-label": "Machines by status" }, buttons);
  const root = h("div", { class: "summary" }, statuses, vram, best, loaded, models);

  function show(machines, leases, chosenStatus) {
    showStatuses(machines, chosenStatus);
    showVram(machines, leases);
    showModels(machines);
  }

  // The buttons stay the same elements, so that none loses the focus.
  function showStatuses(machines, chosenStatus) {
    for (const [index, status] of STATUSES.entries()) {
      const count = machines.filter((machine) => machine.status === status).length;
      setText(counts[index], String(count));
      buttons[index].hidden = count === 0 && status !== "online" && status !== chosenStatus;
      buttons[index].ariaPressed = String(status === chosenStatus);
    }
  }

  function showVram(machines, leases) {
    const gpus = mostFreeGpus(machines, leases);
    setText(vram, gpus.length ? freeVramText(machines) : "No GPU is known to have free VRAM");
    const names = gpus.map(({ name }) => name);
    renderIfChanged(best, names, () =>
      names.map((name) => h("li", null, h("b"), " on ", machineLink(name), h("span"))),
    );
    for (const [index, { free, gpu }] of gpus.entries()) {
      setText(best.children[index].firstChild, gib(free));
      setText(best.children[index].lastChild, ` GPU ${gpu}`);
    }
  }

  function showModels(machines) {
    const names = machines.flatMap((machine) => machine.loaded_models);
    const counted = countByName(names);
    const shown = counted.slice(0, MAX_MODELS);
    const button = (name) =>
      h("button", { type: "button", class: "model", click: () => onChoose("model", name) }, name, " ", h("b"));
    renderIfChanged(
      models,
      shown.map(([name]) => name),
      () => shown.map(([name]) => button(name)),
    );
    for (const [index, [, count]] of shown.entries()) setText(models.children[index].lastChild, `×${count}`);
    const unknown = machines.filter((machine) => !knowsLoadedModels(machine)).length;
    setText(loaded, loadedText(names.length, counted.length, unknown));
  }

  return { root, show };
}

function statusButton(status, count, onChoose) {
  const toggle = ({ currentTarget }) => onChoose("status", currentTarget.ariaPressed === "true" ? "" : status);
  return h("button", { type: "button", click: toggle }, count, " ", statusBadge(status));
}

/** The machines with the most free VRAM on one GPU, most first: {name, gpu, free}. */
export function mostFreeGpus(machines, leases) {
  const found = machines
    .filter(({ status }) => status === "online")
    .map((machine) => ({ name: machine.name, roomiest: roomiestGpu(machine, leases) }))
    .filter(({ roomiest }) => roomiest)
    .map(({ name, roomiest }) => ({ name, gpu: roomiest.gpu.index, free: roomiest.free }));
  return found.sort((one, other) => other.free - one.free).slice(0, MAX_GPUS);
}

/** How much VRAM is free on all machines that are online. */
export function freeVramText(machines) {
  const gpus = machines.flatMap((machine) => (machine.status === "online" && machine.telemetry.gpu) || []);
  const sum = (key) => gpus.reduce((total, gpu) => total + gpu[key], 0);
  return `VRAM: ${number(sum("vram_free_gb"))} of ${gib(sum("vram_total_gb"), 0)} free; most on one GPU:`;
}

/** How many models are loaded, and on how many machines that is unknown. */
export function loadedText(total, different, unknown) {
  const text = `${total} in memory, ${different} different ${different === 1 ? "model" : "models"}`;
  return unknown ? `${text}; ${unknown} ${unknown === 1 ? "machine" : "machines"} unknown` : text;
}

/** [[name, count], ...], the most frequent first. */
export function countByName(names) {
  const counts = new Map();
  for (const name of names) counts.set(name, (counts.get(name) ?? 0) + 1);
  return [...counts].sort(([one, many], [other, more]) => more - many || one.localeCompare(other));
}
