import assert from "node:assert/strict";
import { test } from "node:test";

import {
  dateTimeInputValue,
  RANGES,
  rangeEnds,
  rangeQuery,
  rangeText,
  readRange,
  tickLabels,
  timeOfStep,
} from "../../machines_server/web/static/base/time_ranges.js";

const DAY = 86_400;
const seconds = (text) => Date.parse(text) / 1000;

test("each named range is read from the URL and written there again", () => {
  for (const [name, , length] of RANGES) {
    const range = readRange(`?span=${name}`);
    assert.deepEqual(range, { name, seconds: length });
    assert.equal(rangeQuery(range), `?span=${name}`);
  }
});

test("a range of two times is read, with fractions outwards, and written again", () => {
  assert.deepEqual(readRange("?from=100.9&to=200.1"), { from: 100, to: 201 });
  assert.deepEqual(readRange("?from=0&to=1"), { from: 0, to: 1 });
  assert.equal(rangeQuery({ from: 100, to: 201 }), "?from=100&to=201");
});

test("a range that is no range is the default", () => {
  const invalid = [
    "",
    "?span=2h",
    "?span=toString",
    "?from=5",
    "?to=5",
    "?from=&to=5",
    "?from=5&to=5",
    "?from=6&to=5",
    "?from=-1&to=5",
    "?from=a&to=b",
    "?from=0&to=Infinity",
    "?from=0&to=253370764800",
  ];
  for (const search of invalid) assert.deepEqual(readRange(search), { name: "24h", seconds: DAY }, search);
});

test("a named range ends now; no range ends in the future or is empty", () => {
  assert.deepEqual(rangeEnds({ name: "1h", seconds: 3600 }, 9999.5), { from: 6400, to: 10_000 });
  assert.deepEqual(rangeEnds({ from: 100, to: 200 }, 9999), { from: 100, to: 200 });
  assert.deepEqual(rangeEnds({ from: 100, to: 200 }, 149.5), { from: 100, to: 150 });
  assert.deepEqual(rangeEnds({ from: 100, to: 200 }, 50), { from: 100, to: 101 });
});

test("times are as precise as their steps", () => {
  const time = seconds("2026-07-01T22:30:05Z");
  assert.equal(timeOfStep(time, 59), "2 Jul 2026, 00:30:05");
  assert.equal(timeOfStep(time, 60), "2 Jul 2026, 00:30");
  assert.equal(timeOfStep(time, DAY - 1), "2 Jul 2026, 00:30");
  assert.equal(timeOfStep(time, DAY), "2 Jul 2026");
});

test("a range does not repeat what both its ends have in common", () => {
  const [from, to] = [seconds("2026-07-01T10:00:00Z"), seconds("2026-07-01T11:30:00Z")];
  const text = rangeText(from, to, 60);
  assert.match(text, /12:00/);
  assert.match(text, /13:30/);
  assert.equal(text.match(/2026/g).length, 1);
});

test("ticks name the year in January, the day at midnight, and else month, day, minute or second", () => {
  const labels = (every, ...times) => tickLabels(times.map(seconds), every);
  assert.deepEqual(labels(31 * DAY, "2025-12-31T23:00:00Z", "2026-01-31T23:00:00Z"), ["2026", "Feb"]);
  assert.deepEqual(labels(DAY, "2026-07-01T22:00:00Z"), ["2 Jul"]);
  assert.deepEqual(labels(3600, "2026-07-01T22:00:00Z", "2026-07-01T23:00:00Z"), ["2 Jul", "01:00"]);
  assert.deepEqual(labels(59, "2026-07-01T23:00:59Z"), ["01:00:59"]);
});

test("the value of a datetime-local input is in the reader's time zone, in winter and in summer", () => {
  assert.equal(dateTimeInputValue(seconds("2026-01-01T00:00:59Z")), "2026-01-01T01:00");
  assert.equal(dateTimeInputValue(seconds("2026-07-01T22:30:00Z")), "2026-07-02T00:30");
});

test("what such an input has is the same time again", () => {
  for (const text of ["2026-01-01T00:00:00Z", "2026-07-01T22:30:00Z", "2026-03-29T01:00:00Z"])
    assert.equal(new Date(dateTimeInputValue(seconds(text))).getTime(), Date.parse(text));
});
