// What is measured, as bars with their numbers: made once, then shown anew in place.
import { copier, h, remake, say } from "./dom.js";
import { gib, number, percent } from "./format.js";
import { brokenGpu, leasedOf } from "./parts.js";

export const CPU = { label: "CPU", read: ({ cpu_percent: cpu }) => [percent(cpu), cpu / 100, isKnown(cpu)] };
export const RAM = { label: "RAM", read: ({ ram_used_gb: used, ram_total_gb: total }) => ofTotal(used, total, 1) };
export const DISK = { label: "Disk", read: ({ disk_used_gb: used, disk_total_gb: total }) => ofTotal(used, total, 0) };

const isKnown = (value) => value !== null && value !== undefined;
const ofTotal = (used, total, decimals) =>
  [`${number(used, decimals)} of ${gib(total, 0)}`, used / total, isKnown(used) && Boolean(total)];

const copyGauge = copier(() =>
  h("div", { class: "gauge" }, h("span", { class: "label", "data-part": "label" }),
    h("span", { class: "bar", "aria-hidden": "true" }, h("span", { class: "used", "data-part": "used" })),
    h("span", { class: "value", "data-part": "value" })));

/** {root, show(telemetry)}: one bar for each of `kinds`, as CPU and RAM above. */
export function makeGauges(kinds) {
  const gauges = kinds.map(({ label, read }) => {
    const parts = copyGauge();
    say(parts.label, label);
    return { ...parts, read };
  });

  function show(telemetry) {
    for (const { read, used, value } of gauges) {
      const [text, share, known] = read(telemetry);
      say(value, text);
      fillTo(used, known ? share : 0);
    }
  }

  return { root: h("div", { class: "gauges" }, gauges.map(({ root }) => root)), show };
}

const copyGpu = copier(() =>
  h("div", { class: "gpu" },
    h("div", { class: "gpu-name" }, h("span", { class: "label", "data-part": "label" }), " ", h("span", { class: "quiet", "data-part": "model" })),
    h("span", { class: "bar", "aria-hidden": "true" },
      h("span", { class: "used", "data-part": "usedBar" }), h("span", { class: "leased", "data-part": "leasedBar" })),
    h("div", { class: "gpu-numbers" },
      h("span", null, h("i", { class: "key used" }), h("span", { "data-part": "used" })), " ",
      h("span", { "data-part": "leasedNumber" }, h("i", { class: "key leased" }), h("span", { "data-part": "leased" })), " ",
      h("span", null, h("i", { class: "key free" }), h("b", { "data-part": "free" }), h("span", { "data-part": "total" })), " ",
      h("span", { class: "quiet", "data-part": "more" }))));

const MANY = 4;

/** {root, show(machine)}: what of the memory of each GPU is used, leased and free, and how it does. */
export function makeGpus() {
  const lines = h("div", { class: "gpus" });
  const unreadable = h("div", { class: "gpus" });
  const shown = [];

  function show(machine) {
    const { gpu: gpus = [], gpu_unreadable: broken = [] } = machine.telemetry;
    const leased = leasedOf(machine);
    while (shown.length > gpus.length) shown.pop().root.remove();
    lines.classList.toggle("many", gpus.length > MANY);
    gpus.forEach((gpu, at) => {
      if (!shown[at]) lines.append((shown[at] = copyGpu()).root);
      showGpu(shown[at], gpu, leased.get(gpu.uuid) ?? 0);
    });
    remake(unreadable, broken, () => broken.map(brokenGpu));
    unreadable.hidden = broken.length === 0;
    root.hidden = gpus.length + broken.length === 0;
  }

  const root = h("div", { class: "gpus" }, lines, unreadable);
  return { root, show };
}

function showGpu(parts, gpu, leased) {
  const { vram_total_gb: total, vram_used_gb: used, vram_free_gb: free } = gpu;
  const promised = Math.min(leased, free);
  say(parts.label, `GPU ${gpu.index}`);
  say(parts.model, gpu.model ?? "");
  fillTo(parts.usedBar, used / total);
  fillTo(parts.leasedBar, promised / total);
  say(parts.used, `${number(used, 1)} used`);
  parts.leasedNumber.hidden = promised <= 0;
  say(parts.leased, `${number(promised, 1)} leased`);
  say(parts.free, `${number(free - promised, 1)} free`);
  say(parts.total, ` of ${gib(total, 0)}`);
  say(parts.more, gpuText(gpu));
}

/** How busy, how warm and how hungry a GPU is. */
export const gpuText = (gpu) =>
  `${percent(gpu.utilisation)} busy · ${number(gpu.temperature_c)}\u00a0°C · ${number(gpu.power_w)}\u00a0W`;

/** Let a part of a bar take its share, of 1; what it shows stands beside it as text. */
function fillTo(part, share) {
  const width = `${Math.min(100, Math.max(0, (share || 0) * 100))}%`;
  if (part.width !== width) part.style.width = part.width = width;
}
