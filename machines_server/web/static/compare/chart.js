// One chart with a line for each of several names, and the same as a list of values.

import { h, renderIfChanged, setText, svg } from "../base/dom.js";
import { rangeText, timeOfStep } from "../base/time_ranges.js";
import { isolatedPoints, plotOptions, plotSize, takeSelection } from "../shared/plots.js";
import { chartColumns, summarize, valueText } from "../shared/points.js";

/** Lines differ in their dashes as well, for readers who cannot tell the colours apart. */
const DASHES = [[], [8, 4], [2, 3], [10, 3, 2, 3], [5, 2], [1, 2]];
const AVERAGE = 3;
const WHOLE_GAPS = 2; // uPlot: what lies between the two ends of a gap belongs to the gap
/** Shown instead of a value that is missing at a moment, or in the whole time range. */
const MISSING = { now: "no data", ever: "no data in this time range" };

/** The colours of lines, for `readColours`. */
export const LINE_COLOURS = Object.fromEntries(DASHES.map((_, place) => [`line-${place}`, `var(--line-${place})`]));

/** {root, show(lines, frame, colours), draw, fit, isDragging, close}; `onRange({from, to})` is called after a drag. */
export function makeLineChart(title, unit, onRange) {
  const canvas = h("div", { class: "canvas", role: "img" });
  const time = h("p", { class: "quiet" });
  const values = h("ul", { class: "lines" });
  const nothing = h("p", { class: "empty nothing" }, "No machine reported this in the time range.");
  const head = h("div", { class: "chart-head" }, h("h2", null, `${title}, ${unit}`), time);
  const root = h("figure", { class: "card chart" }, head, values, canvas, nothing);
  let plot = null;
  let drawn = null;
  let lines = [];
  let frame = null;
  let columns = null;

  function show(newLines, newFrame, colours) {
    lines = newLines;
    frame = newFrame;
    // Each line keeps its own gaps, also where others have points; times that only others have do not interrupt it.
    columns = window.uPlot.join(
      lines.map(({ points }) => {
        const all = chartColumns(points, frame);
        return [all[0], all[AVERAGE]];
      }),
      lines.map(() => [1, WHOLE_GAPS]),
    );
    canvas.setAttribute("aria-label", description());
    nothing.hidden = lines.some(({ points }) => points.length > 0);
    canvas.hidden = !nothing.hidden;
    time.hidden = canvas.hidden;
    draw(colours);
  }

  function draw(colours) {
    const key = JSON.stringify([colours, lines.length]);
    if (drawn === key) plot.setData(columns);
    else {
      plot?.destroy();
      plot = new window.uPlot(options(colours), columns, canvas);
      drawn = key;
    }
    showValues();
  }

  const options = (colours) =>
    plotOptions(colours, {
      size: plotSize(canvas),
      series: [{}, ...lines.map((_, place) => lineOptions(colours[`line-${place}`], DASHES[place]))],
      point: { size: 7 },
      frame: () => frame,
      yRange: (maximum) => [0, maximum * 1.05 || 1],
      onCursor: showValues,
      onSelect: selectRange,
    });

  function showValues() {
    const { idx: index, left } = plot?.cursor ?? {};
    const isUnderCursor = left >= 0 && columns[0][index] !== undefined; // new columns may be fewer
    const texts = lines.map(({ points }, place) => {
      const value = isUnderCursor ? columns[place + 1][index] : summarize(points)?.latest;
      return (value ?? null) === null ? MISSING[points.length ? "now" : "ever"] : valueText(value, unit);
    });
    setText(time, isUnderCursor ? timeOfStep(columns[0][index] - frame.step / 2, frame.step) : "latest averages");
    renderIfChanged(values, [texts, lines.map(({ name }) => name)], () =>
      lines.map(({ name }, place) => h("li", null, sample(place), name, " ", h("b", null, texts[place]))),
    );
  }

  function selectRange() {
    const range = takeSelection(plot, frame.interval);
    if (range) onRange(range);
  }

  function description() {
    const texts = lines.map(({ name, points }) => {
      const summary = summarize(points);
      if (!summary) return `${name}: nothing was recorded`;
      const [latest, low, high] = [summary.latest, summary.minimum, summary.maximum].map((one) => valueText(one, unit));
      return `${name}: latest ${latest}, averages from ${low} to ${high}`;
    });
    return `${title}, ${unit}, ${rangeText(frame.from, frame.to, 60)}. ${texts.join("; ")}.`;
  }

  function fit() {
    const size = plotSize(canvas);
    if (plot && (plot.width !== size.width || plot.height !== size.height)) plot.setSize(size);
  }

  const isDragging = () => plot?.select.width > 0;
  return { root, show, draw, fit, isDragging, close: () => plot?.destroy() };
}

const lineOptions = (colour, dash) => ({
  scale: "y",
  stroke: colour,
  width: 1.75,
  dash,
  points: { show: true, filter: isolatedPoints, size: 5, fill: colour },
});

/** A piece of a line as it is drawn in the charts. */
const sample = (place) =>
  svg(
    "svg",
    { class: `sample line-${place}`, viewBox: "0 0 30 4", "aria-hidden": "true" },
    svg("path", { d: "M0 2H30", "stroke-dasharray": DASHES[place].join(" ") || null }),
  );
