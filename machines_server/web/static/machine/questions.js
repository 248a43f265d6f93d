// The API requests for the history of a machine.

import { STATUSES } from "../base/live.js";
import { get, machineApi, withQuery } from "../base/site.js";
import { HISTORY_METRICS } from "./series.js";

export const MAX_EVENTS = 50;
const MAX_EVENTS_OF_RANGE = 10_000;
const EVENTS_BEFORE = 1000;
/** Events that are marked on the charts. */
export const MARKED_TYPES = ["host_rebooted", "host_changed", "machine_changed"];
const TYPES_OF_RANGE = ["model_loaded", "model_unloaded", ...STATUSES, "machine_removed", ...MARKED_TYPES];

/** The requests for series, the events from which stays and outages follow, availability and the latest events. */
export function askForHistory(name, ends, signal) {
  const events = (query) => get(withQuery("/api/events", { machine: name, ...query }), signal);
  return [
    get(withQuery(machineApi(name, "/history"), { metric: [HISTORY_METRICS, "up"], ...ends }), signal),
    Promise.all([
      events({ type: TYPES_OF_RANGE, to: ends.from, limit: EVENTS_BEFORE }),
      events({ type: TYPES_OF_RANGE, ...ends, limit: MAX_EVENTS_OF_RANGE }),
    ]),
    get(withQuery(machineApi(name, "/availability"), ends), signal),
    events({ ...ends, limit: MAX_EVENTS }),
  ];
}
