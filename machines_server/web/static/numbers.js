// The numbers behind the charts: as a table, made when somebody opens it, and as CSV.
import { machinePath, path } from "./api.js";
import { h } from "./dom.js";
import { number } from "./format.js";
import { WANTED } from "./series.js";
import { between, moment } from "./spans.js";

const PARTS = ["average", "least", "most"];

/** {root, show(name, groups, frame)}: `show` takes what the charts show. */
export function makeNumbers() {
  const holder = h("div", {
    class: "scroll",
    tabindex: "0",
    role: "region",
    "aria-label": "The numbers of the charts",
  });
  const details = h("details", { toggle: draw }, h("summary", null, "The same numbers as a table"), holder);
  const download = h("a", { class: "button" }, "Download CSV");
  const root = h("div", { class: "numbers" }, details, download);
  let latest = null;
  let drawn = null;

  function draw() {
    if (!details.open || drawn === latest) return;
    drawn = latest;
    holder.replaceChildren(tableOf(...latest));
  }

  function show(name, groups, frame) {
    latest = [groups, frame];
    const { from, to } = frame.asked;
    download.href = path(machinePath(name, "/history"), { metric: WANTED, from, to, format: "csv" });
    download.download = `${name}_${new Date(from * 1000).toISOString().slice(0, 19).replaceAll(":", "")}Z.csv`;
    draw();
  }

  return { root, show };
}

function tableOf(groups, { from, to, step }) {
  const charts = groups.flatMap(({ name, charts: its }) =>
    its
      .filter(({ points }) => points.length)
      .map((one) => ({
        name: `${name}: ${one.title}, ${one.unit}`,
        byTime: new Map(one.points.map((point) => [point[0], point])),
      })),
  );
  const times = [...new Set(charts.flatMap(({ byTime }) => [...byTime.keys()]))].sort((one, other) => other - one);
  return h(
    "table",
    null,
    h("caption", null, `${between(from, to, step)}, newest first`),
    h(
      "thead",
      null,
      h(
        "tr",
        null,
        h("th", { scope: "col", rowspan: "2" }, "Time"),
        charts.map(({ name }) => h("th", { scope: "colgroup", colspan: "3" }, name)),
      ),
      h(
        "tr",
        null,
        charts.flatMap(() => PARTS.map((part) => h("th", { scope: "col" }, part))),
      ),
    ),
    h(
      "tbody",
      null,
      times.map((at) =>
        h(
          "tr",
          null,
          h("th", { scope: "row" }, h("time", { datetime: new Date(at * 1000).toISOString() }, moment(at, step))),
          charts.flatMap(({ byTime }) => [1, 2, 3].map((place) => h("td", null, number(byTime.get(at)?.[place], 2)))),
        ),
      ),
    ),
  );
}
