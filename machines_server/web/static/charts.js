// Charts of series over time, drawn by uPlot, which is loaded when the first is made.
import { h, remake, say } from "./dom.js";
import { number } from "./format.js";
import { loadLibrary, readColours } from "./plot.js";
import { residencyRows } from "./residency.js";
import { columnsOf, summaryOf, valueText } from "./series.js";
import { between, moment, tickTexts } from "./spans.js";

const HEIGHT = 170;
const AXIS_WIDTH = 52; // the same in all charts, so that one moment is one place
const LEAST_DRAG = 4;
const LEAST_POLLS = 10; // a span with fewer would show next to nothing
const AVERAGE = 3; // the last of the columns, so that its line is drawn over the band
const FONT = "12px system-ui, sans-serif";

/**
 * Charts in `host`. `onSpan(from, to)` hears of a span chosen by dragging. {show, restyle, isDragging, close}: `show`
 * takes the groups of `groupsOf`, a frame {from, to, step, interval} and stays, or null if they are not known.
 */
export async function makeCharts(host, onSpan) {
  await loadLibrary();
  let colours = readColours();
  let charts = new Map();
  let frame = null;
  let shape = null;
  const resized = new ResizeObserver(() => {
    for (const one of charts.values()) one.fit();
  });
  resized.observe(host);

  function show(groups, nextFrame, stays) {
    frame = nextFrame;
    const nextShape = JSON.stringify(
      groups.map(({ name, model, charts: its }) => [name, model, its.map(({ key }) => key)]),
    );
    if (nextShape !== shape) build(groups);
    shape = nextShape;
    for (const { name, charts: its } of groups) for (const one of its) charts.get(one.key).show(one, name, stays);
  }

  function build(groups) {
    for (const one of charts.values()) one.close();
    const hasGpu = groups.length > 1;
    // Ollama does not say which GPU a model is on.
    const modelsTitle = groups.length > 2 ? "Models in memory, on whichever GPU" : "Models in memory";
    const made = groups.map(({ charts: its }) =>
      its.map((one) => [one.key, chart(one, one.metric === (hasGpu ? "vram_used_gb" : "ram_used_gb") && modelsTitle)]),
    );
    charts = new Map(made.flat());
    host.replaceChildren(
      ...groups.map(({ name, model }, place) =>
        h(
          "section",
          { class: "group" },
          h("h3", null, name, model && h("span", { class: "quiet" }, ` ${model}`)),
          h(
            "div",
            { class: "charts" },
            made[place].map(([, { root }]) => root),
          ),
        ),
      ),
    );
  }

  /** One chart: an average between least and most, a line of text that says the same, and maybe bands of models. */
  function chart({ unit }, modelsTitle) {
    const canvas = h("div", { class: "canvas", role: "img" });
    const heading = h("h4");
    const readout = h("p", { class: "readout" });
    const models = modelsTitle ? h("div", { class: "residency" }) : null;
    const root = h("figure", { class: "card chart" }, heading, readout, canvas, models);
    let plot = null;
    let shown = null;
    let columns = null;
    let drawn = null;

    function show(one, group, stays) {
      shown = one;
      columns = columnsOf(one.points, frame);
      say(heading, `${one.title}, ${unit}${one.top && one.top !== 100 ? ` of ${number(one.top, 1)}` : ""}`);
      canvas.setAttribute("aria-label", `${group}: ${described(one)}`);
      draw();
      if (models)
        remake(models, [stays, frame.from, frame.to], () =>
          stays ? residencyRows(stays, frame.from, frame.to, modelsTitle) : [],
        );
      if (models) align();
    }

    function draw() {
      if (drawn !== colours) {
        plot?.destroy();
        plot = new window.uPlot(options(), columns, canvas);
        drawn = colours;
      } else plot.setData(columns);
      read();
    }

    function options() {
      const line = (more) => ({ scale: "y", stroke: "transparent", width: 0, points: { show: false }, ...more });
      const axis = {
        stroke: colours.muted,
        font: FONT,
        ticks: { stroke: colours.line, width: 1, size: 4 },
        grid: { stroke: colours.line, width: 1 },
      };
      return {
        width: widthOf(),
        height: HEIGHT,
        padding: [8, 30, 0, 0],
        legend: { show: false },
        scales: {
          x: { time: true, range: () => [frame.from, frame.to] },
          y: { range: (_, least, most) => [0, endOf(most)] },
        },
        series: [
          {},
          line(),
          line(),
          line({
            stroke: colours.accent,
            width: 1.75,
            points: { show: true, filter: lonely, size: 5, fill: colours.accent },
          }),
        ],
        bands: [{ series: [1, 2], fill: colours["accent-soft"] }],
        axes: [
          { ...axis, space: 76, size: 30, values: (_, ticks, __, ___, every) => tickTexts(ticks, every) },
          { ...axis, size: AXIS_WIDTH, space: 34, values: (_, ticks) => ticks.map((tick) => number(tick, 2)) },
        ],
        cursor: {
          y: false,
          drag: { x: true, y: false, setScale: false, dist: LEAST_DRAG },
          points: {
            show: (_, place) => place === AVERAGE && h("div"),
            size: 7,
            fill: colours.accent,
            stroke: colours.accent,
          },
          sync: {
            key: "machine",
            scales: ["x", null],
            filters: { pub: (type) => type === "mousemove" || type === "mouseleave" },
          },
        },
        hooks: { setCursor: [read], setSelect: [select], setSize: [align], ready: [align] },
      };
    }

    const endOf = (most) => (most > (shown.top ?? 0) ? most * 1.05 : shown.top) || 1;
    const widthOf = () => Math.max(160, canvas.clientWidth);

    /** Points with a gap on both sides, of which no line tells. */
    function lonely(self, place) {
      const values = self.data[place];
      return values.flatMap((value, at) =>
        value !== null && (values[at - 1] ?? null) === null && (values[at + 1] ?? null) === null ? [at] : [],
      );
    }

    function read() {
      const { idx, left } = plot?.cursor ?? {};
      const isOver = left >= 0 && columns[0][idx] !== undefined; // new columns may be fewer
      remake(readout, isOver ? columns.map((column) => column[idx]) : (summaryOf(shown.points) ?? "nothing"), () =>
        isOver ? underCursor(idx) : legend(),
      );
    }

    // Both texts have two lines, so that nothing moves under the cursor; the heading has the unit.
    function underCursor(place) {
      const [at, most, least, average] = columns.map((column) => column[place]);
      if (average === null) return lines(moment(plot.posToVal(plot.cursor.left, "x"), frame.step), "nothing recorded");
      return lines(`from ${moment(at - frame.step / 2, frame.step)}`, [
        keyed("line", `average ${valueText(average)}`),
        " ",
        keyed("band", `${valueText(least)} to ${valueText(most)}`),
      ]);
    }

    function legend() {
      const found = summaryOf(shown.points);
      if (!found) return "Nothing was recorded in this span.";
      return lines(
        keyed("line", `average, latest ${valueText(found.latest)}`),
        keyed("band", `least to most, ${valueText(found.least)} to ${valueText(found.most)}`),
      );
    }

    function described(one) {
      const found = summaryOf(one.points);
      const [latest, least, most] = [found?.latest, found?.least, found?.most].map(valueText);
      const text = found ? `latest ${latest}, at least ${least}, at most ${most}` : "nothing was recorded";
      return `${one.title}, ${unit}, ${between(frame.from, frame.to, 60)}: ${text}. The table below has all values.`;
    }

    function select({ select: { left, width } }) {
      const [from, to] = [left, left + width].map((at) => plot.posToVal(at, "x"));
      plot.setSelect({ left: 0, width: 0, top: 0, height: 0 }, false);
      const more = Math.max(0, LEAST_POLLS * frame.interval - (to - from)) / 2;
      if (width >= LEAST_DRAG) onSpan(Math.floor(from - more), Math.ceil(to + more));
    }

    /** Bands of models lie exactly under the time in which they were there. */
    function align() {
      if (!models || !plot) return;
      const ratio = window.devicePixelRatio;
      for (const band of models.querySelectorAll(".band")) {
        band.style.marginLeft = `${plot.bbox.left / ratio}px`;
        band.style.width = `${plot.bbox.width / ratio}px`;
      }
    }

    function fit() {
      if (plot && plot.width !== widthOf()) plot.setSize({ width: widthOf(), height: HEIGHT });
    }

    const isDragging = () => plot?.select.width > 0;
    return { root, show, draw, fit, isDragging, close: () => plot?.destroy() };
  }

  /** Draw anew in the colours of the page, if they are others now. */
  function restyle() {
    const now = readColours();
    if (JSON.stringify(now) === JSON.stringify(colours)) return;
    colours = now;
    for (const one of charts.values()) one.draw();
  }

  function close() {
    resized.disconnect();
    for (const one of charts.values()) one.close();
  }

  return { show, restyle, isDragging: () => [...charts.values()].some((one) => one.isDragging()), close };
}

const lines = (...texts) => texts.map((text) => h("span", { class: "line" }, text));
const keyed = (mark, text) => h("span", { class: "keyed" }, h("i", { class: `mark ${mark}` }), text);
