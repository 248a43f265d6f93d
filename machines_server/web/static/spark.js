// Sparklines of the last hour: made for what is on the screen, a few at a time, and anew once a minute.
import { get, machinePath } from "./api.js";
import { h, onceDrawn, remake, svg } from "./dom.js";
import { number } from "./format.js";
import { serverNow } from "./live.js";

const AT_ONCE = 3;
const FRESH_MS = 60_000;
const STEP_S = 60;
const WIDTH = 120;
const HEIGHT = 28;
const QUERY = `/history?metric=cpu_percent,vram_used_gb,vram_total_gb&from=-1h&step=${STEP_S}`;

const seen = new IntersectionObserver((entries) => {
  for (const { target, isIntersecting } of entries) {
    target.sparkline.spark.isSeen = isIntersecting;
    if (isIntersecting) want(target.sparkline);
  }
}, { rootMargin: "100px" });
const waiting = new Set();
let underWay = 0;

/** An element that shows the last hour of a machine, while the card or row around it is on the screen. */
export function sparkline(name) {
  const element = h("div", { class: "spark" });
  element.spark = { name, madeAt: -Infinity, isSeen: false, isKnown: false };
  return element;
}

/** `root` is what is looked for on the screen: the browser does not lay out what is inside until it is seen. */
export function watch(root, element) {
  root.sparkline = element;
  seen.observe(root);
}

/** Say whether a machine has a past at all; nobody is asked for that of one that never answered. */
export function hasPast(element, isKnown) {
  element.spark.isKnown = isKnown;
}

/** Draw those anew that are seen and have become old. */
export function refresh(elements) {
  for (const element of elements) if (element.spark.isSeen) want(element);
}

export function forget(root) {
  seen.unobserve(root);
  waiting.delete(root.sparkline);
}

function want(element) {
  if (!element.spark.isKnown || performance.now() - element.spark.madeAt < FRESH_MS) return;
  waiting.add(element);
  onceDrawn(next);
}

async function next() {
  const [element] = waiting;
  if (!element || underWay >= AT_ONCE) return;
  waiting.delete(element);
  element.spark.madeAt = performance.now();
  underWay += 1;
  try {
    draw(element, (await get(machinePath(element.spark.name, QUERY))).series);
  } catch (error) {
    console.info("no sparkline:", error.message); // the line stays empty; the next minute tries again
  } finally {
    underWay -= 1;
    next();
  }
}

function draw(element, series) {
  const cpu = series.find(({ metric }) => metric === "cpu_percent").points.map(([at, average]) => [at, average / 100]);
  const used = sum(series, "vram_used_gb");
  const total = sum(series, "vram_total_gb");
  const vram = [...used].filter(([at]) => total.get(at)).map(([at, gb]) => [at, gb / total.get(at)]);
  const from = serverNow() / 1000 - 3600;
  const text = [said("CPU", cpu), vram.length && said("VRAM", vram)].filter(Boolean).join("; ");
  remake(element, [cpu, vram], () =>
    svg("svg", { viewBox: `0 0 ${WIDTH} ${HEIGHT}`, preserveAspectRatio: "none", role: "img", "aria-label": `Last hour: ${text}` },
      svg("title", null, `Last hour: ${text}`),
      lines(cpu, from).map((points) => svg("polyline", { class: "cpu", points })),
      lines(vram, from).map((points) => svg("polyline", { class: "vram", points }))));
}

/** The sum by moment, over those GPUs that could be read then. */
function sum(series, wanted) {
  const sums = new Map();
  for (const { metric, points } of series)
    if (metric === wanted) for (const [at, average] of points) sums.set(at, (sums.get(at) ?? 0) + average);
  return sums;
}

/** One text of points for each stretch without a gap. */
function lines(points, from) {
  const stretches = [];
  let before = -Infinity;
  for (const [at, share] of points) {
    if (at - before > 1.5 * STEP_S) stretches.push([]);
    const x = ((at + STEP_S / 2 - from) / 3600) * WIDTH;
    stretches.at(-1).push(`${x.toFixed(1)},${(HEIGHT - 1 - share * (HEIGHT - 2)).toFixed(1)}`);
    before = at;
  }
  return stretches.map((stretch) => stretch.join(" "));
}

function said(what, points) {
  if (!points.length) return `${what} unknown`;
  const shares = points.map(([, share]) => share * 100);
  return `${what} ${number(shares.at(-1))} %, highest minute ${number(Math.max(...shares))} %`;
}
