import assert from "node:assert/strict";
import { test } from "node:test";

import { availabilitySlots, outagesOf } from "../../machines_server/web/static/machine/outages.js";
import { roundTimes } from "../../machines_server/web/static/shared/time_scale.js";

/** Events [seconds, type, reason], oldest first, as the API has them: newest first. */
const events = (...told) =>
  told.map(([time, type, reason = null]) => ({ at: new Date(time * 1000).toISOString(), type, reason })).reverse();
const seconds = (text) => Date.parse(text) / 1000;

test("an outage lasts until the machine answers again, also if its status is unknown meanwhile", () => {
  const within = events([10, "offline", "refused"], [20, "unknown"], [25, "offline"], [30, "degraded"], [50, "online"]);
  assert.deepEqual(outagesOf([], within, 0, 100), [{ from: 10, to: 30, reason: "refused", isOpen: false }]);
});

test("the newest outage comes first, and one that has not ended is open", () => {
  const within = events([10, "offline"], [20, "machine_removed"], [60, "offline"]);
  assert.deepEqual(outagesOf([], within, 0, 100), [
    { from: 60, to: 100, reason: null, isOpen: true },
    { from: 10, to: 20, reason: null, isOpen: false },
  ]);
});

test("an outage that began before the range begins with it, and one that ended before is none", () => {
  const within = events([60, "online"]);
  assert.deepEqual(outagesOf(events([10, "offline"]), within, 50, 100), [
    { from: 50, to: 60, reason: null, isOpen: false },
  ]);
  assert.deepEqual(outagesOf(events([10, "offline"], [20, "online"]), [], 50, 100), []);
});

test("slots are whole steps, at most 60, with the answered part of their polls", () => {
  const points = [
    [0, 1, 1, 1, 10],
    [5, 0, 0, 0, 30],
    [10, 1, 1, 1, 10],
  ];
  const slots = availabilitySlots(points, { from: 0, to: 600, step: 5 });
  assert.equal(slots.length, 60);
  assert.deepEqual(slots.slice(0, 3), [
    { from: 0, to: 10, share: 0.25 },
    { from: 10, to: 20, share: 1 },
    { from: 20, to: 30, share: null },
  ]);
  const few = availabilitySlots([], { from: 0, to: 25, step: 10 });
  assert.deepEqual(
    few.map(({ from, to }) => [from, to]),
    [
      [0, 10],
      [10, 20],
      [20, 25],
    ],
  );
});

test("a scale has round times of the reader, also when clocks change", () => {
  const from = seconds("2026-03-28T12:00:00Z");
  const { ticks, every } = roundTimes(from, from + 3 * 86_400);
  assert.equal(every, 43_200);
  const hours = ticks.map((time) => new Date(time * 1000).getHours());
  assert.deepEqual(hours, [0, 13, 0, 12, 0, 12]);
  const days = roundTimes(from, from + 6 * 86_400).ticks;
  assert.deepEqual(new Set(days.map((time) => new Date(time * 1000).getHours())), new Set([0]));
  const months = roundTimes(from, from + 365 * 86_400).ticks;
  assert.ok(months.length >= 4 && months.length <= 7);
  assert.deepEqual(new Set(months.map((time) => new Date(time * 1000).getDate())), new Set([1]));
});
