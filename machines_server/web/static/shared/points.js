// The points of the history: what they measure, as text, and as the columns of a chart.

import { number } from "../base/format.js";

/** By metric: title, unit, and the end of the scale: `top`, or the telemetry value named by `topKey`. */
export const METRICS = {
  cpu_percent: { title: "CPU", unit: "%", top: 100 },
  ram_used_gb: { title: "Memory used", unit: "GiB", topKey: "ram_total_gb" },
  vram_used_gb: { title: "VRAM used", unit: "GiB", topKey: "vram_total_gb" },
  vram_free_gb: { title: "VRAM free", unit: "GiB", topKey: "vram_total_gb" },
  utilisation: { title: "Utilisation", unit: "%", top: 100 },
  temperature_c: { title: "Temperature", unit: "°C" },
  power_w: { title: "Power", unit: "W" },
};

/** By unit, how many decimals mean something. */
const DECIMALS = { GiB: 1, "%": 0, "°C": 0, W: 0 };

/** A value with the decimals that suit its unit; what would be shown as 0 but is not has one more. */
export function valueText(value, unit) {
  const decimals = DECIMALS[unit] ?? 2;
  const isTooSmall = value !== 0 && Math.abs(value) < 0.5 / 10 ** decimals;
  return number(value, isTooSmall ? decimals + 1 : decimals);
}

/**
 * The columns of a chart: [time, maximum, minimum, average]. A point is drawn at the middle of its step. Both ends of
 * a gap get an empty row, so that no line is drawn across it and the cursor finds nothing there.
 */
export function chartColumns(points, { from, to, step, interval }) {
  const maxDistance = maxPointDistance(points, step, interval);
  const rows = [];
  const addGap = (first, last) => {
    rows.push([first, null, null, null]);
    if (last > first) rows.push([last, null, null, null]);
  };
  let before = from - step;
  for (const [time, average, minimum, maximum] of points) {
    if (time - before > maxDistance) addGap(before + step, time - step);
    rows.push([time, maximum, minimum, average]);
    before = time;
  }
  if (to - before > maxDistance) addGap(before + step, to - step);
  const times = rows.map(([time]) => time + step / 2);
  return [times, ...[1, 2, 3].map((column) => rows.map((row) => row[column]))];
}

/** How far apart two points may be without a gap: a step may be shorter than the time between two polls. */
export function maxPointDistance(points, step, interval) {
  const distances = points.slice(1).map(([time], place) => time - points[place][0]);
  const median = distances.sort((one, other) => one - other)[distances.length >> 1] ?? 0;
  const usual = Math.max(interval, median > step ? median : 0);
  return (Math.floor((usual * 1.1) / step) + 1) * step;
}

/** {latest, minimum, maximum} over all points; null without any. */
export function summarize(points) {
  if (!points.length) return null;
  const [, latest] = points.at(-1);
  const minimum = points.reduce((found, point) => Math.min(found, point[2]), Infinity);
  const maximum = points.reduce((found, point) => Math.max(found, point[3]), -Infinity);
  return { latest, minimum, maximum };
}
