// One chart: the average of a series between its minimum and maximum, and the same as a text.

import { h, renderIfChanged, setText } from "../base/dom.js";
import { number } from "../base/format.js";
import { rangeText, timeOfStep } from "../base/time_ranges.js";
import { isolatedPoints, plotOptions, plotSize, takeSelection } from "../shared/plots.js";
import { chartColumns, summarize, valueText } from "../shared/points.js";

const AVERAGE = 3; // the last of the columns, so that its line is drawn over the band

/** {root, show, draw, fit, isDragging, close}; `onRange({from, to})` is called after a range was dragged. */
export function makeChart(unit, onRange) {
  const canvas = h("div", { class: "canvas", role: "img" });
  const heading = h("h4");
  const moment = h("span", { class: "quiet" });
  const readout = h("p", { class: "readout" });
  const root = h(
    "figure",
    { class: "card chart" },
    h("div", { class: "chart-head" }, heading, moment),
    readout,
    canvas,
  );
  const text = (value) => valueText(value, unit);
  let plot = null;
  let drawnColours = null;
  let series = null;
  let frame = null;
  let columns = null;

  function show(newSeries, group, newFrame, colours) {
    series = newSeries;
    frame = newFrame;
    columns = chartColumns(series.points, frame);
    setText(
      heading,
      `${series.title}, ${unit}${series.top && series.top !== 100 ? ` of ${number(series.top, 1)}` : ""}`,
    );
    canvas.setAttribute("aria-label", description(group, series, frame));
    draw(colours);
  }

  function draw(colours) {
    if (drawnColours === colours) plot.setData(columns);
    else {
      plot?.destroy();
      plot = new window.uPlot(options(colours), columns, canvas);
      drawnColours = colours;
    }
    showReadout();
  }

  const options = (colours) =>
    plotOptions(colours, {
      size: plotSize(canvas),
      series: seriesOptions(colours),
      bands: [{ series: [1, 2], fill: colours.band }],
      point: {
        show: (_, column) => column === AVERAGE && h("div"),
        size: 7,
        fill: colours.accent,
        stroke: colours.accent,
      },
      frame: () => frame,
      yRange: (maximum) => [0, (maximum > (series.top ?? 0) ? maximum * 1.05 : series.top) || 1],
      onCursor: showReadout,
      onSelect: selectRange,
    });

  function showReadout() {
    const { idx: index, left } = plot?.cursor ?? {};
    const isUnderCursor = left >= 0 && columns[0][index] !== undefined; // new columns may be fewer
    const key = isUnderCursor ? columns.map((column) => column[index]) : (summarize(series.points) ?? "nothing");
    setText(moment, isUnderCursor ? momentText(index) : "");
    renderIfChanged(readout, key, () => (isUnderCursor ? pointValues(index) : summaryValues()));
  }

  function momentText(index) {
    const [time, , , average] = columns.map((column) => column[index]);
    const cursorTime = () => plot.posToVal(plot.cursor.left, "x");
    return timeOfStep(average === null ? cursorTime() : time - frame.step / 2, frame.step);
  }

  // Both texts have one line, so that nothing moves under the cursor. The unit is in the heading.
  function pointValues(index) {
    const [, maximum, minimum, average] = columns.map((column) => column[index]);
    if (average === null) return "nothing recorded";
    return [keyed("line", `average ${text(average)}`), keyed("band", `min–max ${text(minimum)} to ${text(maximum)}`)];
  }

  function summaryValues() {
    const summary = summarize(series.points);
    if (!summary) return "Nothing was recorded in this time range.";
    const { latest, minimum, maximum } = summary;
    return [keyed("line", `latest ${text(latest)}`), keyed("band", `min–max ${text(minimum)} to ${text(maximum)}`)];
  }

  function selectRange() {
    const range = takeSelection(plot, frame.interval);
    if (range) onRange(range);
  }

  function fit() {
    const size = plotSize(canvas);
    if (plot && (plot.width !== size.width || plot.height !== size.height)) plot.setSize(size);
  }

  const isDragging = () => plot?.select.width > 0;
  return { root, show, draw, fit, isDragging, close: () => plot?.destroy() };
}

/** A chart in words, for screen readers. */
function description(group, { title, unit, points }, { from, to }) {
  const summary = summarize(points);
  const texts = [summary?.latest, summary?.minimum, summary?.maximum].map((value) => valueText(value, unit));
  const [latest, minimum, maximum] = texts;
  const text = summary ? `latest ${latest}, minimum ${minimum}, maximum ${maximum}` : "nothing was recorded";
  return `${group}: ${title}, ${unit}, ${rangeText(from, to, 60)}: ${text}. The table below has all values.`;
}

const keyed = (mark, text) => h("span", { class: "keyed" }, h("i", { class: `mark ${mark}` }), text);

function seriesOptions(colours) {
  const edge = { scale: "y", stroke: "transparent", width: 0, points: { show: false } };
  const points = { show: true, filter: isolatedPoints, size: 5, fill: colours.accent };
  const average = { scale: "y", stroke: colours.accent, width: 1.75, points };
  return [{}, edge, { ...edge }, average];
}
