// Problems that a person should fix, found in the server's answers. Nothing here touches the page.

import { withLocalTimes } from "../base/format.js";
import { highReadings } from "./thresholds.js";

const MANY_EXPIRED_LEASES = 5;

/**
 * Problems, machines that are offline first, then other errors:
 * {severity: "error" | "warning", status, machines: [name, ...], where, since, what}; `status` is null unless it is the
 * problem, and `since` is the earliest time at which one of the machines had it.
 * With `name`, only those of that machine and those of no machine, without the status, which its page shows.
 * Machines with the same problem share one entry.
 */
export function findProblems(state, name) {
  const isSame = ({ machine, status }) => !machine || (machine.toLowerCase() === name.toLowerCase() && !status);
  const found = new Map();
  for (const problem of allProblems(state)) {
    if (name && !isSame(problem)) continue;
    const { severity, machine, status = null, where = null, since = null, what } = problem;
    const key = JSON.stringify([severity, status, where, what]);
    if (!found.has(key)) found.set(key, { severity, status, machines: [], where, since, what: withLocalTimes(what) });
    const entry = found.get(key);
    if (machine) entry.machines.push(machine);
    if (since && since < entry.since) entry.since = since;
  }
  const order = ({ severity, status }) => (status === "offline" ? 0 : severity === "error" ? 1 : 2);
  return [...found.values()].sort((one, other) => order(one) - order(other));
}

const allProblems = (state) => [
  ...serverProblems(state),
  ...state.fleet.errors.map(fileProblem),
  ...state.fleet.machines.flatMap((machine) => statusProblems(machine, state.lastTransitions)),
  ...state.fleet.machines.flatMap((machine) =>
    machineProblems(machine).map((what) => ({ severity: "warning", machine: machine.name, what })),
  ),
  ...leaseProblems(state),
];

function serverProblems({ fleet: { poller }, health, faults }) {
  const found = [];
  if (poller.state !== "running" || poller.message)
    found.push({ severity: "error", where: "poller", what: poller.message ?? `it is ${poller.state}` });
  const database = health?.store.message;
  if (database) found.push({ severity: "error", where: "database", what: database });
  // Events come from the database whose fault is listed already.
  for (const { source, code, message } of faults)
    if (!(database && source === "events" && code === "store_unavailable"))
      found.push({ severity: "error", what: message });
  return found;
}

function fileProblem({ file, line, column, key, message, severity }) {
  const where = [file, line, column].filter((part) => part !== null).join(":");
  return { severity, where, what: key ? `${key}: ${message}` : message };
}

/** What a person should fix on one machine, in words, except for its status, which is shown elsewhere. */
export function machineProblems({ status, telemetry, ollama }) {
  if (status !== "online") return []; // its readings are old
  const found = [];
  if (ollama.state === "unreachable" || ollama.state === "error") found.push(`Ollama: ${ollama.message}`);
  found.push(...highReadings(telemetry));
  for (const [reason, gpus] of indexesByReason(telemetry.gpu_unreadable ?? []))
    found.push(`GPU ${gpus.join(", ")} cannot be read: ${reason}`);
  return found;
}

/** Machines that do not answer. Why a whole fleet is unknown is a problem of the server. */
function statusProblems({ name, status, status_reason: reason }, transitions) {
  if (status !== "offline" && status !== "degraded") return [];
  const event = transitions.get(name);
  const since = event?.type === status ? event.at : null;
  return [
    { severity: status === "offline" ? "error" : "warning", machine: name, since, what: reason ?? status, status },
  ];
}

function leaseProblems({ expiredLeases }) {
  if (expiredLeases < MANY_EXPIRED_LEASES) return [];
  const what = `${expiredLeases} expired in the last 10 minutes without being released; agents may be crashing`;
  return [{ severity: "warning", where: "leases", what }];
}

function indexesByReason(gpus) {
  const found = new Map();
  for (const { index, reason } of gpus) found.set(reason, [...(found.get(reason) ?? []), index ?? "?"]);
  return found;
}
