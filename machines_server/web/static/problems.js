// What a person should mend, from what the server says.

const LOW_SHARE = 0.95;
const STORM = 5;

/** Worst first: {severity: "error" | "warning", machine or where, what}. */
export function problemsOf({ fleet, health, expired, faults }) {
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
      found.push({ severity: "warning", machine: machine.name, what: `its disk is ${Math.floor((used / total) * 100)} % full` });
    for (const [reason, gpus] of byReason((status === "online" && telemetry.gpu_unreadable) || []))
      found.push({ severity: "warning", machine: machine.name, what: `GPU ${gpus.join(", ")} cannot be read: ${reason}` });
  }
  if (expired >= STORM)
    found.push({ severity: "warning", where: "leases", what: `${expired} ran out in the last 10 minutes without being released; agents may be dying` });
  return found.sort((one, other) => (one.severity > other.severity) - (one.severity < other.severity));
}

function byReason(unreadable) {
  const found = new Map();
  for (const { index, reason } of unreadable) found.set(reason, [...(found.get(reason) ?? []), index ?? "?"]);
  return found;
}
