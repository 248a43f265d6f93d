// How available each machine was in the last day: fetched once a minute for all of them.

import { afterPaint } from "../base/dom.js";
import { number } from "../base/format.js";
import { get } from "../base/site.js";

const FRESH_MS = 60_000;
/** The delay of the first fetch after the document was opened: more important data comes first. */
const FIRST_MS = 3000;

let byName = new Map();
let dueAt = FIRST_MS;

/** Fetch it again if it is old; `onChange()` is called when it has arrived. */
export function refreshAvailability(onChange) {
  if (performance.now() < dueAt) return;
  dueAt = performance.now() + FRESH_MS;
  afterPaint(async () => {
    try {
      const { machines } = await get("/api/availability");
      byName = new Map(machines.map((one) => [one.machine, one]));
      onChange();
    } catch (error) {
      console.info("no availability:", error.message); // the old one stays; the next minute tries again
    }
  });
}

/** The share of the last day in which a machine answered, such as "99.8 %"; "" if unknown. */
export const availabilityShare = (name) => shareText(byName.get(name)?.ratio ?? null);

/** How often a machine was offline in the last day; "" if unknown. */
export function outagesText(name) {
  const outages = byName.get(name)?.outages;
  if (outages === undefined) return "";
  return outages === 1 ? "1 outage" : `${outages} outages`;
}

/** A ratio as a percentage that is 100 only if nothing is missing; "" if unknown. */
export function shareText(ratio) {
  if (ratio === null) return "";
  return `${number(Math.floor(ratio * 1000) / 10, 1)}\u00a0%`;
}
