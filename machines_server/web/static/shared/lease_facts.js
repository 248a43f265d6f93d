// Facts about a lease, derived from the API's answer. Nothing here touches the page.

import { duration, gib } from "../base/format.js";

/** The memory that a lease reserves. */
export function reservedText({ gpus, ram_gb: ram, reclaimable_gb: reclaimable }) {
  const reserved = gpus.map(({ index, vram_gb: size }) => `${gib(size)} of GPU ${index ?? "?"}`);
  if (ram) reserved.push(`${gib(ram)} of RAM`);
  if (reclaimable) reserved.push(`${gib(reclaimable)} of models to be unloaded`);
  return reserved.join(", ") || "no memory reserved";
}

/** What all leases reserve, as a sentence; "" without any. */
export function sumText(leases) {
  if (!leases.length) return "";
  const vram = leases.flatMap(({ gpus }) => gpus).reduce((sum, { vram_gb: size }) => sum + size, 0);
  const machines = new Set(leases.map(({ machine }) => machine)).size;
  const what = leases.length === 1 ? "1 lease reserves" : `${leases.length} leases reserve`;
  return `${what} ${gib(vram)} of VRAM on ${machines === 1 ? "1 machine" : `${machines} machines`}.`;
}

/** How long a lease still lasts; `now` is the server's time in ms. */
export function remainingText({ expires_at: expires }, now) {
  const left = (Date.parse(expires) - now) / 1000;
  return left > 0 ? `in ${duration(left)}` : "now";
}

/** What a lease reserves and when it expires; `now` is the server's time in ms. */
export const leaseText = (lease, now) => `${reservedText(lease)}, expires ${remainingText(lease, now)}`;

/** How many leases ended without being released, as a sentence. */
export function expiredText(count) {
  if (!count) return "No lease expired without being released in the last 10 minutes.";
  const leases = count === 1 ? "1 lease" : `${count} leases`;
  return `${leases} expired without being released in the last 10 minutes.`;
}
