// The data of the charts: as a table, built when it is opened, and as a CSV file.

import { h, scrollable } from "../base/dom.js";
import { number } from "../base/format.js";
import { machineApi, siteUrl, withQuery } from "../base/site.js";
import { rangeText, timeOfStep } from "../base/time_ranges.js";
import { HISTORY_METRICS } from "./series.js";

const VALUES = ["average", "minimum", "maximum"];

/** {root, show(name, groups, frame)}: `show` takes the same data as the charts. */
export function makeDataTable() {
  const holder = scrollable("The data of the charts");
  const details = h("details", { toggle: buildIfOpen }, h("summary", null, "The same data as a table"), holder);
  const download = h("a", { class: "button" }, "Download CSV");
  const root = h("div", { class: "numbers" }, details, download);
  let latest = null;
  let shown = null;

  function buildIfOpen() {
    if (!details.open || shown === latest) return;
    shown = latest;
    holder.replaceChildren(tableOf(latest.groups, latest.frame));
  }

  function show(name, groups, frame) {
    latest = { groups, frame };
    const { from, to } = frame.requested;
    const query = { metric: HISTORY_METRICS, from, to, format: "csv" };
    download.href = siteUrl(withQuery(machineApi(name, "/history"), query));
    download.download = `${name}_${new Date(from * 1000).toISOString().slice(0, 19).replaceAll(":", "")}Z.csv`;
    buildIfOpen();
  }

  return { root, show };
}

function tableOf(groups, { from, to, step }) {
  const { columns, rows } = dataOf(groups);
  const heading = (text) => h("th", { scope: "colgroup", colspan: String(VALUES.length) }, text);
  const firstRow = h("tr", null, h("th", { scope: "col", rowspan: "2" }, "Time"), columns.map(heading));
  const secondRow = h("tr", null, ...columns.flatMap(() => VALUES.map((value) => h("th", { scope: "col" }, value))));
  const time = (timeS) => h("time", { datetime: new Date(timeS * 1000).toISOString() }, timeOfStep(timeS, step));
  const row = ([timeS, values]) =>
    h("tr", null, h("th", { scope: "row" }, time(timeS)), ...values.map((value) => h("td", null, number(value, 2))));
  return h(
    "table",
    null,
    h("caption", null, `${rangeText(from, to, step)}, newest first`),
    h("thead", null, firstRow, secondRow),
    h("tbody", null, rows.map(row)),
  );
}

/**
 * {columns: [name of a chart, ...], rows: [[epoch s, values], ...]}, newest first; a row has the average, minimum
 * and maximum of each chart, undefined where it has no point at that time.
 */
export function dataOf(groups) {
  const charts = groups.flatMap(({ name, charts }) =>
    charts
      .filter(({ points }) => points.length)
      .map(({ title, unit, points }) => ({
        name: `${name}: ${title}, ${unit}`,
        byTime: new Map(points.map(([time, ...values]) => [time, values])),
      })),
  );
  const times = [...new Set(charts.flatMap(({ byTime }) => [...byTime.keys()]))].sort((one, other) => other - one);
  const valuesAt = (time) => charts.flatMap(({ byTime }) => VALUES.map((_, place) => byTime.get(time)?.[place]));
  return { columns: charts.map(({ name }) => name), rows: times.map((time) => [time, valuesAt(time)]) };
}
