import assert from "node:assert/strict";
import { test } from "node:test";

import { COMPARED, fleetLines, machineLines, pointsTogether } from "../../machines_server/web/static/compare/lines.js";
import { comparePath, readQuery } from "../../machines_server/web/static/compare/query.js";
import { METRICS } from "../../machines_server/web/static/shared/points.js";

const points = (...told) => told.map(([time, value]) => [time, value, value - 1, value + 1, 3]);
const values = (found) => found.map(([time, value]) => [time, value]);
const sum = COMPARED.vram_used_gb.together;

test("what is compared is read from the URL and written there again", () => {
  const path = "/compare?machine=a&machine=b&metric=power_w&span=7d";
  const query = readQuery(path.slice(path.indexOf("?")));
  assert.deepEqual([query.machines, query.metrics, query.range.name], [["a", "b"], ["power_w"], "7d"]);
  assert.equal(comparePath(query), path);
  const moment = "/compare?machine=a&from=100&to=200";
  assert.equal(comparePath(readQuery(moment.slice(moment.indexOf("?")))), moment);
});

test("unknown metrics, repetitions and more than six machines are left out", () => {
  const search = `?${[..."aabcdefgh"].map((name) => `machine=${name}`).join("&")}&metric=nothing&metric=toString`;
  const { machines, metrics } = readQuery(search);
  assert.deepEqual(machines, [..."abcdef"]);
  assert.ok(metrics.every((metric) => metric in METRICS));
});

test("the GPUs of a machine become one line", () => {
  const series = [points([0, 1], [60, 2]), points([0, 3], [60, 4])];
  assert.deepEqual(values(pointsTogether(series, sum)), [
    [0, 4],
    [60, 6],
  ]);
  assert.equal(COMPARED.utilisation.together([10, 30]), 20);
  assert.equal(COMPARED.temperature_c.together([60, 80]), 80);
});

test("a time at which one of the GPUs has no value is a gap, but one that came later or was replaced is none", () => {
  const gap = [points([0, 1], [60, 1], [120, 1]), points([0, 2], [120, 2])];
  assert.deepEqual(values(pointsTogether(gap, sum)), [
    [0, 3],
    [120, 3],
  ]);
  const replaced = [points([0, 1], [60, 1]), points([120, 5])];
  assert.deepEqual(values(pointsTogether(replaced, sum)), [
    [0, 1],
    [60, 1],
    [120, 5],
  ]);
  assert.deepEqual(pointsTogether([[], []], sum), []);
});

test("each machine of an answer has one line for a metric", () => {
  const cpu = { metric: "cpu_percent", points: points([0, 5]) };
  const power = { metric: "power_w", points: points([0, 100]) };
  const machines = [
    { machine: "a", series: [cpu, power] },
    { machine: "b", series: [] },
  ];
  const lines = machineLines({ machines }, "power_w").map(({ name, points: found }) => [name, values(found)]);
  assert.deepEqual(lines, [
    ["a", [[0, 100]]],
    ["b", []],
  ]);
});

test("the fleet has what is free in all, and on the GPU with the most", () => {
  const machines = [
    { series: [{ points: points([0, 10], [60, 12]) }, { points: points([0, 4]) }] },
    { series: [{ points: points([60, 20]) }] },
  ];
  const lines = fleetLines({ machines }, { step: 60, interval: 5 }).map(({ points: found }) => values(found));
  assert.deepEqual(lines, [
    [
      [0, 14],
      [60, 32],
    ],
    [
      [0, 10],
      [60, 20],
    ],
  ]);
});

test("a value counts until the next poll is due, and then no more", () => {
  const machines = [
    { series: [{ points: points([0, 10], [30, 10], [60, 10]) }] },
    { series: [{ points: points([10, 5], [40, 5]) }] },
  ];
  const [all] = fleetLines({ machines }, { step: 10, interval: 30 });
  assert.deepEqual(values(all.points), [
    [0, 10],
    [10, 15],
    [30, 15],
    [40, 15],
    [60, 15],
  ]);
  machines[1].series[0].points.pop();
  const [fewer] = fleetLines({ machines }, { step: 10, interval: 30 });
  assert.deepEqual(values(fewer.points).at(-1), [60, 10]);
});
