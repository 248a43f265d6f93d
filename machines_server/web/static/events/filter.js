// The filter of the events page, which is kept in the URL. Nothing here touches the page.

import { withQuery } from "../base/site.js";

export const TYPES = [
  "online",
  "degraded",
  "offline",
  "unknown",
  "model_loaded",
  "model_unloaded",
  "machine_added",
  "machine_changed",
  "machine_removed",
  "host_rebooted",
  "host_changed",
  "service_up",
  "service_down",
];

/** The filter in a URL: {machines, types, at}, where `at` is a moment in epoch seconds or null. */
export function readFilter(search) {
  const query = new URLSearchParams(search);
  const at = Number(query.get("at") || NaN);
  return {
    machines: [...new Set(query.getAll("machine").filter(Boolean))],
    types: [...new Set(query.getAll("type"))].filter((type) => TYPES.includes(type)),
    at: at >= 0 && Number.isFinite(at) ? at : null,
  };
}

/** The site path of the events page with that filter. */
export const filterPath = ({ machines, types, at }) => withQuery("/events", { machine: machines, type: types, at });

/** The models of an answer about a moment that were in memory on one of `machines`, or on any: [[model, names], ...]. */
export function heldModels(models, machines) {
  const wanted = new Set(machines.map((name) => name.toLowerCase()));
  const isWanted = (name) => wanted.size === 0 || wanted.has(name.toLowerCase());
  const held = models.map(({ model, resident_on: names }) => [model, names.filter(isWanted)]);
  return held.filter(([, names]) => names.length > 0);
}

/** Two lists of events as one without repetitions, newest first. */
export function mergeEvents(some, others) {
  const byId = new Map([...some, ...others].map((event) => [event.id, event]));
  const time = ({ at }) => Date.parse(at);
  return [...byId.values()].sort((one, other) => time(other) - time(one) || other.id - one.id);
}

/**
 * The events with a mark at `at` (epoch seconds), between those before it and those from then on. The mark has what was
 * `held` in memory at that moment, as of `heldModels`; null if that is not known.
 */
export function withMoment(events, at, held) {
  if (at === null) return events;
  const mark = { id: `moment ${JSON.stringify(held)}`, type: "moment", at: new Date(at * 1000).toISOString(), held };
  const later = events.filter((event) => Date.parse(event.at) >= at * 1000);
  return [...later, mark, ...events.slice(later.length)];
}
