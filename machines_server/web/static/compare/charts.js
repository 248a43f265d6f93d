// The charts of the page: one for each metric, and one for the fleet.

import { h } from "../base/dom.js";
import { loadUplot, readColours } from "../shared/plots.js";
import { METRICS } from "../shared/points.js";
import { LINE_COLOURS, makeLineChart } from "./chart.js";
import { COMPARED, fleetLines, machineLines } from "./lines.js";

/** {showMachines, showFleet, restyle, isDragging, close}; `onRange({from, to})` is called after a drag. */
export async function makeCompareCharts(machinesHolder, fleetHolder, onRange) {
  await loadUplot();
  let colours = readColours(LINE_COLOURS);
  const fleet = makeLineChart("VRAM free in the fleet", "GiB", onRange);
  let byMetric = new Map();
  fleetHolder.append(fleet.root);
  const all = () => [fleet, ...byMetric.values()];
  const resizes = new ResizeObserver(() => {
    for (const chart of all()) chart.fit();
  });
  for (const holder of [machinesHolder, fleetHolder]) resizes.observe(holder);

  function showMachines(answer, metrics, frame) {
    if (metrics.join() !== [...byMetric.keys()].join()) build(metrics);
    for (const [metric, chart] of byMetric) chart.show(machineLines(answer, metric), frame, colours);
  }

  function build(metrics) {
    for (const chart of byMetric.values()) chart.close();
    const make = (metric) => makeLineChart(COMPARED[metric].title, METRICS[metric].unit, onRange);
    byMetric = new Map(metrics.map((metric) => [metric, make(metric)]));
    machinesHolder.replaceChildren(
      h(
        "div",
        { class: "compared" },
        [...byMetric.values()].map(({ root }) => root),
      ),
    );
  }

  function hideMachines() {
    build([]);
  }

  const showFleet = (answer, frame) => fleet.show(fleetLines(answer, frame), frame, colours);

  /** Draw again if the colours of the page or the widths of charts have changed. */
  function restyle() {
    const now = readColours(LINE_COLOURS);
    const isSame = JSON.stringify(now) === JSON.stringify(colours);
    colours = isSame ? colours : now;
    for (const chart of all()) isSame ? chart.fit() : chart.draw(colours);
  }

  const isDragging = () => all().some((chart) => chart.isDragging());

  function close() {
    resizes.disconnect();
    for (const chart of all()) chart.close();
  }

  return { showMachines, hideMachines, showFleet, restyle, isDragging, close };
}
