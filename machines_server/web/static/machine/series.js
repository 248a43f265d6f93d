// Which metrics of the history are charted, and in which groups.

import { timeOfStep } from "../base/time_ranges.js";
import { METRICS } from "../shared/points.js";

const CHARTED = ["cpu_percent", "ram_used_gb", "vram_used_gb", "utilisation", "temperature_c", "power_w"];

const HOST_METRICS = ["cpu_percent", "ram_used_gb"];

/** The charted metrics, as a parameter of /history. */
export const HISTORY_METRICS = CHARTED.join(",");

/**
 * The series of an answer of /history in groups {name, model, charts}: the host, then each GPU. `machine` is the live
 * state or null. Two cards that had the same index one after the other are two groups.
 */
export function chartGroups(answer, machine) {
  const host = { name: "Host", model: null, charts: [] };
  const gpus = [];
  const seriesSeen = new Map(); // counts by metric: the nth series of each GPU metric belongs to the nth card
  for (const series of answer.series.filter(({ metric }) => CHARTED.includes(metric))) {
    if (HOST_METRICS.includes(series.metric)) {
      host.charts.push(chartOf(series, "", machine?.telemetry));
      continue;
    }
    const place = seriesSeen.get(series.metric) ?? 0;
    seriesSeen.set(series.metric, place + 1);
    gpus[place] ??= { name: `GPU ${series.gpu ?? "?"}`, model: series.model, index: series.gpu, charts: [] };
    const live = machine?.telemetry.gpu?.find(({ uuid }) => uuid === series.uuid);
    gpus[place].charts.push(chartOf(series, place, live));
  }
  return [host, ...withoutReplacedGpus(gpus, answer.step_s)];
}

function chartOf({ metric, points }, place, live) {
  const { title, unit, top, topKey } = METRICS[metric];
  return { key: `${place} ${metric}`, title, unit, metric, top: top ?? live?.[topKey] ?? null, points };
}

/**
 * Leave out cards without points if another card has their index; the name of a replaced card says until when
 * it was there.
 */
function withoutReplacedGpus(gpus, step) {
  const hasPoints = ({ charts }) => charts.some(({ points }) => points.length);
  const others = (gpu) => gpus.filter((other) => other !== gpu && other.index === gpu.index && hasPoints(other));
  return gpus
    .filter((gpu) => hasPoints(gpu) || !others(gpu).length)
    .map((gpu) => {
      const last = lastTime(gpu);
      if (!others(gpu).some((other) => lastTime(other) > last)) return gpu;
      return { ...gpu, name: `${gpu.name}, until ${timeOfStep(last + step, step)}` };
    });
}

const lastTime = ({ charts }) => Math.max(...charts.map(({ points }) => points.at(-1)?.[0] ?? -Infinity));
