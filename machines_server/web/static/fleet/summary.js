// The strip above the machines: how many are in which status, where VRAM is free, what is loaded.

import { h, renderList, setText } from "../base/dom.js";
import { gib, number } from "../base/format.js";
import { STATUSES } from "../base/live.js";
import { knowsLoadedModels, leasedVram, roomiestGpu } from "../shared/machine_facts.js";
import { bar, machineLink, setShare, statusBadge } from "../shared/machine_parts.js";

const MAX_GPUS = 3;
const MAX_MODELS = 8; // as many as fit on the widest screen; others show three

/** {root, show(machines, leases, status)}: `onChoose(filter, value)` is called for clicks; `status` is the chosen one. */
export function makeSummary(onChoose) {
  const statuses = makeStatuses(onChoose);
  const vram = makeVram();
  const best = h("ul", { class: "best", "aria-label": "Most free VRAM on one GPU" });
  const models = makeModels(onChoose);
  const root = h(
    "section",
    { class: "summary", "aria-label": "Summary", "data-tab-group": "filter" },
    cell("Machines", statuses.root),
    cell("VRAM free", vram.root),
    cell("Most free on one GPU", best),
    cell("Models in memory", models.root),
  );

  function show(machines, leases, chosenStatus) {
    statuses.show(machines, chosenStatus);
    vram.show(machines, leases);
    showBest(mostFreeGpus(machines, leases));
    models.show(machines);
  }

  function showBest(gpus) {
    const names = gpus.length ? gpus.map(({ name }) => name) : [null];
    renderList(best, names, (name) => name, bestLine);
    for (const [index, { free, gpu }] of gpus.entries()) {
      setText(best.children[index].firstChild, gib(free));
      setText(best.children[index].lastChild, ` GPU ${gpu}`);
    }
  }

  return { root, show };
}

const bestLine = (name) =>
  name === null
    ? h("li", { class: "quiet" }, "No GPU with free VRAM")
    : h("li", null, h("b"), " ", machineLink(name), h("span", { class: "quiet" }));

const cell = (title, ...children) => h("div", null, h("h2", null, title), ...children);

/** The buttons stay the same elements, so that none loses the focus. */
function makeStatuses(onChoose) {
  const counts = STATUSES.map(() => h("b"));
  const buttons = STATUSES.map((status, index) => statusButton(status, counts[index], onChoose));
  const root = h("div", { class: "counts", role: "group", "aria-label": "Machines by status" }, buttons);

  function show(machines, chosenStatus) {
    for (const [index, status] of STATUSES.entries()) {
      const count = machines.filter((machine) => machine.status === status).length;
      setText(counts[index], String(count));
      buttons[index].hidden = count === 0 && status !== "online" && status !== chosenStatus;
      buttons[index].ariaPressed = String(status === chosenStatus);
    }
  }

  return { root, show };
}

function statusButton(status, count, onChoose) {
  const toggle = ({ currentTarget }) => onChoose("status", currentTarget.ariaPressed === "true" ? "" : status);
  return h("button", { type: "button", click: toggle }, count, " ", statusBadge(status));
}

function makeVram() {
  const free = h("b", { class: "large" });
  const total = h("span", { class: "quiet" });
  const shares = bar([
    ["used", 0],
    ["leased", 0],
  ]);
  const parts = h("span", { class: "quiet" });
  const root = h("div", null, h("p", { class: "figure" }, free, total), shares, h("p", null, parts));

  function show(machines, leases) {
    const sums = vramSums(machines, leases);
    setText(free, sums.total ? gib(sums.free, 0) : "–");
    setText(total, sums.total ? ` of ${gib(sums.total, 0)}` : "");
    setShare(shares.children[0], sums.used / sums.total);
    setShare(shares.children[1], sums.leased / sums.total);
    setText(parts, vramText(sums));
  }

  return { root, show };
}

function makeModels(onChoose) {
  const text = h("p");
  const names = h("div", { class: "counts", role: "group", "aria-label": "Models in memory" });
  const root = h("div", null, text, names);
  const button = (name) =>
    h("button", { type: "button", class: "model", click: () => onChoose("model", name) }, name, " ", h("b"));

  function show(machines) {
    const loaded = machines.flatMap((machine) => machine.loaded_models);
    const counted = countByName(loaded);
    const shown = counted.slice(0, MAX_MODELS);
    const shownNames = shown.map(([name]) => name);
    renderList(names, shownNames, (name) => name, button);
    for (const [index, [, count]] of shown.entries()) setText(names.children[index].lastChild, `×${count}`);
    const unknown = machines.filter((machine) => !knowsLoadedModels(machine)).length;
    setText(text, loadedText(loaded.length, counted.length, unknown));
  }

  return { root, show };
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

/** GiB of VRAM of all machines that are online: {total, used, leased, free}, where `free` is not leased either. */
export function vramSums(machines, leases) {
  const sums = { total: 0, used: 0, leased: 0, free: 0 };
  for (const machine of machines.filter(({ status }) => status === "online")) {
    const leased = leasedVram(machine, leases);
    for (const { uuid, vram_total_gb: total, vram_used_gb: used, vram_free_gb: free } of machine.telemetry.gpu ?? []) {
      const leasedFree = Math.min(leased.get(uuid) ?? 0, free);
      sums.total += total;
      sums.used += used;
      sums.leased += leasedFree;
      sums.free += free - leasedFree;
    }
  }
  return sums;
}

/** How much of all VRAM is not free, in words. */
export function vramText({ total, used, leased }) {
  if (!total) return "No GPUs online";
  return `${number(used)} used${leased ? `, ${number(leased)} leased` : ""}`;
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
