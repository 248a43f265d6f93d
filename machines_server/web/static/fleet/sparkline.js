// Sparklines of the last hour: only for machines on the screen, a few at a time, and again each minute.

import { afterPaint, h, renderIfChanged, svg } from "../base/dom.js";
import { number } from "../base/format.js";
import { serverNow } from "../base/live.js";
import { get, machineApi } from "../base/site.js";

const MAX_REQUESTS = 3;
const FRESH_MS = 60_000;
const STEP_S = 60;
const WIDTH = 120;
const HEIGHT = 28;
const QUERY = `/history?metric=cpu_percent,vram_used_gb,vram_total_gb&from=-1h&step=${STEP_S}`;

let observer = null;
const waiting = new Set();
let requests = 0;

/**
 * An element that shows the last hour of a machine while `root`, the card or row around it, is on the screen.
 * `root` is observed rather than the sparkline, since the browser does not lay out its content before.
 */
export function makeSparkline(name, root) {
  const element = h("div", { class: "spark" });
  element.sparkline = { name, drawnAt: -Infinity, isVisible: false, hasHistory: false };
  root.sparklineElement = element;
  observer ??= new IntersectionObserver(onVisibility, { rootMargin: "100px" });
  observer.observe(root);
  return element;
}

function onVisibility(entries) {
  for (const { target, isIntersecting } of entries) {
    target.sparklineElement.sparkline.isVisible = isIntersecting;
    if (isIntersecting) request(target.sparklineElement);
  }
}

/** Whether a machine has ever answered; if not, it has no history to ask for. */
export function setHasHistory(element, hasHistory) {
  element.sparkline.hasHistory = hasHistory;
  if (!hasHistory) element.classList.add("none");
}

/** Redraw the visible ones that are old. */
export function refreshSparklines(elements) {
  for (const element of elements) if (element.sparkline.isVisible) request(element);
}

/** End what `makeSparkline` began for a card or row. */
export function forgetSparkline(root) {
  observer.unobserve(root);
  waiting.delete(root.sparklineElement);
}

function request(element) {
  const { hasHistory, drawnAt } = element.sparkline;
  if (!hasHistory || performance.now() - drawnAt < FRESH_MS) return;
  waiting.add(element);
  afterPaint(drawNext);
}

async function drawNext() {
  const [element] = waiting;
  if (!element || requests >= MAX_REQUESTS) return;
  waiting.delete(element);
  element.sparkline.drawnAt = performance.now();
  requests += 1;
  try {
    draw(element, (await get(machineApi(element.sparkline.name, QUERY))).series);
  } catch (error) {
    console.info("no sparkline:", error.message); // the old one stays; the next minute tries again
  } finally {
    requests -= 1;
    drawNext();
  }
}

function draw(element, series) {
  const { cpu, vram } = sharesOf(series);
  const from = serverNow() / 1000 - 3600;
  element.classList.toggle("none", cpu.length + vram.length === 0);
  element.classList.toggle("has-vram", vram.length > 0);
  const text = [shareText("CPU", cpu), vram.length && shareText("VRAM", vram)].filter(Boolean).join("; ");
  const label = `Last hour: ${text}`;
  const viewBox = `0 0 ${WIDTH} ${HEIGHT}`;
  renderIfChanged(element, [cpu, vram], () =>
    svg(
      "svg",
      { viewBox, preserveAspectRatio: "none", role: "img", "aria-label": label },
      svg("title", null, label),
      polylines(cpu, from).map((points) => svg("polyline", { class: "cpu", points: drawable(points) })),
      polylines(vram, from).map((points) => svg("polyline", { class: "vram", points: drawable(points) })),
    ),
  );
}

/** A line from a single point to itself is drawn as a dot; a single point is not drawn at all. */
const drawable = (points) => (points.includes(" ") ? points : `${points} ${points}`);

/** Points [epoch s, share of 1] of CPU and VRAM, the latter over all GPUs that could be read at that time. */
export function sharesOf(series) {
  const cpu = series.find(({ metric }) => metric === "cpu_percent").points;
  const used = sumByTime(series, "vram_used_gb");
  const total = sumByTime(series, "vram_total_gb");
  return {
    cpu: cpu.map(([time, average]) => [time, average / 100]),
    vram: [...used].filter(([time]) => total.get(time)).map(([time, gb]) => [time, gb / total.get(time)]),
  };
}

function sumByTime(series, wanted) {
  const sums = new Map();
  for (const { metric, points } of series)
    if (metric === wanted) for (const [time, average] of points) sums.set(time, (sums.get(time) ?? 0) + average);
  return sums;
}

/** The `points` of one polyline for each stretch without a gap. */
export function polylines(points, from) {
  const stretches = [];
  let before = -Infinity;
  for (const [time, share] of points) {
    if (time - before > 1.5 * STEP_S) stretches.push([]);
    const x = ((time + STEP_S / 2 - from) / 3600) * WIDTH;
    const y = HEIGHT - 1 - share * (HEIGHT - 2);
    stretches.at(-1).push(`${x.toFixed(1)},${y.toFixed(1)}`);
    before = time;
  }
  return stretches.map((stretch) => stretch.join(" "));
}

function shareText(what, points) {
  if (!points.length) return `${what} unknown`;
  const percents = points.map(([, share]) => share * 100);
  return `${what} ${number(percents.at(-1))} %, highest minute ${number(Math.max(...percents))} %`;
}
