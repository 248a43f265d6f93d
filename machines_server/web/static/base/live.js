// The present state of the fleet, fetched again and again while the page is visible.

import { afterPaint } from "./dom.js";
import { ApiError, conditionalGet, errorText, get, withQuery } from "./site.js";

const MAX_EVENTS = 1000;
const RETRY_MS = 2000;
const CLOCK_TOLERANCE_MS = 1500;

export const STATUSES = ["online", "degraded", "offline", "unknown"];

/**
 * What is known now; answers replace parts of it. Times are ms.
 * `lastTransitions` has the latest change of status of each machine, `offset` how far the server's clock is ahead,
 * and `faults` [{source, code, message}] why the latest requests for leases, health or events failed.
 */
export const state = {
  fleet: null,
  leases: [],
  expiredLeases: 0,
  leasesAnsweredAt: null,
  health: null,
  lastTransitions: new Map(),
  offset: 0,
  answeredAt: null,
  failedSince: null,
  failure: null,
  faults: [],
};

const listeners = new Set();
const fetchInfrastructure = conditionalGet("/api/infrastructure");
let timer = null;
let lastEventId = null;
let isFetchingFleet = false;
let isFetchingDetails = false;

/** Call `listener(hasChanged)` after each answer, with whether machines or leases have changed. */
export function subscribe(listener) {
  listeners.add(listener);
  if (state.fleet) listener(true);
}

/**
 * The server's time in ms. It stops while the server cannot be reached, at the last answer: what happened since then,
 * such as a model that unloaded, is unknown.
 */
export function serverNow() {
  if (state.answeredAt === null) return Date.now() + state.offset;
  const isAway = state.failedSince !== null;
  return (isAway ? state.answeredAt : Math.min(Date.now(), state.answeredAt + 2 * intervalMs())) + state.offset;
}

/** Begin to fetch; nothing is fetched while the page is hidden. */
export function startFetching() {
  document.addEventListener("visibilitychange", () => {
    clearTimeout(timer);
    if (!document.hidden) fetchAll();
  });
  fetchAll();
}

async function fetchAll() {
  if (isFetchingFleet || document.hidden) return;
  isFetchingFleet = true;
  clearTimeout(timer);
  const hasChanged = await fetchFleet();
  isFetchingFleet = false;
  if (!document.hidden) timer = setTimeout(fetchAll, state.failedSince ? RETRY_MS : intervalMs());
  notify(hasChanged);
  // After the next paint, which these answers would delay.
  afterPaint(fetchDetails);
}

/** Fetch leases, health and events. However long they take, the fleet is fetched again in time. */
async function fetchDetails() {
  if (isFetchingDetails) return;
  isFetchingDetails = true;
  const answers = await Promise.allSettled([get("/api/leases"), get("/health"), get(transitionsPath())]);
  isFetchingDetails = false;
  const [leases, health, events] = answers.map(({ value }) => value);
  const before = JSON.stringify(state.leases);
  if (leases) [state.leases, state.expiredLeases] = [leases.leases, leases.expired_10m];
  if (leases) state.leasesAnsweredAt = Date.now();
  if (health) state.health = health;
  if (events) recordTransitions(events.events);
  const sources = ["leases", "health", "events"];
  const faults = answers.flatMap(({ reason }, index) => (reason ? [faultOf(sources[index], reason)] : []));
  state.faults = state.failedSince === null ? faults : []; // the banner says that the server cannot be reached
  notify(JSON.stringify(state.leases) !== before);
}

const faultOf = (source, error) => ({
  source,
  code: error instanceof ApiError ? error.code : null,
  message: errorText(error),
});

/** Fetch the fleet and return whether it has changed. Only this decides whether the server can be reached. */
async function fetchFleet() {
  const sentAt = performance.now();
  try {
    const { body, serverTime } = await fetchInfrastructure();
    // The Date header has whole seconds; half of one is the best guess at the rest.
    const offset = serverTime + 500 - (Date.now() - (performance.now() - sentAt) / 2);
    state.offset = Math.abs(offset) > CLOCK_TOLERANCE_MS ? offset : 0;
    if (state.failedSince !== null) lastEventId = null; // the server may return with another database
    state.failedSince = state.failure = null;
    state.answeredAt = Date.now();
    if (body) state.fleet = body;
    return body !== null;
  } catch (error) {
    state.failedSince ??= Date.now();
    state.failure = error instanceof ApiError ? error.message : null;
    console.info("not answered:", error.message);
    return false;
  }
}

/** A failing listener must not stop the others or the fetching. */
function notify(hasChanged) {
  for (const listener of listeners)
    try {
      listener(hasChanged);
    } catch (error) {
      console.error(error);
    }
}

const intervalMs = () => Math.max(500, (state.fleet?.poller.interval_s ?? 5) * 1000);

function transitionsPath() {
  const query = { type: [...STATUSES, "machine_removed"].join(","), limit: MAX_EVENTS, after: lastEventId };
  return withQuery("/api/events", query);
}

/** Remember the newest of these events of each machine; they come newest first. */
function recordTransitions(events) {
  for (const event of [...events].reverse()) state.lastTransitions.set(event.machine, event);
  lastEventId = events.reduce((newest, event) => Math.max(newest, event.id), lastEventId ?? 0);
}
