// One chart: the average of a series between its minimum and maximum, the same as a text, and for some charts which
// models were in memory.

import { h, renderIfChanged, setText } from "../base/dom.js";
import { number } from "../base/format.js";
import { rangeText, tickLabels, timeOfStep } from "../base/time_ranges.js";
import { residencyRows } from "./residency.js";
import { chartColumns, summarize, valueText } from "./series.js";

const HEIGHT = 170;
const MIN_WIDTH = 160;
const AXIS_WIDTH = 52; // the same in all charts, so that a time is at the same place in each
const FONT = "12px system-ui, sans-serif";
const AVERAGE = 3; // the last of the columns, so that its line is drawn over the band
const MIN_DRAG = 4; // a shorter drag, in pixels, is a click
const MIN_POLLS = 10; // a shorter range would show next to nothing

/** {root, show, draw, fit, isDragging, close}; `modelsTitle` is null where no models are shown. */
export function makeChart(unit, modelsTitle, onRange) {
  const canvas = h("div", { class: "canvas", role: "img" });
  const heading = h("h4");
  const readout = h("p", { class: "readout" });
  const models = modelsTitle ? h("div", { class: "residency" }) : null;
  const root = h("figure", { class: "card chart" }, heading, readout, canvas, models);
  let plot = null;
  let drawnColours = null;
  let series = null;
  let frame = null;
  let columns = null;

  function show(newSeries, group, newFrame, stays, colours) {
    series = newSeries;
    frame = newFrame;
    columns = chartColumns(series.points, frame);
    setText(
      heading,
      `${series.title}, ${unit}${series.top && series.top !== 100 ? ` of ${number(series.top, 1)}` : ""}`,
    );
    canvas.setAttribute("aria-label", description(group, series, frame));
    draw(colours);
    if (!models) return;
    renderIfChanged(models, [stays, frame.from, frame.to], () =>
      stays ? residencyRows(stays, frame.from, frame.to, modelsTitle) : [],
    );
    alignModels();
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
    chartOptions(colours, {
      width: width(),
      xRange: () => [frame.from, frame.to],
      yRange: (maximum) => [0, (maximum > (series.top ?? 0) ? maximum * 1.05 : series.top) || 1],
      onCursor: showReadout,
      onSelect: selectRange,
      onSize: alignModels,
    });

  const width = () => Math.max(MIN_WIDTH, canvas.clientWidth);

  function showReadout() {
    const { idx: index, left } = plot?.cursor ?? {};
    const isUnderCursor = left >= 0 && columns[0][index] !== undefined; // new columns may be fewer
    const key = isUnderCursor ? columns.map((column) => column[index]) : (summarize(series.points) ?? "nothing");
    renderIfChanged(readout, key, () => (isUnderCursor ? pointLines(index) : summaryLines()));
  }

  // Both texts have two lines, so that nothing moves under the cursor. The unit is in the heading.
  function pointLines(index) {
    const [time, maximum, minimum, average] = columns.map((column) => column[index]);
    if (average === null) {
      const cursorTime = plot.posToVal(plot.cursor.left, "x");
      return lines(timeOfStep(cursorTime, frame.step), "nothing recorded");
    }
    const values = [
      keyed("line", `average ${valueText(average)}`),
      " ",
      keyed("band", `${valueText(minimum)} to ${valueText(maximum)}`),
    ];
    return lines(`from ${timeOfStep(time - frame.step / 2, frame.step)}`, values);
  }

  function summaryLines() {
    const summary = summarize(series.points);
    if (!summary) return "Nothing was recorded in this time range.";
    const { latest, minimum, maximum } = summary;
    return lines(
      keyed("line", `average, latest ${valueText(latest)}`),
      keyed("band", `minimum to maximum, ${valueText(minimum)} to ${valueText(maximum)}`),
    );
  }

  function selectRange({ select: { left, width: selected } }) {
    const [from, to] = [left, left + selected].map((position) => plot.posToVal(position, "x"));
    plot.setSelect({ left: 0, width: 0, top: 0, height: 0 }, false);
    const margin = Math.max(0, MIN_POLLS * frame.interval - (to - from)) / 2;
    if (selected >= MIN_DRAG) onRange(Math.floor(from - margin), Math.ceil(to + margin));
  }

  /** Put the band of each model exactly below the time at which it was in memory. */
  function alignModels() {
    if (!models || !plot) return;
    const ratio = window.devicePixelRatio;
    for (const band of models.querySelectorAll(".band")) {
      band.style.marginLeft = `${plot.bbox.left / ratio}px`;
      band.style.width = `${plot.bbox.width / ratio}px`;
    }
  }

  function fit() {
    if (plot && plot.width !== width()) plot.setSize({ width: width(), height: HEIGHT });
  }

  const isDragging = () => plot?.select.width > 0;
  return { root, show, draw, fit, isDragging, close: () => plot?.destroy() };
}

/** A chart in words, for screen readers. */
function description(group, { title, unit, points }, { from, to }) {
  const summary = summarize(points);
  const [latest, minimum, maximum] = [summary?.latest, summary?.minimum, summary?.maximum].map(valueText);
  const text = summary ? `latest ${latest}, minimum ${minimum}, maximum ${maximum}` : "nothing was recorded";
  return `${group}: ${title}, ${unit}, ${rangeText(from, to, 60)}: ${text}. The table below has all values.`;
}

const lines = (...texts) => texts.map((text) => h("span", { class: "line" }, text));
const keyed = (mark, text) => h("span", { class: "keyed" }, h("i", { class: `mark ${mark}` }), text);

/** Options of uPlot for the columns of `chartColumns`. */
function chartOptions(colours, { width, xRange, yRange, onCursor, onSelect, onSize }) {
  const axis = {
    stroke: colours.muted,
    font: FONT,
    ticks: { stroke: colours.line, width: 1, size: 4 },
    grid: { stroke: colours.line, width: 1 },
  };
  return {
    width,
    height: HEIGHT,
    padding: [8, 30, 0, 0],
    legend: { show: false },
    scales: {
      x: { time: true, range: xRange },
      y: { range: (_, _minimum, maximum) => yRange(maximum) },
    },
    series: seriesOptions(colours),
    bands: [{ series: [1, 2], fill: colours["accent-soft"] }],
    axes: [
      { ...axis, space: 76, size: 30, values: (_, ticks, __, ___, every) => tickLabels(ticks, every) },
      { ...axis, size: AXIS_WIDTH, space: 34, values: (_, ticks) => ticks.map((tick) => number(tick, 2)) },
    ],
    cursor: cursorOptions(colours),
    hooks: { setCursor: [onCursor], setSelect: [onSelect], setSize: [onSize], ready: [onSize] },
  };
}

function seriesOptions(colours) {
  const edge = { scale: "y", stroke: "transparent", width: 0, points: { show: false } };
  const points = { show: true, filter: isolatedPoints, size: 5, fill: colours.accent };
  const average = { scale: "y", stroke: colours.accent, width: 1.75, points };
  return [{}, edge, { ...edge }, average];
}

function cursorOptions(colours) {
  const point = { size: 7, fill: colours.accent, stroke: colours.accent };
  return {
    y: false,
    drag: { x: true, y: false, setScale: false, dist: MIN_DRAG },
    points: { show: (_, column) => column === AVERAGE && h("div"), ...point },
    sync: {
      key: "machine",
      scales: ["x", null],
      filters: { pub: (type) => type === "mousemove" || type === "mouseleave" },
    },
  };
}

/** The indexes of points with a gap on both sides, through which no line is drawn. */
export function isolatedPoints(plot, column) {
  const values = plot.data[column];
  const isGap = (index) => (values[index] ?? null) === null;
  return values.flatMap((_, index) => (!isGap(index) && isGap(index - 1) && isGap(index + 1) ? [index] : []));
}
