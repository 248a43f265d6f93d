// The charts of the host and of each GPU.

import { h } from "../base/dom.js";
import { loadUplot, readColours } from "../shared/plots.js";
import { makeChart } from "./chart.js";

/**
 * {show, restyle, isDragging, close}: `onRange({from, to})` is called after a range was chosen by dragging. `show` takes the groups
 * of `chartGroups` and a frame {from, to, step, interval} in seconds.
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

  function show(groups, frame) {
    const newShape = JSON.stringify(groups.map((group) => [group.name, group.model, group.charts.map(keyOf)]));
    if (newShape !== shape) build(groups);
    shape = newShape;
    for (const group of groups)
      for (const series of group.charts) charts.get(series.key).show(series, group.name, frame, colours);
  }

  function build(groups) {
    for (const chart of charts.values()) chart.close();
    const make = (series) => makeChart(series.unit, onRange);
    charts = new Map(groups.flatMap((group) => group.charts.map((series) => [series.key, make(series)])));
    holder.replaceChildren(...groups.map(section));
  }

  function section({ name, model, charts: seriesList }) {
    const heading = h("h3", null, name, model && h("span", { class: "quiet" }, ` ${model}`));
    const roots = seriesList.map(({ key }) => charts.get(key).root);
    return h("section", { class: "group" }, heading, h("div", { class: "charts" }, roots));
  }

  /** Draw again if the colours of the page or the widths of charts have changed. */
  function restyle() {
    const now = readColours();
    const isSame = JSON.stringify(now) === JSON.stringify(colours);
    colours = isSame ? colours : now;
    for (const chart of charts.values()) isSame ? chart.fit() : chart.draw(colours);
  }

  const isDragging = () => [...charts.values()].some((chart) => chart.isDragging());

  function close() {
    resizes.disconnect();
    for (const chart of charts.values()) chart.close();
  }

  return { show, restyle, isDragging, close };
}

const keyOf = ({ key }) => key;
