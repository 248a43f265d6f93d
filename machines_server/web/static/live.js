// The present, asked for again and again while somebody looks.
import { asker, get, path } from "./api.js";

const STATUS_TYPES = "online,degraded,offline,unknown";
const FIRST_EVENTS = 1000;
const RETRY_MS = 2000;

/** What is known: replaced in parts, as answers come. Times are ms; `offset` is how far the server's clock is ahead. */
export const state = {
  fleet: null,
  leases: [],
  health: null,
  since: new Map(),
  ranOut: [],
  offset: 0,
  answeredAt: null,
  failedSince: null,
};

const listeners = new Set();
const askFleet = asker("/api/infrastructure");
let timer = null;
let lastEvent = null;
let running = false;

/** Hear of every change, and of every answer that brought none (`isNew` is false then). */
export function listen(listener) {
  listeners.add(listener);
  if (state.fleet) listener(true);
  return () => listeners.delete(listener);
}

export const serverNow = () => Date.now() + state.offset;

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
  let isNew = false;
  try {
    const asked = performance.now();
    const [answer, leases, health, events] = await Promise.all([
      askFleet(), get("/api/leases"), get("/health"), get(eventsPath()),
    ]);
    const tookMs = performance.now() - asked;
    // The Date header has whole seconds; half of one is the best guess at the rest.
    if (answer.serverTime) state.offset = answer.serverTime + 500 - (Date.now() - tookMs / 2);
    if (Math.abs(state.offset) < 1500) state.offset = 0;
    isNew = answer.body !== null || events.events.length > 0 || !same(leases.leases, state.leases) || !same(health, state.health);
    if (answer.body) state.fleet = answer.body;
    noteLeases(leases.leases);
    state.health = health;
    noteEvents(events.events);
    state.answeredAt = Date.now();
    state.failedSince = null;
  } catch (error) {
    state.failedSince ??= Date.now();
    console.info("not answered:", error.message);
  } finally {
    running = false;
  }
  for (const listener of listeners) listener(isNew);
  if (!document.hidden) timer = setTimeout(ask, state.failedSince ? RETRY_MS : intervalMs());
}

const intervalMs = () => Math.max(500, (state.fleet?.poller.interval_s ?? 5) * 1000);

function eventsPath() {
  const query = { type: `${STATUS_TYPES},machine_removed`, limit: FIRST_EVENTS, after: lastEvent };
  return path("/api/events", query);
}

/** Since when each machine has its status: its newest transition. */
function noteEvents(events) {
  for (const event of [...events].reverse()) state.since.set(event.machine, event);
  lastEvent = events.reduce((newest, event) => Math.max(newest, event.id), lastEvent ?? 0);
}

/** Leases that ended by time, not by being released: many of them mean agents that die or forget. */
function noteLeases(leases) {
  const there = new Set(leases.map((lease) => lease.lease));
  const now = serverNow();
  for (const lease of state.leases)
    if (!there.has(lease.lease) && Date.parse(lease.expires_at) <= now + 1000) state.ranOut.push(now);
  state.ranOut = state.ranOut.filter((at) => now - at < 600_000);
  state.leases = leases;
}

const same = (one, other) => JSON.stringify(one) === JSON.stringify(other);
