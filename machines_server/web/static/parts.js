// Pieces that several pages show of a machine.
import { pageOf, path } from "./api.js";
import { copier, h, say, svg } from "./dom.js";
import { absolute, age, bytes, number, span } from "./format.js";
import { knownNow, serverNow, state } from "./live.js";

// A shape for each status, so that nobody has to tell colours apart.
const SHAPES = {
  online: "M8 2a6 6 0 1 1 0 12A6 6 0 0 1 8 2z",
  degraded: "M8 2l7 12H1z",
  offline: "M3 2l5 5 5-5 1.5 1.5L9.5 8l5 4.5L13 14 8 9.5 3 14l-1.5-1.5 5-4.5-5-4.5z",
  unknown: "M8 1l7 7-7 7-7-7zm0 3L4 8l4 4 4-4z",
};

const badges = new Map(Object.entries(SHAPES).map(([status, d]) => [status, copier(() => {
  const shape = svg("svg", { viewBox: "0 0 16 16", "aria-hidden": "true" }, svg("path", { d, "fill-rule": "evenodd" }));
  return h("span", { class: `badge status-${status}` }, shape, status);
})]));

/** The status as shape, word and colour. */
export const statusBadge = (status) => badges.get(status)().root;

/** Say "for 3 h 5 min", absolute on hover, or nothing where no transition is known. */
export function saySince(element, machine) {
  const event = state.since.get(machine.name);
  const isKnown = event?.type === machine.status;
  say(element, isKnown ? `for ${span((knownNow() - Date.parse(event.at)) / 1000)}` : "");
  sayTitle(element, isKnown ? `since ${absolute(Date.parse(event.at))}` : "");
}

function sayTitle(element, title) {
  if (element.title !== title) element.title = title;
}

/** What usually mends a sidecar that does not answer. */
export const sidecarHint = ({ status_reason: reason }) =>
  reason?.startsWith("sidecar: connection refused") ? "run `make run-sidecar` on that host, or set network.sidecar: false" : "";

/** What usually mends a machine, where that is known. */
export function hintText(machine) {
  if (machine.status === "online") return "";
  const [sidecar, ollama] = [sidecarHint(machine), machine.ollama.message];
  return [sidecar && `Sidecar: ${sidecar}.`, ollama && `Ollama: ${ollama}`].filter(Boolean).join(" ");
}

/** Whether it is known what the Ollama of a machine holds. */
export const knowsModels = ({ ollama }) => ["ok", "busy", "disabled"].includes(ollama.state);

export const machineLink = (name, attributes) => h("a", { href: pageOf(name), ...attributes }, name);

/** What leases promise of each GPU of a machine, in GiB, by uuid. */
export function leasedOf(machine) {
  const leased = new Map();
  for (const lease of state.leases)
    if (lease.machine === machine.name)
      for (const { uuid, vram_gb: size } of lease.gpus) leased.set(uuid, (leased.get(uuid) ?? 0) + size);
  return leased;
}

/** The GPU of a machine with the most VRAM that is neither used nor leased: {gpu, free}, or null. */
export function freest(machine) {
  const leased = leasedOf(machine);
  let best = null;
  for (const gpu of machine.telemetry.gpu ?? []) {
    const free = Math.max(0, gpu.vram_free_gb - (leased.get(gpu.uuid) ?? 0));
    if (!best || free > best.free) best = { gpu, free };
  }
  return best;
}

/** A bar of parts [[class, share]], shares of 1; what it shows must stand beside it as text. */
export function bar(parts) {
  const found = h("span", { class: "bar", "aria-hidden": "true" });
  for (const [name, share] of parts) {
    const part = h("span", { class: name });
    part.style.width = `${Math.min(100, Math.max(0, share * 100))}%`;
    found.append(part);
  }
  return found;
}

export const brokenGpu = (gpu) =>
  h("p", { class: "gpu unreadable" }, `GPU ${gpu.index ?? "?"} cannot be read: ${gpu.reason}`);

const copyChip = copier(() => h("li", { class: "chip" }, h("a", { "data-part": "link" }), h("span", { class: "quiet", "data-part": "more" })));

/** A loaded model: name, size, where it runs, context, and when it leaves, as `tick` says it anew. */
function modelChip(model) {
  const size = [bytes(model.size_bytes), model.processor, model.context_length && `${number(model.context_length)}\u00a0ctx`];
  const { root: chip, link, more } = copyChip();
  link.href = path("/models", { model: model.name });
  say(link, model.name);
  chip.tick = ({ expires_at: expires }) => {
    sayTitle(more, expires ? absolute(Date.parse(expires)) : "");
    const left = expires ? (Date.parse(expires) - serverNow()) / 1000 : null;
    const leaves = left === null ? "never leaves" : left > 0 ? `leaves in ${span(left)}` : "in use";
    say(more, [...size, leaves].filter(Boolean).join(" · "));
  };
  return chip;
}

export const modelChips = (machine) =>
  machine.ollama.models.length ? h("ul", { class: "chips", "aria-label": "loaded models" }, machine.ollama.models.map(modelChip)) : null;

/** What an operator wrote there may be anything; a list of texts is usual. */
export const tagsOf = ({ tags }) =>
  tags === undefined || tags === null ? [] : [tags].flat().map((tag) => (typeof tag === "object" ? JSON.stringify(tag) : String(tag)));

export const tagChips = (machine) => tagsOf(machine).map((tag) => h("span", { class: "tag" }, tag));

/** Values of a machine whose sidecar does not answer are its last ones, and say so; absolute on hover. */
export function sayOld(element, { status, sampled_at: sampledAt, last_seen: lastSeen }) {
  const isOld = status !== "online" && lastSeen !== null;
  const [what, at] = sampledAt ? ["Values from", sampledAt] : ["Last answered", lastSeen];
  say(element, isOld ? `${what} ${age(at, serverNow())}` : "");
  sayTitle(element, isOld ? absolute(Date.parse(at)) : "");
}
