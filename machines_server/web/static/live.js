// The present, asked for again and again while somebody looks.
import { onceDrawn } from "./dom.js";
import { asker, get, path, Refused, sentence } from "./api.js";

const FIRST_EVENTS = 1000;
const RETRY_MS = 2000;
const SAME_CLOCK_MS = 1500;

export const STATUSES = ["online", "degraded", "offline", "unknown"];

/** What is known: replaced in parts, as answers come. Times are ms; `offset` is how far the server's clock is ahead. */
export const state = {
  fleet: null,
  leases: [],
  expired: 0,
  health: null,
  since: new Map(),
  offset: 0,
  answeredAt: null,
  failedSince: null,
  failure: null,
  faults: [],
};

const listeners = new Set();
const askFleet = asker("/api/infrastructure");
let timer = null;
let lastEvent = null;
let running = false;
let awaitsOthers = false;

/** Hear of every answer; `isNew` says whether machines or leases are others now. */
export function listen(listener) {
  listeners.add(listener);
  if (state.fleet) listener(true);
  return () => listeners.delete(listener);
}

export const serverNow = () => Date.now() + state.offset;

/** Until when what is shown is known to be so: while the server cannot be reached, its last answer. */
export const knownNow = () => (state.failedSince === null ? Date.now() : state.answeredAt) + state.offset;

/** Begin to ask; while the page is hidden nobody is asked. */
export function start() {
  document.addEventListener("visibilitychange", () => {
    clearTimeout(timer);
    if (!document.hidden) ask();
  });
  ask();
}

async function ask() {
  if (running || document.hidden) return;
  running = true;
  clearTimeout(timer);
  const isNew = await askForFleet();
  running = false;
  if (!document.hidden) timer = setTimeout(ask, state.failedSince ? RETRY_MS : intervalMs());
  tell(isNew);
  // Once that is drawn, which their answers would hold up.
  onceDrawn(askForOthers);
}

/** What stands beside the fleet; however long it takes, the fleet is asked for again in time. */
async function askForOthers() {
  if (awaitsOthers) return;
  awaitsOthers = true;
  const answers = await Promise.allSettled([get("/api/leases"), get("/health"), get(eventsPath())]);
  awaitsOthers = false;
  const [leases, health, events] = answers.map(({ value }) => value);
  const before = JSON.stringify(state.leases);
  if (leases) [state.leases, state.expired] = [leases.leases, leases.expired_10m];
  if (health) state.health = health;
  if (events) noteEvents(events.events);
  const failed = answers.filter(({ reason }) => reason !== undefined);
  state.faults = state.failedSince === null ? failed.map(({ reason }) => sentence(reason)) : []; // the banner says it
  tell(JSON.stringify(state.leases) !== before);
}

/** Whether the fleet is another one now. It alone decides whether the server can be reached. */
async function askForFleet() {
  const asked = performance.now();
  try {
    const { body, serverTime } = await askFleet();
    // The Date header has whole seconds; half of one is the best guess at the rest.
    const offset = serverTime + 500 - (Date.now() - (performance.now() - asked) / 2);
    state.offset = Math.abs(offset) > SAME_CLOCK_MS ? offset : 0;
    if (state.failedSince !== null) lastEvent = null; // it may come back with another database
    state.failedSince = state.failure = null;
    state.answeredAt = Date.now();
    if (body) state.fleet = body;
    return body !== null;
  } catch (error) {
    state.failedSince ??= Date.now();
    state.failure = error instanceof Refused ? error.message : null;
    console.info("not answered:", error.message);
    return false;
  }
}

/** One listener that fails must not stop the others, nor the asking. */
function tell(isNew) {
  for (const listener of listeners)
    try {
      listener(isNew);
    } catch (error) {
      console.error(error);
    }
}

const intervalMs = () => Math.max(500, (state.fleet?.poller.interval_s ?? 5) * 1000);

function eventsPath() {
  const query = { type: [...STATUSES, "machine_removed"].join(","), limit: FIRST_EVENTS, after: lastEvent };
  return path("/api/events", query);
}

/** Since when each machine has its status: its newest transition. */
function noteEvents(events) {
  for (const event of [...events].reverse()) state.since.set(event.machine, event);
  lastEvent = events.reduce((newest, event) => Math.max(newest, event.id), lastEvent ?? 0);
}
