// Shared by the charts of all pages: uPlot, which draws them, colours, axes, outages, events and dragging.

import { h, loadFile } from "../base/dom.js";
import { number } from "../base/format.js";
import { siteUrl } from "../base/site.js";
import { tickLabels } from "../base/time_ranges.js";

const HEIGHT = 170; // of a chart that is not laid out yet
const MIN_WIDTH = 160;
const AXIS_WIDTH = 44; // the same in all charts, so that a time is at the same place in each
const FONT_PX = 12;
const ROOT_PX = 16;
const MIN_DRAG = 4; // a shorter drag, in pixels, is a click
const MIN_POLLS = 10; // a shorter range would show next to nothing
const COLOURS = {
  muted: "var(--muted)",
  line: "var(--line)",
  accent: "var(--accent)",
  // Light enough for the grid and the average to be seen through a band that fills the chart.
  band: "color-mix(in srgb, var(--accent) 24%, transparent)",
  outage: "color-mix(in srgb, var(--bad) 18%, transparent)",
  event: "var(--unknown)",
};

let loading = null;

/** Resolves when `window.uPlot` is there; a call after a failure loads it again. */
export function loadUplot() {
  loading ??= Promise.all([
    loadFile("link", { rel: "stylesheet", href: siteUrl("/static/vendor/uPlot.min.css") }),
    loadFile("script", { src: siteUrl("/static/vendor/uPlot.iife.min.js") }),
  ]);
  loading.catch(() => {
    loading = null;
  });
  return loading;
}

/** The colours of the page by name, and `more` ({name: CSS colour}), as a canvas understands them. */
export function readColours(more = {}) {
  const probe = h("span", { hidden: true });
  document.body.append(probe);
  const colours = Object.entries({ ...COLOURS, ...more }).map(([name, colour]) => {
    probe.style.color = colour;
    return [name, getComputedStyle(probe).color];
  });
  probe.remove();
  return Object.fromEntries(colours);
}

/** {width, height} of a chart in its element. */
export const plotSize = (element) => ({
  width: Math.max(MIN_WIDTH, element.clientWidth),
  height: element.clientHeight || HEIGHT,
});

/** How much larger than usual the type of the page is, as on the largest screens; a chart has to follow by itself. */
const typeScale = () => Number.parseFloat(getComputedStyle(document.documentElement).fontSize) / ROOT_PX;

/**
 * Options of uPlot for columns [time, ...]. `frame()` returns {from, to, outages, marks}: the time range, what was
 * offline as [{from, to}], and moments to mark. `yRange(maximum)` returns both ends of the scale of values.
 */
export function plotOptions(colours, { size, series, bands = [], point, frame, yRange, onCursor, onSelect }) {
  const scale = typeScale();
  const axis = {
    stroke: colours.muted,
    font: `${Math.round(FONT_PX * scale)}px system-ui, sans-serif`,
    ticks: { stroke: colours.line, width: 1, size: 4 },
    grid: { stroke: colours.line, width: 1 },
  };
  return {
    ...size,
    padding: [8, 22, 0, 0],
    legend: { show: false },
    scales: {
      x: { time: true, range: () => [frame().from, frame().to] },
      y: { range: (_, _minimum, maximum) => yRange(maximum) },
    },
    series,
    bands,
    axes: [
      { ...axis, space: 66 * scale, size: 30 * scale, values: (_, ticks, __, ___, every) => tickLabels(ticks, every) },
      {
        ...axis,
        size: AXIS_WIDTH * scale,
        space: 34 * scale,
        values: (_, ticks) => ticks.map((tick) => number(tick, 2)),
      },
    ],
    cursor: cursorOptions(point),
    hooks: {
      drawClear: [(plot) => drawOutages(plot, frame().outages ?? [], colours.outage)],
      draw: [(plot) => drawMarks(plot, frame().marks ?? [], colours.event)],
      setCursor: [onCursor],
      setSelect: [onSelect],
      ready: [(plot) => dragByTouch(plot.over)],
    },
  };
}

function cursorOptions(point) {
  return {
    y: false,
    drag: { x: true, y: false, setScale: false, dist: MIN_DRAG },
    points: point,
    sync: {
      key: "page",
      scales: ["x", null],
      filters: { pub: (type) => type === "mousemove" || type === "mouseleave" },
    },
  };
}

function drawOutages(plot, outages, colour) {
  const { left, width, top, height } = plot.bbox;
  const place = (time) => Math.min(left + width, Math.max(left, plot.valToPos(time, "x", true)));
  plot.ctx.fillStyle = colour;
  for (const { from, to } of outages) plot.ctx.fillRect(place(from), top, Math.max(1, place(to) - place(from)), height);
}

function drawMarks(plot, marks, colour) {
  const { ctx, bbox } = plot;
  ctx.save();
  ctx.strokeStyle = colour;
  ctx.lineWidth = window.devicePixelRatio;
  ctx.setLineDash([4, 3].map((length) => length * window.devicePixelRatio));
  ctx.beginPath();
  for (const time of marks) {
    const place = plot.valToPos(time, "x", true);
    ctx.moveTo(place, bbox.top);
    ctx.lineTo(place, bbox.top + bbox.height);
  }
  ctx.stroke();
  ctx.restore();
}

/** The range that was selected by dragging, in whole epoch seconds, or null; the selection is cleared. */
export function takeSelection(plot, intervalS) {
  const { left, width } = plot.select;
  const [from, to] = [left, left + width].map((position) => plot.posToVal(position, "x"));
  plot.setSelect({ left: 0, width: 0, top: 0, height: 0 }, false);
  if (width < MIN_DRAG) return null;
  const margin = Math.max(0, MIN_POLLS * intervalS - (to - from)) / 2;
  return { from: Math.floor(from - margin), to: Math.ceil(to + margin) };
}

/** Let a finger drag as the mouse does; moving it up and down scrolls the page. uPlot ignores what has not moved. */
function dragByTouch(over) {
  let start = null;
  const send = (target, type, { clientX, clientY }) =>
    target.dispatchEvent(new MouseEvent(type, { clientX, clientY, movementX: 1, bubbles: true, buttons: 1 }));
  over.style.touchAction = "pan-y";
  over.addEventListener("pointerdown", (event) => {
    if (event.pointerType === "mouse" || !event.isPrimary) return;
    start = event;
    over.setPointerCapture(event.pointerId);
    send(over, "mousemove", event);
    send(over, "mousedown", event);
  });
  over.addEventListener("pointermove", (event) => {
    if (start?.pointerId === event.pointerId) send(over, "mousemove", event);
  });
  const end = (event) => {
    if (start?.pointerId !== event.pointerId) return;
    const last = event.type === "pointerup" ? event : start; // a drag that became scrolling selects nothing
    start = null;
    send(over, "mousemove", last);
    send(over, "mouseup", last);
  };
  over.addEventListener("pointerup", end);
  over.addEventListener("pointercancel", end);
}

/** The indexes of points with a gap on both sides, through which no line is drawn; undefined is no gap. */
export function isolatedPoints(plot, column) {
  const values = plot.data[column];
  const known = [...values.keys()].filter((index) => values[index] !== undefined);
  const isGap = (place) => (values[known[place]] ?? null) === null;
  return known.filter((_, place) => !isGap(place) && isGap(place - 1) && isGap(place + 1));
}
