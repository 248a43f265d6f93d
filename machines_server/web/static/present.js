// What stands of one machine now: who it is, its endpoints, its hardware, its models.
import { path } from "./api.js";
import { ageTimes, h, remake, remakeEach, say } from "./dom.js";
import { age, ago, bytes, gib, localTimes, number, setMoment, span } from "./format.js";
import { serverNow, state } from "./live.js";
import { CPU, DISK, makeGauges, makeGpus, RAM } from "./meters.js";
import { knowsModels, sayOld, saySince, sidecarHint, statusBadge, tagChips } from "./parts.js";

const MODEL_HEADS = ["Model", "Size", "In VRAM", "Processor", "Context", "Leaves memory"];

/** {head, body, show(machine), tick()}: `show` takes what is new, `tick` lets ages grow. */
export function makePresent() {
  const badge = h("span");
  const since = h("span", { class: "quiet since" });
  const about = h("p", { class: "about" });
  const reason = h("p", { class: "reason" });
  const title = h("h1");
  const head = h(
    "header",
    { class: "machine-head" },
    title,
    h("p", { class: "state" }, badge, " ", since),
    about,
    reason,
  );
  const endpoints = h("dl", { class: "facts" });
  const old = h("p", { class: "old" });
  const gauges = makeGauges([CPU, RAM, DISK]);
  const none = h("p", { class: "quiet" });
  const more = h("dl", { class: "facts" });
  const hardware = h("section", { class: "card" }, h("h2", null, "Host"), old, none, gauges.root, more);
  const gpus = makeGpus();
  const gpuCard = h("section", { class: "card" }, h("h2", null, "GPUs"), gpus.root);
  const models = h("div");
  const leases = h("ul");
  const leaseCard = h("section", { class: "card wide", hidden: true }, h("h2", null, "Leases"), leases);
  const body = h(
    "div",
    { class: "present" },
    hardware,
    gpuCard,
    h("section", { class: "card" }, h("h2", null, "Endpoints"), endpoints),
    h("section", { class: "card wide" }, h("h2", null, "Models in memory"), models),
    leaseCard,
  );
  let machine = null;
  let leaving = [];

  function show(now) {
    machine = now;
    const { telemetry, status } = machine;
    say(title, machine.name);
    remake(badge, status, () => statusBadge(status));
    remake(about, [machine.role, machine.tags, machine.network.hostname, machine._config_file], () => [
      h("span", null, machine.role),
      tagChips(machine),
      h("span", null, `${machine.network.hostname}, declared in `, h("code", null, machine._config_file)),
    ]);
    say(reason, localTimes(machine.status_reason ?? ""));
    hardware.className = gpuCard.className = `card is-${status}`;
    none.hidden = machine.sampled_at !== null;
    say(none, machine.network.sidecar === false ? "No sidecar is declared." : "No sample yet.");
    gauges.root.hidden = machine.sampled_at === null;
    gauges.show(telemetry);
    remake(more, telemetry, () => moreFacts(telemetry));
    const { network, ollama, sampled_at: sampledAt, last_seen: lastSeen } = machine;
    const moments = [sampledAt, lastSeen].filter((moment) => moment !== null);
    // Made anew only for other words: who selects some, to copy them, must not lose them each second.
    remake(endpoints, [network, ollama.state, ollama.message, status, moments.length], () => endpointFacts(machine));
    endpoints.querySelectorAll("time").forEach((time, at) => setMoment(time, moments[at]));
    gpus.show(machine);
    gpuCard.hidden = gpus.root.hidden;
    remake(
      models,
      [knowsModels(machine), ...machine.ollama.models.map((model) => ({ ...model, expires_at: null }))],
      () => modelTable(),
    );
  }

  function modelTable() {
    leaving = [];
    const { models: held } = machine.ollama;
    if (!held.length) return h("p", { class: "quiet" }, knowsModels(machine) ? "None." : "Not known: its Ollama does not say.");
    return h(
      "div",
      { class: "scroll", tabindex: "0", role: "region", "aria-label": "Models in memory" },
      h(
        "table",
        null,
        h(
          "thead",
          null,
          h(
            "tr",
            null,
            MODEL_HEADS.map((one) => h("th", { scope: "col" }, one)),
          ),
        ),
        h(
          "tbody",
          null,
          held.map((model) => {
            leaving.push(h("td"));
            return h(
              "tr",
              null,
              h("th", { scope: "row" }, h("a", { href: path("/models", { model: model.name }) }, model.name)),
              h("td", null, bytes(model.size_bytes)),
              h("td", null, bytes(model.size_vram_bytes)),
              h("td", null, model.processor),
              h("td", null, number(model.context_length)),
              leaving.at(-1),
            );
          }),
        ),
      ),
    );
  }

  function tick() {
    saySince(since, machine);
    sayOld(old, machine);
    ageTimes(endpoints, (moment) => age(moment, serverNow()));
    const held = state.leases.filter((lease) => lease.machine === machine.name);
    leaseCard.hidden = held.length === 0;
    remakeEach(leases, held, ({ lease, holder }) => lease + holder, leaseLine);
    held.forEach((lease, place) => say(leases.children[place].lastChild, promiseText(lease)));
    machine.ollama.models.forEach((model, place) => say(leaving[place], leavesText(model.expires_at)));
  }

  return { head, body, show, tick };
}

const leaseLine = ({ model, holder }) => h("li", null, h("b", null, model), holder ? ` for ${holder}` : "", h("span"));

function promiseText({ gpus, ram_gb: ram, expires_at: expires }) {
  const promised = [...gpus.map(({ index, vram_gb: size }) => `${gib(size)} of GPU ${index ?? "?"}`), ram && `${gib(ram)} of RAM`].filter(Boolean);
  return `: ${promised.join(", ") || "no memory promised"}, ends in ${span(Math.max(0, (Date.parse(expires) - serverNow()) / 1000))}`;
}

function moreFacts({ load_avg: load, uptime_s: uptime, ram_available_gb: available }) {
  return [
    load && fact("Load", load.map((one) => number(one, 2)).join(" · "), "average over 1, 5 and 15 minutes"),
    available !== undefined && fact("RAM available", gib(available)),
    uptime !== undefined && fact("Up for", uptime === null ? "–" : span(uptime)),
  ];
}

function endpointFacts(machine) {
  const { network, status, sampled_at: sampledAt, last_seen: lastSeen, ollama } = machine;
  const now = serverNow();
  let sidecar = "declared absent";
  if (network.sidecar !== false) {
    const answers = {
      online: "",
      degraded: "does not answer; ",
      offline: "does not answer; ",
      unknown: "not known now; ",
    }[status];
    const advice = sidecarHint(machine);
    sidecar = [answers, advice && `${advice}; `, sampledAt ? ["latest sample ", ago(sampledAt, now)] : "no sample yet"];
  }
  return [
    fact("Sidecar", sidecar),
    fact(
      "Ollama",
      network.ollama === false
        ? "declared absent"
        : [h("b", null, ollama.state ?? "not known now"), ollama.message && `: ${ollama.message}`],
    ),
    fact("Last answer", lastSeen ? ago(lastSeen, now) : "none yet"),
  ];
}

const fact = (term, value, title) => [h("dt", { title }, term), h("dd", null, value)];

function leavesText(expires) {
  if (!expires) return "never";
  const left = (Date.parse(expires) - serverNow()) / 1000;
  return left > 0 ? `in ${span(left)}` : "in use";
}
