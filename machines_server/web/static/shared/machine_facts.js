// Facts about a machine, derived from the API's answer. Nothing here touches the page.

import { duration, isKnown } from "../base/format.js";

/** Whether it is known which models the Ollama of a machine holds. */
export const knowsLoadedModels = ({ ollama }) => ["ok", "busy", "disabled"].includes(ollama.state);

/** The tags of a machine as strings. Its file may have any value there, but usually a list of strings. */
export const tagTexts = ({ tags }) =>
  isKnown(tags) ? [tags].flat().map((tag) => (typeof tag === "object" ? JSON.stringify(tag) : String(tag))) : [];

/** The VRAM that leases reserve on each GPU of a machine: GiB by the GPU's uuid. */
export function leasedVram(machine, leases) {
  const leased = new Map();
  for (const lease of leases)
    if (lease.machine === machine.name)
      for (const { uuid, vram_gb: size } of lease.gpus) leased.set(uuid, (leased.get(uuid) ?? 0) + size);
  return leased;
}

/** The GPU with the most VRAM that is neither used nor leased: {gpu, free}, or null without a readable GPU. */
export function roomiestGpu(machine, leases) {
  const leased = leasedVram(machine, leases);
  let roomiest = null;
  for (const gpu of machine.telemetry.gpu ?? []) {
    const free = Math.max(0, gpu.vram_free_gb - (leased.get(gpu.uuid) ?? 0));
    if (!roomiest || free > roomiest.free) roomiest = { gpu, free };
  }
  return roomiest;
}

/** The highest reading of the GPUs of a machine by its key in telemetry; null if none is known. */
export const highestOfGpus = ({ telemetry: { gpu: gpus = [] } }, key) =>
  gpus.reduce((most, gpu) => (isKnown(gpu[key]) ? Math.max(most ?? gpu[key], gpu[key]) : most), null);

/** The used share of the disk, of 1; NaN if unknown. What is reserved for root counts as used. */
export function diskShare({ disk_used_gb: used, disk_total_gb: total, disk_available_gb: available }) {
  if (!total) return Number.NaN;
  return (isKnown(available) ? total - available : (used ?? Number.NaN)) / total;
}

/** The usual fix for a sidecar that does not answer although its host is up; "" if there is none. */
export function sidecarHint({ status }) {
  // Degraded means exactly that: the Ollama of the host answers, and its sidecar does not.
  return status === "degraded" ? "run `make run-sidecar` on that host, or set network.sidecar: false" : "";
}

/** The usual fix for a machine whose endpoints do not answer, without the reason of its status; "" if unknown. */
export function fixText(machine) {
  const sidecar = sidecarHint(machine);
  if (sidecar) return `Fix: ${sidecar}.`;
  const reason = /(?:^|; | and )ollama: ([^;]*)$/.exec(machine.status_reason ?? "")?.[1];
  const message = ["unreachable", "error"].includes(machine.ollama.state) ? (machine.ollama.message ?? "") : "";
  if (reason === undefined || !message.startsWith(`${reason}: `)) return message && `Ollama: ${message}`;
  return `Fix: ${message.slice(reason.length + 2)}.`;
}

/** When a model will leave memory; `now` is the server's time in ms. */
export function unloadText({ expires_at: expires }, now) {
  if (!expires) return "pinned";
  const left = (Date.parse(expires) - now) / 1000;
  return left > 0 ? `unloads in ${duration(left)}` : "in use";
}
