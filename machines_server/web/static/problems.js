// What a person should mend, from what the server says.
import { localTimes } from "./format.js";

const LOW_SHARE = 0.95;
const STORM = 5;

/**
 * Worst first: {severity: "error" | "warning", machines: [name, ...], where, what}; with `name`, of that machine alone.
 * What is the same on many machines is one problem.
 */
export function problemsOf(state, name) {
  const isMeant = ({ machine }) => !name || !machine || machine.toLowerCase() === name.toLowerCase();
  const found = new Map();
  for (const { severity, machine, where, what } of listed(state).filter(isMeant)) {
    const key = JSON.stringify([severity, where, what]);
    if (!found.has(key)) found.set(key, { severity, machines: [], where, what: localTimes(what) });
    if (machine) found.get(key).machines.push(machine);
  }
  return [...found.values()].sort((one, other) => (one.severity > other.severity) - (one.severity < other.severity));
}

function listed({ fleet, health, expired, faults }) {
  const found = [];
  const { poller, errors, machines } = fleet;
  if (poller.state !== "running" || poller.message)
    found.push({ severity: "error", where: "poller", what: poller.message ?? `it is ${poller.state}` });
  if (health?.store.message) found.push({ severity: "error", where: "database", what: health.store.message });
  for (const what of new Set(faults)) if (!health?.store.message || !what.includes(health.store.message)) found.push({ severity: "error", where: null, what });
  for (const { file, line, column, key, message, severity } of errors)
    found.push({ severity, where: [file, line, column].filter((part) => part !== null).join(":"), what: key ? `${key}: ${message}` : message });
  for (const machine of machines) {
    const { telemetry, ollama, status } = machine;
    if (status === "online" && ["unreachable", "error"].includes(ollama.state))
      found.push({ severity: "warning", machine: machine.name, what: `Ollama: ${ollama.message}` });
    const { disk_used_gb: used, disk_total_gb: total } = telemetry;
    if (status === "online" && total && used / total >= LOW_SHARE)
      found.push({ severity: "warning", machine: machine.name, what: `the disk is ${Math.floor((used / total) * 100)} % full` });
    for (const [reason, gpus] of byReason((status === "online" && telemetry.gpu_unreadable) || []))
      found.push({ severity: "warning", machine: machine.name, what: `GPU ${gpus.join(", ")} cannot be read: ${reason}` });
  }
  if (expired >= STORM)
    found.push({ severity: "warning", where: "leases", what: `${expired} ran out in the last 10 minutes without being released; agents may be dying` });
  return found;
}

function byReason(unreadable) {
  const found = new Map();
  for (const { index, reason } of unreadable) found.set(reason, [...(found.get(reason) ?? []), index ?? "?"]);
  return found;
}
