// One machine of the fleet as a card.

import { h, renderIfChanged, setText, setTitle, template } from "../base/dom.js";
import { fixText } from "../shared/machine_facts.js";
import {
  machineLink,
  showAgeOfValues,
  showModelChips,
  showSince,
  showStatus,
  tagChips,
  updateModelChips,
  withCode,
} from "../shared/machine_parts.js";
import { CPU, makeGauges, makeGpus, RAM } from "../shared/meters.js";
import { availabilityShare, outagesText } from "./availability.js";
import { forgetSparkline, makeSparkline, setHasHistory } from "./sparkline.js";

const part = (tag, name, attributes, ...children) => h(tag, { "data-part": name, ...attributes }, ...children);
const legendKey = (name) => h("i", { class: `key ${name}` });

const cardTemplate = template(() =>
  h(
    "li",
    { class: "card" },
    part("h2", "title"),
    h(
      "p",
      { class: "state" },
      part("span", "badge"),
      " ",
      part("span", "since", { class: "quiet since" }),
      part("span", "uptime", { class: "uptime" }),
    ),
    part("p", "about", { class: "about" }),
    part("p", "reason", { class: "reason" }),
    part("p", "fix", { class: "reason quiet" }),
    part("p", "age", { class: "old" }),
    part("div", "models"),
    part(
      "p",
      "legend",
      { class: "legend quiet", "aria-hidden": "true" },
      ["last hour: ", legendKey("cpu"), "CPU "],
      h("span", { class: "vram-line" }, legendKey("vram"), "VRAM"),
    ),
  ),
);

/**
 * {root, show(machine), update(), sparkline(), close()}: `show` takes a new state, `update` shows what time alone
 * changes. Nothing is measured on an offline machine: its card says since when it is offline, why, and how to fix it.
 */
export function makeCard(first) {
  const { root, title, badge, since, uptime, about, reason, fix, age, models, legend } = cardTemplate();
  const gauges = makeGauges([CPU, RAM]);
  const gpus = makeGpus();
  const sparkline = makeSparkline(first.name, root);
  title.append(machineLink(first.name));
  models.before(gauges.root, gpus.root);
  models.after(sparkline);
  let machine = first;

  function show(now) {
    machine = now;
    const isOffline = machine.status === "offline";
    root.className = `card is-${machine.status}`;
    setHasHistory(sparkline, machine.last_seen !== null && !isOffline);
    showStatus(badge, reason, machine);
    renderIfChanged(about, [machine.role, machine.tags], () => [h("span", null, machine.role), ...tagChips(machine)]);
    const fixing = fixText(machine);
    renderIfChanged(fix, fixing, () => withCode(fixing));
    gauges.root.hidden = isOffline || machine.sampled_at === null;
    models.hidden = sparkline.hidden = legend.hidden = age.hidden = isOffline;
    if (isOffline) {
      gpus.root.hidden = true;
      return;
    }
    gauges.show(machine.telemetry);
    gpus.show(machine);
    showModelChips(models, machine, null);
  }

  function update() {
    showSince(since, machine);
    const share = availabilityShare(machine.name);
    setText(uptime, share && `${share} up in 24 h`);
    setTitle(uptime, outagesText(machine.name));
    if (machine.status === "offline") return;
    showAgeOfValues(age, machine);
    updateModelChips(models, machine);
  }

  return { root, show, update, sparkline: () => sparkline, close: () => forgetSparkline(root) };
}
