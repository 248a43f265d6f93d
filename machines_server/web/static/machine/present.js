// The present state of one machine: its host, GPUs, endpoints, loaded models and leases.

import { h, renderIfChanged, renderList, scrollable, setText, tableHead, updateTimes } from "../base/dom.js";
import { ageText, bytes, duration, gib, isKnown, number, setTime, timeElement } from "../base/format.js";
import { serverNow, state } from "../base/live.js";
import { siteUrl, withQuery } from "../base/site.js";
import { leaseText } from "../shared/lease_facts.js";
import { knowsLoadedModels, sidecarHint, unloadText } from "../shared/machine_facts.js";
import { modelsKey, showAgeOfValues, showSince, showStatus, tagChips, withCode } from "../shared/machine_parts.js";
import { CPU, DISK, makeGauges, makeGpus, RAM } from "../shared/meters.js";
import { makeServices } from "./services.js";

const SIDECAR_BY_STATUS = {
  online: "ok",
  degraded: "does not answer",
  offline: "does not answer",
  unknown: "state unknown",
};
const MODEL_HEADINGS = ["Model", "Size", "In VRAM", "Processor", "Context", "Keep-alive"];

/** {head, body, show(machine), update()}: `show` takes a new state, `update` shows what time alone changes. */
export function makePresent() {
  const badge = h("span");
  const since = h("span", { class: "quiet since" });
  const about = h("p", { class: "about" });
  const reason = h("p", { class: "reason" });
  const brokenFile = h("p", { class: "reason broken-file" });
  const title = h("h1");
  const status = h("p", { class: "state" }, badge, " ", since);
  const age = h("p", { class: "old" });
  const head = h("header", { class: "machine-head" }, title, status, about, reason, age, brokenFile);
  const noSample = h("p", { class: "quiet" });
  const gauges = makeGauges([CPU, RAM, DISK]);
  const hostFacts = h("dl", { class: "facts" });
  const hostCard = card("Host", noSample, gauges.root, hostFacts);
  const gpus = makeGpus();
  const gpuCard = card("GPUs", gpus.root);
  const endpoints = h("dl", { class: "facts" });
  const models = makeModels();
  const leases = makeLeases();
  const services = makeServices();
  const body = h(
    "div",
    { class: "present" },
    hostCard,
    gpuCard,
    card("Endpoints", endpoints),
    models.root,
    leases.root,
    services.root,
  );
  let machine = null;

  function show(now) {
    machine = now;
    setText(title, machine.name);
    showStatus(badge, reason, machine);
    setText(brokenFile, brokenFileText(machine, state.fleet.errors));
    showAbout();
    hostCard.className = gpuCard.className = `card is-${machine.status}`;
    showHost();
    gpus.show(machine);
    gpuCard.hidden = gpus.root.hidden;
    showEndpoints();
    models.show(machine);
    services.show(machine);
  }

  function showAbout() {
    const { role, tags, network, _config_file: file } = machine;
    renderIfChanged(about, [role, tags, network.hostname, file], () => [
      h("span", null, role),
      tagChips(machine),
      h("span", null, `${network.hostname}, declared in `, h("code", null, file)),
    ]);
  }

  function showHost() {
    const hasSample = machine.sampled_at !== null;
    noSample.hidden = hasSample;
    setText(noSample, machine.network.sidecar === false ? "No sidecar is declared." : "No sample yet.");
    gauges.root.hidden = !hasSample;
    gauges.show(machine.telemetry);
    renderIfChanged(hostFacts, machine.telemetry, () => hostFactsOf(machine.telemetry));
  }

  function showEndpoints() {
    const { network, ollama, sampled_at: sampledAt, last_seen: lastSeen } = machine;
    const times = [sampledAt, lastSeen].filter(isKnown);
    // Rebuilt only if words change: a reader who has selected some to copy would lose the selection.
    const key = [network, ollama.state, ollama.message, machine.status, times.length];
    renderIfChanged(endpoints, key, () => endpointFacts(machine, serverNow()));
    for (const [place, element] of endpoints.querySelectorAll("time").entries()) setTime(element, times[place]);
  }

  function update() {
    showSince(since, machine);
    showAgeOfValues(age, machine);
    updateTimes(endpoints, (time) => ageText(time, serverNow()));
    models.update(machine);
    leases.show(machine);
    services.update();
  }

  return { head, body, show, update };
}

