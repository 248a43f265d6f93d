// What of the past is charted, and how its points become columns.
import { number } from "./format.js";
import { moment } from "./spans.js";

/** By metric: what it is called, its unit, and `top`: the end of the scale, or the live value that is. */
const METRICS = {
  cpu_percent: { title: "CPU", unit: "%", top: 100 },
  ram_used_gb: { title: "Memory used", unit: "GiB", total: "ram_total_gb" },
  vram_used_gb: { title: "VRAM used", unit: "GiB", total: "vram_total_gb" },
  utilisation: { title: "Utilisation", unit: "%", top: 100 },
  temperature_c: { title: "Temperature", unit: "°C" },
  power_w: { title: "Power", unit: "W" },
};
export const WANTED = Object.keys(METRICS).join(",");

export const valueText = (value) => number(value, Math.abs(value) < 100 ? 2 : 1);

/**
 * The series of an answer of /history in groups: the host, then each GPU. `machine` is its live state, or null.
 * Two cards that had the same index one after the other are two groups.
 */
export function groupsOf(answer, machine) {
  const host = { name: "Host", model: null, charts: [] };
  const gpus = [];
  const places = {};
  for (const one of answer.series) {
    const metric = METRICS[one.metric];
    const isHost = one.metric === "cpu_percent" || one.metric === "ram_used_gb";
    const place = isHost ? 0 : (places[one.metric] = (places[one.metric] ?? -1) + 1);
    const group = isHost
      ? host
      : (gpus[place] ??= { name: `GPU ${one.gpu ?? "?"}`, model: null, index: one.gpu, charts: [] });
    const live = isHost ? machine?.telemetry : machine?.telemetry.gpu?.find(({ index }) => index === one.gpu);
    group.charts.push({
      key: `${isHost ? "" : place} ${one.metric}`,
      title: metric.title,
      unit: metric.unit,
      metric: one.metric,
      top: metric.top ?? live?.[metric.total] ?? null,
      points: one.points,
    });
  }
  const isThere = ({ charts }) => charts.some(({ points }) => points.length);
  // A card that was taken out long ago says nothing here, if another has its place.
  const shown = gpus.filter(
    (gpu) => isThere(gpu) || !gpus.some((other) => other !== gpu && other.index === gpu.index && isThere(other)),
  );
  for (const gpu of shown) {
    const others = shown.filter((other) => other !== gpu && other.index === gpu.index && isThere(other));
    if (others.some((other) => lastOf(other) > lastOf(gpu))) gpu.name += `, until ${moment(lastOf(gpu) + answer.step_s, answer.step_s)}`;
    const isAlone = gpus.filter((other) => other.index === gpu.index).length === 1;
    if (isAlone) gpu.model = machine?.telemetry.gpu?.find(({ index }) => index === gpu.index)?.model ?? null;
  }
  return [host, ...shown];
}

/** When the last point of a group is. */
const lastOf = ({ charts }) => Math.max(...charts.map(({ points }) => points.at(-1)?.[0] ?? -Infinity));

/**
 * Columns for a chart: [x, most, least, average]. A bucket stands at its middle; where one is missing both ends of
 * the gap get an empty row, so that no line is drawn over it and the cursor finds nothing there.
 */
export function columnsOf(points, { from, to, step, interval }) {
  const limit = gapLimit(points, step, interval);
  const columns = [[], [], [], []];
  const push = (at, ...values) =>
    columns.forEach((column, place) => column.push(place ? values[place - 1] : at + step / 2));
  let before = from - step;
  for (const [at, average, least, most] of points) {
    if (at - before > limit) pushGap(push, before + step, at - step);
    push(at, most, least, average);
    before = at;
  }
  if (to - before > limit) pushGap(push, before + step, to - step);
  return columns;
}

function pushGap(push, first, last) {
  push(first, null, null, null);
  if (last > first) push(last, null, null, null);
}

/** How far two points may lie apart without anything missing: a step may be shorter than the time between polls. */
function gapLimit(points, step, interval) {
  const apart = points
    .slice(1)
    .map(([at], place) => at - points[place][0])
    .sort((one, other) => one - other);
  const median = apart[apart.length >> 1] ?? 0;
  const usual = Math.max(interval, median > step ? median : 0);
  return (Math.floor((usual * 1.1) / step) + 1) * step;
}

/** {latest, at, least, most} over all points, or null. */
export function summaryOf(points) {
  if (!points.length) return null;
  const [at, latest] = points.at(-1);
  const least = points.reduce((found, point) => Math.min(found, point[2]), Infinity);
  const most = points.reduce((found, point) => Math.max(found, point[3]), -Infinity);
  return { at, latest, least, most };
}
