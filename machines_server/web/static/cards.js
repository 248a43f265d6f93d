// One machine in the fleet: as a card, or as a row of the dense table.
import { copier, h, remake, say } from "./dom.js";
import { gib, localTimes, number, percent } from "./format.js";
import { CPU, gpuText, makeGauges, makeGpus, RAM } from "./meters.js";
import { bar, brokenGpu, hintText, knowsModels, leasedOf, machineLink, modelChips, sayOld, saySince, statusBadge, tagChips } from "./parts.js";
import { hasPast, sparkline, watch } from "./spark.js";

/** Each with what a click on it sorts by. */
export const TABLE_HEADS = [
  ["Machine", "name"], ["Status", "status"], ["VRAM", "vram"], ["Loaded models", "models"], ["CPU", "cpu"], ["RAM", "ram"], ["Role", "role"], ["Last hour", null],
];

const copyCard = copier(() =>
  h("li", { class: "card" }, h("h2", { "data-part": "title" }),
    h("p", { class: "state" }, h("span", { "data-part": "badge" }), " ", h("span", { class: "quiet since", "data-part": "since" })),
    h("p", { class: "about", "data-part": "about" }), h("p", { class: "reason", "data-part": "reason" }),
    h("p", { class: "reason quiet", "data-part": "hint" }), h("p", { class: "old", "data-part": "old" }),
    h("div", { "data-part": "models" }),
    h("p", { class: "legend quiet", "aria-hidden": "true" }, "last hour: ", h("i", { class: "key cpu" }), "CPU ",
      h("span", { "data-part": "vram" }, h("i", { class: "key vram" }), "VRAM"))));

/** {root, spark, show(machine), tick()}: `show` takes what is new, `tick` lets ages grow. */
export function card(first) {
  const { root, title, badge, since, about, reason, hint, old, models, vram } = copyCard();
  const gauges = makeGauges([CPU, RAM]);
  const gpus = makeGpus();
  const spark = sparkline(first.name);
  title.append(machineLink(first.name));
  models.before(gauges.root, gpus.root);
  models.after(spark);
  watch(root, spark);
  let machine = first;

  function show(now) {
    machine = now;
    const { telemetry, status } = machine;
    root.className = `card is-${status}`;
    hasPast(spark, machine.last_seen !== null);
    remake(badge, status, () => statusBadge(status));
    remake(about, [machine.role, machine.tags], () => [h("span", null, machine.role), ...tagChips(machine)]);
    say(reason, localTimes(machine.status_reason ?? ""));
    say(hint, hintText(machine));
    gauges.root.hidden = machine.sampled_at === null;
    gauges.show(telemetry);
    gpus.show(machine);
    // Ollama puts the time off with every request, and whoever has the focus would lose it: `tick` says it.
    remake(models, machine.ollama.models.map((model) => ({ ...model, expires_at: null })), () => modelChips(machine));
    vram.hidden = !telemetry.gpu;
  }

  function tick() {
    saySince(since, machine);
    sayOld(old, machine);
    [...(models.firstChild?.children ?? [])].forEach((chip, at) => chip.tick(machine.ollama.models[at]));
  }

  return { root, spark, show, tick };
}

export function row(first) {
  const badge = h("span");
  const since = h("span", { class: "quiet since" });
  const old = h("p", { class: "old" });
  const reason = h("p", { class: "reason" });
  const vram = h("td");
  const models = h("td", { class: "held" });
  const role = h("td", { class: "short" });
  const [cpu, ram] = Array.from({ length: 2 }, () => h("td", { class: "figure" }));
  const spark = sparkline(first.name);
  const root = h("tr", null, h("th", { scope: "row" }, machineLink(first.name)), h("td", { class: "state" }, badge, " ", since, old, reason),
    vram, models, cpu, ram, role, h("td", null, spark));
  watch(root, spark);
  let machine = first;

  function show(now) {
    machine = now;
    const { telemetry, status } = machine;
    root.className = `is-${status}`;
    hasPast(spark, machine.last_seen !== null);
    say(reason, localTimes(machine.status_reason ?? ""));
    reason.title = hintText(machine);
    remake(badge, status, () => statusBadge(status));
    remake(role, [machine.role, machine.tags], () => [h("span", null, machine.role, " "), ...tagChips(machine)]);
    say(cpu, percent(telemetry.cpu_percent));
    say(ram, `${number(telemetry.ram_used_gb, 1)} of ${gib(telemetry.ram_total_gb, 0)}`);
    const leased = leasedOf(machine);
    remake(vram, [telemetry.gpu, telemetry.gpu_unreadable, [...leased]], () => [
      ...(telemetry.gpu ?? []).map((gpu) => denseGpu(gpu, leased.get(gpu.uuid) ?? 0)), ...(telemetry.gpu_unreadable ?? []).map(brokenGpu)]);
    remake(models, knowsModels(machine) && machine.ollama.models.map((model) => ({ ...model, expires_at: null })), () =>
      (knowsModels(machine) ? modelChips(machine) : "not known"));
  }

  function tick() {
    saySince(since, machine);
    sayOld(old, machine);
    [...(models.firstChild?.children ?? [])].forEach((chip, at) => chip.tick?.(machine.ollama.models[at]));
  }

  return { root, spark, show, tick };
}

function denseGpu(gpu, leased) {
  const { index, vram_total_gb: total, vram_used_gb: used, vram_free_gb: free } = gpu;
  const promised = Math.min(leased, free);
  const text = `${number(free - promised, 1)} free of ${gib(total, 0)}${promised ? `, ${number(promised, 1)} leased` : ""}`;
  return h("div", { class: "dense" }, bar([["used", used / total], ["leased", promised / total]]), h("span", null, `GPU ${index}: ${text}`),
    h("span", { class: "quiet more", title: gpu.model ?? "" }, `${number(used, 1)} used · ${gpuText(gpu)}`));
}
