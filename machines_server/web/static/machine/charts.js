// The charts of the host and of each GPU, and uPlot, the library that draws them.

import { h, loadFile } from "../base/dom.js";
import { siteUrl } from "../base/site.js";
import { makeChart } from "./chart.js";

const COLOURS = ["muted", "line", "accent", "accent-soft"];

/**
 * {show, restyle, isDragging, close}: `onRange(from, to)` is called after a range was chosen by dragging. `show` takes the groups
 * of `chartGroups`, a frame {from, to, step, interval} in seconds, and the stays of models, or null if unknown.
 */
export async function makeCharts(holder, onRange) {
  await loadUplot();
  let colours = readColours();
  let charts = new Map();
  let shape = null;
  const resizes = new ResizeObserver(() => {
    for (const chart of charts.values()) chart.fit();
  });
  resizes.observe(holder);

  function show(groups, frame, stays) {
    const newShape = JSON.stringify(groups.map((group) => [group.name, group.model, group.charts.map(keyOf)]));
    if (newShape !== shape) build(groups);
    shape = newShape;
    for (const group of groups)
      for (const series of group.charts) charts.get(series.key).show(series, group.name, frame, stays, colours);
  }

  function build(groups) {
    for (const chart of charts.values()) chart.close();
    const withModels = groups.length > 1 ? "vram_used_gb" : "ram_used_gb";
    // Ollama does not say which GPU a model is on.
    const modelsTitle = groups.length > 2 ? "Models in memory, on any of the GPUs" : "Models in memory";
    const make = (series) => makeChart(series.unit, series.metric === withModels ? modelsTitle : null, onRange);
    charts = new Map(groups.flatMap((group) => group.charts.map((series) => [series.key, make(series)])));
    holder.replaceChildren(...groups.map(section));
  }

  function section({ name, model, charts: seriesList }) {
    const heading = h("h3", null, name, model && h("span", { class: "quiet" }, ` ${model}`));
    const roots = seriesList.map(({ key }) => charts.get(key).root);
    return h("section", { class: "group" }, heading, h("div", { class: "charts" }, roots));
  }

  /** Draw again if the colours of the page have changed. */
  function restyle() {
    const now = readColours();
    if (JSON.stringify(now) === JSON.stringify(colours)) return;
    colours = now;
    for (const chart of charts.values()) chart.draw(colours);
  }

  const isDragging = () => [...charts.values()].some((chart) => chart.isDragging());

  function close() {
    resizes.disconnect();
    for (const chart of charts.values()) chart.close();
  }

  return { show, restyle, isDragging, close };
}

const keyOf = ({ key }) => key;

let loading = null;

/** Resolves when `window.uPlot` is there; a call after a failure loads it again. */
function loadUplot() {
  loading ??= Promise.all([
    loadFile("link", { rel: "stylesheet", href: siteUrl("/static/vendor/uPlot.min.css") }),
    loadFile("script", { src: siteUrl("/static/vendor/uPlot.iife.min.js") }),
  ]);
  loading.catch(() => {
    loading = null;
  });
  return loading;
}

/** The colours of the page, by the names of their custom properties, as a canvas understands them. */
function readColours() {
  const probe = h("span", { hidden: true });
  document.body.append(probe);
  const colours = COLOURS.map((name) => {
    probe.style.color = `var(--${name})`;
    return [name, getComputedStyle(probe).color];
  });
  probe.remove();
  return Object.fromEntries(colours);
}
