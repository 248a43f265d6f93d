// One line for each machine, with its GPUs combined. Nothing here touches the page.

import { METRICS, maxPointDistance } from "../shared/points.js";

const sum = (values) => values.reduce((total, value) => total + value, 0);
const mean = (values) => sum(values) / values.length;
const largest = (values) => values.reduce((found, value) => Math.max(found, value), -Infinity);
const first = ([value]) => value;

/** By metric: its title for a whole machine, and how the values of its GPUs are combined. */
export const COMPARED = {
  cpu_percent: { title: "CPU", together: first },
  ram_used_gb: { title: "Memory used", together: first },
  vram_used_gb: { title: "VRAM used on all GPUs", together: sum },
  vram_free_gb: { title: "VRAM free on all GPUs", together: sum },
  utilisation: { title: "Utilisation, mean of all GPUs", together: mean },
  temperature_c: { title: "Temperature of the hottest GPU", together: largest },
  power_w: { title: "Power of all GPUs", together: sum },
};

/** The title of a metric of a whole machine, with its unit. */
export const metricText = (metric) => `${COMPARED[metric].title}, ${METRICS[metric].unit}`;

/** The lines of one metric in an answer of /api/history: [{name, points}], one per machine. */
export const machineLines = ({ machines }, metric) =>
  machines.map(({ machine, series }) => ({
    name: machine,
    points: pointsTogether(
      series.filter((one) => one.metric === metric).map(({ points }) => points),
      COMPARED[metric].together,
    ),
  }));

/**
 * The VRAM that is free in the whole fleet: in total, and on the GPU with the most. A machine that did not answer has none. A value
 * counts until the next poll is due, since not all machines are polled in each step.
 */
export function fleetLines({ machines }, { step, interval }) {
  const all = machines.flatMap(({ series }) => series.map(({ points }) => points));
  const times = [...new Set(all.flatMap((points) => points.map(([time]) => time)))].sort((one, other) => one - other);
  const totals = times.map(() => ({ sum: 0, most: 0 }));
  for (const points of all) {
    const reach = maxPointDistance(points, step, interval);
    let next = 0;
    for (const [place, time] of times.entries()) {
      while (points[next]?.[0] <= time) next += 1;
      const [since, free] = points[next - 1] ?? [-Infinity];
      if (time - since >= reach) continue;
      totals[place].sum += free;
      totals[place].most = Math.max(totals[place].most, free);
    }
  }
  const line = (name, key) => ({ name, points: times.map((time, place) => pointOf(time, totals[place][key])) });
  return [line("all GPUs together", "sum"), line("GPU with the most", "most")];
}

const pointOf = (time, value) => [time, value, value, value, 1];

/**
 * Points of several GPUs as those of one. A time at which some GPU has no point has none, unless the GPU came later or
 * was gone before: half of the GPUs are not the machine.
 */
export function pointsTogether(series, together) {
  const present = series
    .filter((points) => points.length)
    .map((points) => ({
      from: points[0][0],
      to: points.at(-1)[0],
      byTime: new Map(points.map(([time, average]) => [time, average])),
    }));
  const times = [...new Set(present.flatMap(({ byTime }) => [...byTime.keys()]))].sort((one, other) => one - other);
  return times.flatMap((time) => {
    const expected = present.filter(({ from, to }) => from <= time && time <= to);
    if (!expected.every(({ byTime }) => byTime.has(time))) return [];
    return [pointOf(time, together(expected.map(({ byTime }) => byTime.get(time))))];
  });
}