const card = (heading, ...children) => h("section", { class: "card" }, h("h2", null, heading), ...children);

function hostFactsOf({ load_avg: load, uptime_s: uptime, ram_available_gb: available }) {
  return [
    load && fact("Load", load.map((one) => number(one, 2)).join(" · "), "average over 1, 5 and 15 minutes"),
    available !== undefined && fact("RAM available", gib(available)),
    uptime !== undefined && fact("Uptime", duration(uptime)),
  ];
}

/** {root, show(machine), update(machine)}: the loaded models as a table. */
function makeModels() {
  const holder = h("div");
  const root = h("section", { class: "card wide" }, h("h2", null, "Models in memory"), holder);
  let unloadCells = [];

  function show(machine) {
    const { models } = machine.ollama;
    const areKnown = knowsLoadedModels(machine);
    renderIfChanged(holder, [areKnown, modelsKey(models)], () => {
      unloadCells = models.map(() => h("td"));
      if (models.length) return modelTable(models, unloadCells);
      return h("p", { class: "quiet" }, areKnown ? "None." : "Unknown: Ollama does not answer.");
    });
  }

  function update(machine) {
    for (const [place, model] of machine.ollama.models.entries())
      setText(unloadCells[place], unloadText(model, serverNow()));
  }

  return { root, show, update };
}

function modelTable(models, unloadCells) {
  const row = (model, place) =>
    h(
      "tr",
      null,
      h("th", { scope: "row" }, h("a", { href: siteUrl(withQuery("/models", { model: model.name })) }, model.name)),
      h("td", null, bytes(model.size_bytes)),
      h("td", null, bytes(model.size_vram_bytes)),
      h("td", null, model.processor),
      h("td", null, number(model.context_length)),
      unloadCells[place],
    );
  const table = h("table", null, tableHead(MODEL_HEADINGS), h("tbody", null, models.map(row)));
  return scrollable("Models in memory", null, table);
}

/** {root, show(machine)}: the leases on the machine, hidden if there are none. */
function makeLeases() {
  const list = h("ul");
  const root = h("section", { class: "card wide", hidden: true }, h("h2", null, "Leases"), list);
  const line = ({ model, holder }) => h("li", null, h("b", null, model), holder ? ` for ${holder}` : "", h("span"));

  function show(machine) {
    const leases = state.leases.filter((lease) => lease.machine === machine.name);
    root.hidden = leases.length === 0;
    renderList(list, leases, ({ lease, holder }) => lease + holder, line);
    for (const [place, lease] of leases.entries())
      setText(list.children[place].lastChild, `: ${leaseText(lease, serverNow())}`);
  }

  return { root, show };
}

/** That the machine's file has an error, and what is in effect instead; "" if it has none. */
export function brokenFileText({ _config_file: file }, problems) {
  const error = problems.find((problem) => problem.file === file && problem.severity === "error");
  if (!error) return "";
  const place = error.line === null ? "" : ` in line ${error.line}`;
  const key = error.key ? `${error.key}: ` : "";
  return `${file} has an error${place}: ${key}${error.message.replace(/\.$/, "")}. Its last valid version is still in effect.`;
}

/** A term and its value; `title` is the tooltip of the term. */
const fact = (term, value, title) => [h("dt", { title }, term), h("dd", null, value)];

/** `now` is the server's time in ms. */
function endpointFacts(machine, now) {
  const { network, last_seen: lastSeen } = machine;
  return [
    fact("Sidecar", network.sidecar === false ? "none declared" : sidecarText(machine, now)),
    fact("Ollama", network.ollama === false ? "none declared" : ollamaText(machine)),
    fact("Last answer", lastSeen ? timeElement(lastSeen, now) : "none yet"),
  ];
}

function sidecarText(machine, now) {
  const { status, sampled_at: sampledAt } = machine;
  const hint = sidecarHint(machine);
  const sample = sampledAt ? ["latest sample ", timeElement(sampledAt, now)] : "no sample yet";
  return [h("b", null, SIDECAR_BY_STATUS[status]), hint && [": ", withCode(hint)], "; ", sample];
}

const ollamaText = ({ ollama: { state, message } }) => [
  h("b", null, state ?? "state unknown"),
  message && `: ${message}`,
];
