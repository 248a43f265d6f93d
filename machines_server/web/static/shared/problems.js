// Problems that a person should fix, found in the server's answers. Nothing here touches the page.

import { withLocalTimes } from "../base/format.js";
import { diskShare } from "./machine_facts.js";

const FULL_DISK_SHARE = 0.9;
const MANY_EXPIRED_LEASES = 5;

/**
 * Problems, errors first: {severity: "error" | "warning", machines: [name, ...], where, what}.
 * With `name`, only those of that machine and those of no machine. Machines with the same problem share one entry.
 */
export function findProblems(state, name) {
  const isWanted = ({ machine }) => !name || !machine || machine.toLowerCase() === name.toLowerCase();
  const found = new Map();
  for (const { severity, machine, where = null, what } of allProblems(state).filter(isWanted)) {
    const key = JSON.stringify([severity, where, what]);
    if (!found.has(key)) found.set(key, { severity, machines: [], where, what: withLocalTimes(what) });
    if (machine) found.get(key).machines.push(machine);
  }
  const all = [...found.values()];
  return [...all.filter(({ severity }) => severity === "error"), ...all.filter(({ severity }) => severity !== "error")];
}

const allProblems = (state) => [
  ...serverProblems(state),
  ...state.fleet.errors.map(fileProblem),
  ...state.fleet.machines.filter(({ status }) => status === "online").flatMap(machineProblems),
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

function machineProblems({ name, telemetry, ollama }) {
  const found = [];
  if (ollama.state === "unreachable" || ollama.state === "error") found.push(`Ollama: ${ollama.message}`);
  const share = diskShare(telemetry);
  if (share >= FULL_DISK_SHARE) found.push(`the disk is ${Math.floor(share * 100)} % full`);
  for (const [reason, gpus] of indexesByReason(telemetry.gpu_unreadable ?? []))
    found.push(`GPU ${gpus.join(", ")} cannot be read: ${reason}`);
  return found.map((what) => ({ severity: "warning", machine: name, what }));
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
