import assert from "node:assert/strict";
import { test } from "node:test";
import { dataOf } from "../../machines_server/web/static/machine/data_table.js";
import { chartGroups } from "../../machines_server/web/static/machine/series.js";
import { isolatedPoints } from "../../machines_server/web/static/shared/plots.js";
import { chartColumns, summarize, valueText } from "../../machines_server/web/static/shared/points.js";

/** Points [time, average, minimum, maximum, count] at these times. */
const pointsAt = (...times) => times.map((time) => [time, 5, 1, 9, 1]);
const FRAME = { from: 0, to: 300, step: 60, interval: 5 };

test("values have the decimals that mean something", () => {
  assert.equal(valueText(61.37, "°C"), "61");
  assert.equal(valueText(99.96, "GiB"), "100");
  assert.equal(valueText(18.24, "GiB"), "18.2");
  assert.equal(valueText(12.4, "%"), "12");
  assert.equal(valueText(0.24, "%"), "0.2");
  assert.equal(valueText(0, "%"), "0");
  assert.equal(valueText(undefined, "W"), "–");
});

test("a point is drawn at the middle of its step, as maximum, minimum and average", () => {
  const columns = chartColumns(pointsAt(0, 60, 120, 180, 240), FRAME);
  assert.deepEqual(columns[0], [30, 90, 150, 210, 270]);
  assert.deepEqual(
    columns.slice(1).map((column) => column[0]),
    [9, 1, 5],
  );
});

test("both ends of a gap have an empty row, so that no line is drawn across it", () => {
  const [times, , , averages] = chartColumns(pointsAt(0, 60, 300, 360), { ...FRAME, to: 420 });
  assert.deepEqual(times, [30, 90, 150, 270, 330, 390]);
  assert.deepEqual(averages, [5, 5, null, null, 5, 5]);
});

test("a gap of one step has one empty row", () => {
  const [times, , , averages] = chartColumns(pointsAt(0, 60, 180, 240), FRAME);
  assert.deepEqual(times, [30, 90, 150, 210, 270]);
  assert.deepEqual(averages, [5, 5, null, 5, 5]);
});

test("what is missing at the start and the end of the range is a gap as well", () => {
  const [times, , , averages] = chartColumns(pointsAt(120), FRAME);
  assert.deepEqual(times, [30, 90, 150, 210, 270]);
  assert.deepEqual(averages, [null, null, 5, null, null]);
});

test("without points there are only the ends of the range", () => {
  assert.deepEqual(chartColumns([], FRAME), [
    [30, 270],
    [null, null],
    [null, null],
    [null, null],
  ]);
});

test("steps that are shorter than the time between polls leave no gaps", () => {
  const frame = { from: 0, to: 40, step: 1, interval: 10 };
  const [, , , averages] = chartColumns(pointsAt(0, 10, 20, 30), frame);
  assert.ok(!averages.includes(null));
});

test("points that were recorded at a longer interval than today's leave no gaps", () => {
  const frame = { from: 0, to: 240, step: 10, interval: 5 };
  const [, , , averages] = chartColumns(pointsAt(0, 60, 120, 180), frame);
  assert.ok(!averages.includes(null));
});

test("a summary is over all points, and there is none without points", () => {
  const points = [
    [0, 5, 2, 7, 1],
    [60, 6, 3, 11, 1],
    [120, 4, 1, 8, 1],
  ];
  assert.deepEqual(summarize(points), { latest: 4, minimum: 1, maximum: 11 });
  assert.equal(summarize([]), null);
});

test("series become groups: the host, then each GPU with the end of its scale", () => {
  const series = [
    { metric: "cpu_percent", points: pointsAt(0) },
    { metric: "ram_used_gb", points: pointsAt(0) },
    { metric: "vram_used_gb", gpu: 0, uuid: "a", model: "A", points: pointsAt(0) },
    { metric: "vram_used_gb", gpu: 1, uuid: "b", model: "B", points: pointsAt(0) },
    { metric: "power_w", gpu: 0, uuid: "a", model: "A", points: pointsAt(0) },
  ];
  const telemetry = { ram_total_gb: 128, gpu: [{ uuid: "b", vram_total_gb: 48 }] };
  const groups = chartGroups({ step_s: 60, series }, { telemetry });
  assert.deepEqual(
    groups.map(({ name, model }) => [name, model]),
    [
      ["Host", null],
      ["GPU 0", "A"],
      ["GPU 1", "B"],
    ],
  );
  const tops = groups.map(({ charts }) => charts.map(({ metric, top }) => [metric, top]));
  assert.deepEqual(tops, [
    [
      ["cpu_percent", 100],
      ["ram_used_gb", 128],
    ],
    [
      ["vram_used_gb", null],
      ["power_w", null],
    ],
    [["vram_used_gb", 48]],
  ]);
  const keys = groups.flatMap(({ charts }) => charts.map(({ key }) => key));
  assert.equal(new Set(keys).size, series.length);
});

test("the scale of a machine that is not declared any more has no end", () => {
  const [host] = chartGroups({ step_s: 60, series: [{ metric: "ram_used_gb", points: pointsAt(0) }] }, null);
  assert.equal(host.charts[0].top, null);
});

test("of two cards with the same index the earlier says until when it was there", () => {
  const series = [pointsAt(0, 60), pointsAt(120, 180), []].map((points, place) => ({
    metric: "power_w",
    gpu: place && place - 1,
    uuid: String(place),
    model: "abc"[place],
    points,
  }));
  const found = chartGroups({ step_s: 60, series }, null).map(({ name, model }) => [name, model]);
  assert.deepEqual(found, [
    ["Host", null],
    ["GPU 0, until 1 Jan 1970, 01:02", "a"],
    ["GPU 0", "b"],
    ["GPU 1", "c"],
  ]);
});

test("a card without points is left out if another card has its index", () => {
  const series = [[], pointsAt(120)].map((points, place) => ({
    metric: "power_w",
    gpu: 0,
    uuid: String(place),
    points,
  }));
  const [, ...gpus] = chartGroups({ step_s: 60, series }, null);
  assert.deepEqual(
    gpus.map(({ name, charts }) => [name, charts[0].points.length]),
    [["GPU 0", 1]],
  );
});

test("points without neighbours are drawn as points, since no line leads to them", () => {
  const found = (values) => isolatedPoints({ data: [[], [], [], values] }, 3);
  assert.deepEqual(found([1, null, 2, 3, null, 4]), [0, 5]);
  assert.deepEqual(found([null, 0, null]), [1]);
  assert.deepEqual(found([1, 2]), []);
  assert.deepEqual(found([7]), [0]);
  assert.deepEqual(found([1, undefined, 2, null, undefined, 3]), [5]);
});

test("the data table has a row for each time, newest first, and leaves open what is missing", () => {
  const chart = (title, points) => ({ title, unit: "%", points });
  const groups = [
    { name: "Host", charts: [chart("CPU", [[0, 5, 1, 9, 3]]), chart("Empty", [])] },
    { name: "GPU 0", charts: [chart("Utilisation", [[60, 6, 2, 8, 3]])] },
  ];
  const none = [undefined, undefined, undefined];
  assert.deepEqual(dataOf(groups), {
    columns: ["Host: CPU, %", "GPU 0: Utilisation, %"],
    rows: [
      [60, [...none, 6, 2, 8]],
      [0, [5, 1, 9, ...none]],
    ],
  });
});
