// One machine of the fleet as a row of the dense table, on one line, with its card below when it is unfolded.

import { h, setText, setTitle, template } from "../base/dom.js";
import { isKnown, number, oneDecimal } from "../base/format.js";
import { state } from "../base/live.js";
import { diskShare, fixText, highestOfGpus, roomiestGpu } from "../shared/machine_facts.js";
import { machineLink, setShare, showSince, showStatus } from "../shared/machine_parts.js";
import { machineProblems } from "../shared/problems.js";
import { isHighShare, isHot, MARK, marked, ramShare } from "../shared/thresholds.js";
import { availabilityShare, outagesText } from "./availability.js";
import { makeCard } from "./cards.js";
import { vramSums } from "./summary.js";

/** [heading, sort order that a click on it chooses, class, tooltip] of each column; narrow screens leave out some. */
export const COLUMNS = [
  ["Machine", "name", "name"],
  ["Status", "status", "state"],
  ["Free, GiB", "vram", "number", "Most free VRAM on one GPU"],
  ["VRAM", null, "share", "VRAM of all GPUs: used and leased"],
  ["Used, GiB", null, "number wide", "Used of total VRAM, all GPUs"],
  ["GPU", "gpu", "number load percent", "Busiest GPU"],
  ["Temp.", "heat", "number load", "Hottest GPU"],
  ["CPU", "cpu", "number load percent"],
  ["RAM", "ram", "number load percent"],
  ["Disk", "disk", "number load percent"],
  ["Up 24 h", null, "number load", "Share of the last 24 hours in which the machine answered"],
  ["Loaded models", "models", "held"],
  ["Role", "role", "role"],
];

const cell = (name, index, ...children) => h("td", { "data-part": name, class: COLUMNS[index][2] }, ...children);
const part = (name, attributes) => h("span", { "data-part": name, ...attributes });

const rowTemplate = template(() =>
  h(
    "tbody",
    { class: "machine-row" },
    h(
      "tr",
      { "data-part": "row" },
      h(
        "th",
        { scope: "row", class: "name" },
        h("button", { type: "button", class: "unfold", "data-part": "button", "aria-expanded": "false" }),
        h("a", { "data-part": "link" }),
      ),
      h("td", { class: "state" }, part("badge"), " ", part("since", { class: "quiet since" }), " ", part("mark")),
      cell("free", 2),
      h("td", { class: "share" }, h("span", { class: "bar", "aria-hidden": "true" }, part("used"), part("leased"))),
      cell("vram", 4),
      cell("busy", 5),
      cell("temperature", 6),
      cell("cpu", 7),
      cell("ram", 8),
      cell("disk", 9),
      cell("uptime", 10),
      cell("models", 11),
      cell("role", 12),
    ),
  ),
);

/** The same as `makeCard`, but a row of a table: a <tbody>, which has a second row while it is unfolded. */
export function makeRow(first) {
  const parts = rowTemplate();
  const { root, row, button, badge, since, mark, models } = parts;
  const link = machineLink(first.name);
  const reason = h("span");
  parts.link.replaceWith(link);
  parts.used.className = "used";
  parts.leased.className = "leased";
  mark.className = "high";
  mark.role = "img";
  setText(mark, MARK);
  button.ariaLabel = `Details of ${first.name}`;
  row.addEventListener("click", toggle);
  let machine = first;
  let details = null;

  function toggle({ target }) {
    if (target.closest("a") || getSelection().toString()) return;
    button.ariaExpanded = String(details === null);
    if (details) return fold();
    details = makeCard(machine);
    root.append(h("tr", { class: "details" }, h("td", { colspan: COLUMNS.length }, h("ul", null, details.root))));
    details.show(machine);
    details.update();
  }

  function fold() {
    details.close();
    details = null;
    root.lastChild.remove();
  }

  function show(now) {
    machine = now;
    row.className = `is-${machine.status}`;
    showStatus(badge, reason, machine);
    const problems = machineProblems(machine);
    mark.hidden = problems.length === 0;
    mark.ariaLabel = problems.join("; ");
    setTitle(mark, problems.join("\n"));
    const measured = machine.status === "offline" ? { ...machine, telemetry: {}, sampled_at: null } : machine;
    showVram(parts, measured);
    showHost(parts, measured);
    const text = machine.status === "online" ? machine.loaded_models.join(", ") : reason.textContent;
    setText(models, text);
    setTitle(models, text === reason.textContent ? `${text}\n${fixText(machine)}` : text);
    setText(parts.role, machine.role);
    details?.show(machine);
  }

  function update() {
    showSince(since, machine, "");
    setText(parts.uptime, availabilityShare(machine.name));
    setTitle(parts.uptime, outagesText(machine.name));
    details?.update();
  }

  return {
    root,
    show,
    update,
    sparkline: () => details?.sparkline() ?? null,
    close: () => details?.close(),
  };
}

function showVram({ free, used, leased, vram, busy, temperature }, machine) {
  const { gpu: gpus = [] } = machine.telemetry;
  const sums = vramSums([{ ...machine, status: "online" }], state.leases);
  const roomiest = roomiestGpu(machine, state.leases);
  used.parentElement.hidden = !sums.total;
  setShare(used, sums.used / sums.total);
  setShare(leased, sums.leased / sums.total);
  setText(free, roomiest ? oneDecimal(roomiest.free) : "");
  showFigure(vram, sums.total ? `${number(sums.used)}/${number(sums.total)}` : "", isHighShare(sums.used / sums.total));
  showPercent(busy, gpus.length > 0, highestOfGpus(machine, "utilisation"), false);
  const celsius = highestOfGpus(machine, "temperature_c");
  showFigure(temperature, gpus.length ? withUnit(celsius, "°C") : "", isHot(celsius));
}

function showHost({ cpu, ram, disk }, { telemetry, sampled_at: sampledAt }) {
  const share = (value) => (Number.isNaN(value) ? null : value * 100);
  const shown = [
    [cpu, telemetry.cpu_percent ?? null, false],
    [ram, share(ramShare(telemetry)), isHighShare(ramShare(telemetry))],
    [disk, share(diskShare(telemetry)), isHighShare(diskShare(telemetry))],
  ];
  for (const [element, percents, isHigh] of shown) showPercent(element, sampledAt !== null, percents, isHigh);
}

/** Show a percentage with the bar that the style sheet draws below it; nothing unless it `isMeasured`. */
function showPercent(element, isMeasured, percents, isHigh) {
  showFigure(element, isMeasured ? withUnit(percents, "%") : "", isHigh);
  element.style.setProperty("--share", isMeasured ? (percents ?? 0) / 100 : 0);
}

function showFigure(element, text, isHigh) {
  setText(element, marked(text, isHigh));
  element.classList.toggle("high", isHigh);
}

const withUnit = (value, unit) => (isKnown(value) ? `${number(value)}\u00a0${unit}` : number(value));
