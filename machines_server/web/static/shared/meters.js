// Measurements as bars with their numbers: built once, then updated in place.

import { h, renderIfChanged, setText, template } from "../base/dom.js";
import { gib, isKnown, number, percent } from "../base/format.js";
import { state } from "../base/live.js";
import { diskShare, leasedVram } from "./machine_facts.js";
import { setShare, unreadableGpu } from "./machine_parts.js";
import { isHighShare, isHot, marked, ramShare } from "./thresholds.js";

const TWO_COLUMNS_ABOVE = 4;

/**
 * Kinds of gauges: `read` turns telemetry into a text and the share of the bar, NaN if unknown; a busy CPU is no
 * reason to look, so only some can be high.
 */
export const CPU = {
  label: "CPU",
  canBeHigh: false,
  read: ({ cpu_percent: cpu }) => [percent(cpu), isKnown(cpu) ? cpu / 100 : NaN],
};
export const RAM = {
  label: "RAM",
  canBeHigh: true,
  read: (telemetry) => [ofTotal(telemetry.ram_used_gb, telemetry.ram_total_gb, 1), ramShare(telemetry)],
};
export const DISK = {
  label: "Disk",
  canBeHigh: true,
  read: (telemetry) => {
    const { disk_used_gb: used, disk_total_gb: total } = telemetry;
    return [ofTotal(used, total, 0), isKnown(used) ? diskShare(telemetry) : NaN];
  },
};

const ofTotal = (used, total, decimals) => `${number(used, decimals)} of ${gib(total, 0)}`;

const gaugeTemplate = template(() =>
  h(
    "div",
    { class: "gauge" },
    h("span", { class: "label", "data-part": "label" }),
    h("span", { class: "bar", "aria-hidden": "true" }, h("span", { class: "used", "data-part": "used" })),
    h("span", { class: "value", "data-part": "value" }),
  ),
);

/** {root, show(telemetry)}: one gauge for each of `kinds`, such as CPU and RAM. */
export function makeGauges(kinds) {
  const gauges = kinds.map((kind) => {
    const parts = gaugeTemplate();
    setText(parts.label, kind.label);
    return { ...parts, kind };
  });

  function show(telemetry) {
    for (const { root, kind, used, value } of gauges) {
      const [text, share] = kind.read(telemetry);
      const isHigh = kind.canBeHigh && isHighShare(share);
      root.classList.toggle("high", isHigh);
      setText(value, marked(text, isHigh));
      setShare(used, share);
    }
  }

  return { root: h("div", { class: "gauges" }, ...gauges.map(({ root }) => root)), show };
}

const part = (name, attributes, ...children) => h("span", { "data-part": name, ...attributes }, ...children);
const legendKey = (name) => h("i", { class: `key ${name}` });

const gpuTemplate = template(() => {
  const bars = [part("usedBar", { class: "used" }), part("leasedBar", { class: "leased" })];
  return h(
    "div",
    { class: "gpu" },
    h("div", { class: "gpu-name" }, part("label", { class: "label" }), " ", part("model", { class: "quiet" })),
    h("span", { class: "bar", "aria-hidden": "true" }, bars),
    h(
      "div",
      { class: "gpu-numbers" },
      h("span", null, legendKey("used"), part("used", { class: "used-number" })),
      " ",
      part("leasedNumber", null, legendKey("leased"), part("leased")),
      " ",
      h("span", null, legendKey("free"), h("b", { "data-part": "free" }), part("total")),
      " ",
      part("load", { class: "quiet" }),
    ),
  );
});

/** {root, show(machine)}: the used, leased and free memory of each GPU, and its load. */
export function makeGpus() {
  const readable = h("div", { class: "gpus" });
  const unreadable = h("div", { class: "gpus" });
  const root = h("div", { class: "gpus" }, readable, unreadable);
  const shown = [];

  function show(machine) {
    const { gpu: gpus = [], gpu_unreadable: broken = [] } = machine.telemetry;
    const leased = leasedVram(machine, state.leases);
    while (shown.length > gpus.length) shown.pop().root.remove();
    readable.classList.toggle("many", gpus.length > TWO_COLUMNS_ABOVE);
    for (const [place, gpu] of gpus.entries()) {
      if (!shown[place]) {
        shown[place] = gpuTemplate();
        readable.append(shown[place].root);
      }
      showGpu(shown[place], gpu, leased.get(gpu.uuid) ?? 0);
    }
    renderIfChanged(unreadable, broken, () => broken.map(unreadableGpu));
    unreadable.hidden = broken.length === 0;
    root.hidden = gpus.length + broken.length === 0;
  }

  return { root, show };
}

function showGpu(parts, gpu, leased) {
  const { vram_total_gb: total, vram_used_gb: used, vram_free_gb: free } = gpu;
  const leasedFree = Math.min(leased, free);
  setText(parts.label, `GPU ${gpu.index}`);
  setText(parts.model, gpu.model ?? "");
  const isHigh = isHighShare(used / total);
  parts.root.classList.toggle("high", isHigh);
  setShare(parts.usedBar, used / total);
  setShare(parts.leasedBar, leasedFree / total);
  setText(parts.used, marked(`${number(used, 1)} used`, isHigh));
  parts.leasedNumber.hidden = leasedFree <= 0;
  setText(parts.leased, `${number(leasedFree, 1)} leased`);
  setText(parts.free, `${number(free - leasedFree, 1)} free`);
  setText(parts.total, ` of ${gib(total, 0)}`);
  setText(parts.load, gpuLoadText(gpu));
  parts.load.classList.toggle("hot", isHot(gpu.temperature_c));
}

/** The utilisation, temperature and power of a GPU. */
export const gpuLoadText = (gpu) =>
  [
    `${percent(gpu.utilisation)} busy`,
    marked(`${number(gpu.temperature_c)}\u00a0°C`, isHot(gpu.temperature_c)),
    `${number(gpu.power_w)}\u00a0W`,
  ].join(" · ");
