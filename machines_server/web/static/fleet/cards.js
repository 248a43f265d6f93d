// One machine of the fleet, as a card or as a row of the dense table.

import { h, renderIfChanged, setText, template } from "../base/dom.js";
import { gib, number, percent } from "../base/format.js";
import { state } from "../base/live.js";
import { hintText, knowsLoadedModels, leasedVram } from "../shared/machine_facts.js";
import {
  bar,
  machineLink,
  showAgeOfValues,
  showModelChips,
  showSince,
  showStatus,
  tagChips,
  unreadableGpu,
  updateModelChips,
} from "../shared/machine_parts.js";
import { CPU, gpuLoadText, makeGauges, makeGpus, RAM } from "../shared/meters.js";
import { makeSparkline, setHasHistory } from "./sparkline.js";

const part = (tag, name, attributes, ...children) => h(tag, { "data-part": name, ...attributes }, ...children);
const legendKey = (name) => h("i", { class: `key ${name}` });

const cardTemplate = template(() =>
  h(
    "li",
    { class: "card" },
    part("h2", "title"),
    h("p", { class: "state" }, part("span", "badge"), " ", part("span", "since", { class: "quiet since" })),
    part("p", "about", { class: "about" }),
    part("p", "reason", { class: "reason" }),
    part("p", "hint", { class: "reason quiet" }),
    part("p", "age", { class: "old" }),
    part("div", "models"),
    h(
      "p",
      { class: "legend quiet", "aria-hidden": "true" },
      ["last hour: ", legendKey("cpu"), "CPU "],
      part("span", "vram", null, legendKey("vram"), "VRAM"),
    ),
  ),
);

/** {root, sparkline, show(machine), update()}: `show` takes a new state, `update` shows what time alone changes. */
export function makeCard(first) {
  const { root, title, badge, since, about, reason, hint, age, models, vram } = cardTemplate();
  const gauges = makeGauges([CPU, RAM]);
  const gpus = makeGpus();
  const sparkline = makeSparkline(first.name, root);
  title.append(machineLink(first.name));
  models.before(gauges.root, gpus.root);
  models.after(sparkline);
  let machine = first;

  function show(now) {
    machine = now;
    root.className = `card is-${machine.status}`;
    setHasHistory(sparkline, machine.last_seen !== null);
    showStatus(badge, reason, machine);
    renderIfChanged(about, [machine.role, machine.tags], () => [h("span", null, machine.role), ...tagChips(machine)]);
    setText(hint, hintText(machine));
    gauges.root.hidden = machine.sampled_at === null;
    gauges.show(machine.telemetry);
    gpus.show(machine);
    showModelChips(models, machine, null);
    vram.hidden = !machine.telemetry.gpu;
  }

  function update() {
    showSince(since, machine);
    showAgeOfValues(age, machine);
    updateModelChips(models, machine);
  }

  return { root, sparkline, show, update };
}

/** [heading, sort order that a click on it chooses, if any]. */
export const COLUMNS = [
  ["Machine", "name"],
  ["Status", "status"],
  ["VRAM", "vram"],
  ["Loaded models", "models"],
  ["CPU", "cpu"],
  ["RAM", "ram"],
  ["Role", "role"],
  ["Last hour", null],
];

/** The same as `makeCard`, but a table row. */
export function makeRow(first) {
  const badge = h("span");
  const since = h("span", { class: "quiet since" });
  const age = h("p", { class: "old" });
  const reason = h("p", { class: "reason" });
  const vram = h("td");
  const models = h("td", { class: "held" });
  const cpu = h("td", { class: "figure" });
  const ram = h("td", { class: "figure" });
  const role = h("td", { class: "short" });
  const last = h("td");
  const name = h("th", { scope: "row" }, machineLink(first.name));
  const status = h("td", { class: "state" }, badge, " ", since, age, reason);
  const root = h("tr", null, name, status, vram, models, cpu, ram, role, last);
  const sparkline = makeSparkline(first.name, root);
  last.append(sparkline);
  let machine = first;

  function show(now) {
    machine = now;
    const { telemetry } = machine;
    root.className = `is-${machine.status}`;
    setHasHistory(sparkline, machine.last_seen !== null);
    showStatus(badge, reason, machine);
    reason.title = hintText(machine);
    renderIfChanged(role, [machine.role, machine.tags], () => [
      h("span", null, machine.role, " "),
      ...tagChips(machine),
    ]);
    setText(cpu, percent(telemetry.cpu_percent));
    setText(ram, `${number(telemetry.ram_used_gb, 1)} of ${gib(telemetry.ram_total_gb, 0)}`);
    const { gpu: gpus = [], gpu_unreadable: broken = [] } = telemetry;
    const leased = leasedVram(machine, state.leases);
    renderIfChanged(vram, [gpus, broken, [...leased]], () => [
      ...gpus.map((gpu) => denseGpu(gpu, leased.get(gpu.uuid) ?? 0)),
      ...broken.map(unreadableGpu),
    ]);
    showModelChips(models, machine, knowsLoadedModels(machine) ? null : "unknown");
  }

  function update() {
    showSince(since, machine);
    showAgeOfValues(age, machine);
    updateModelChips(models, machine);
  }

  return { root, sparkline, show, update };
}

function denseGpu(gpu, leased) {
  const { index, vram_total_gb: total, vram_used_gb: used, vram_free_gb: free } = gpu;
  const leasedFree = Math.min(leased, free);
  const parts = [`${number(free - leasedFree, 1)} free of ${gib(total, 0)}`];
  if (leasedFree) parts.push(`${number(leasedFree, 1)} leased`);
  const shares = [
    ["used", used / total],
    ["leased", leasedFree / total],
  ];
  return h(
    "div",
    { class: "dense" },
    bar(shares),
    h("span", null, `GPU ${index}: ${parts.join(", ")}`),
    h("span", { class: "quiet more", title: gpu.model ?? "" }, `${number(used, 1)} used · ${gpuLoadText(gpu)}`),
  );
}
