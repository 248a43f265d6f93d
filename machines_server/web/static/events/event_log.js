// The events that were fetched so far: a stretch without gaps that grows at both ends, page by page.

import { get, withQuery } from "../base/site.js";
import { heldModels, mergeEvents } from "./filter.js";

const PAGE_SIZE = 100;
const MOMENT_S = 1; // the length of the range that stands for a moment

/** The events that match `filter`. Every method that fetches throws as `get` does. */
export function makeEventLog({ machines, types, at }) {
  const fetchPage = (query) =>
    get(withQuery("/api/events", { machine: machines, type: types, limit: PAGE_SIZE, ...query }));
  const log = { events: [], hasOlder: false, hasNewer: false, held: null, start, fetchOlder, fetchNewer };
  let oldestId = null;
  let newestId = 0;

  /** Fetch the newest events or, if the filter has a moment, those around it. */
  async function start() {
    const older = await fetchPage({ to: at });
    addOlder(older);
    if (at === null) {
      newestId = highestId(older.events, 0);
      return;
    }
    await fetchNewer();
    await fetchHeld();
  }

  /** Fetch what was in memory at the moment. */
  async function fetchHeld() {
    const { models } = await get(withQuery("/api/models", { from: at, to: at + MOMENT_S }));
    log.held = heldModels(models, machines);
  }

  async function fetchOlder() {
    addOlder(await fetchPage({ before: oldestId }));
  }

  function addOlder({ events, next, truncated }) {
    log.events = mergeEvents(log.events, events);
    log.hasOlder = truncated;
    oldestId = next;
  }

  /** Fetch the first events that were written after the known ones. */
  async function fetchNewer() {
    const { events, truncated } = await fetchPage({ after: newestId, from: at });
    log.events = mergeEvents(events, log.events);
    log.hasNewer = truncated;
    newestId = highestId(events, newestId);
  }

  return log;
}

const highestId = (events, start) => events.reduce((highest, { id }) => Math.max(highest, id), start);
