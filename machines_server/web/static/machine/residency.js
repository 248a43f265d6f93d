// When which models were in memory, derived from the events of their machine.

import { h, svg } from "../base/dom.js";
import { duration } from "../base/format.js";
import { STATUSES } from "../base/live.js";

const WIDTH = 1000;
const MIN_WIDTH = 2;
const MAX_ROWS = 10;
/** After these events it is unknown which models a machine holds. */
const SILENT = ["offline", "unknown", "machine_removed"];

/**
 * The stays of models in memory: [[model, [[from, to], ...]], ...] in epoch seconds, the longest total first.
 * `before` are the events before the time range and `within` those in it, both newest first; `held` are the models in
 * memory now, if the range ends now. Stays end when a machine becomes silent, and continue when it is back.
 */
export function staysOf(before, within, held, from, to) {
  const openSince = new Map();
  const stays = new Map();
  const end = (model, time) => {
    const stay = [Math.max(from, openSince.get(model)), time];
    if (time > from) stays.set(model, [...(stays.get(model) ?? []), stay]);
    openSince.delete(model);
  };
  const hadEvent = new Set();
  const interrupted = new Set();
  for (const { at, type, model } of [...within, ...before].reverse()) {
    const time = Date.parse(at) / 1000;
    if (SILENT.includes(type))
      for (const open of [...openSince.keys()]) {
        end(open, time);
        interrupted.add(open);
      }
    else if (STATUSES.includes(type)) {
      for (const open of interrupted) openSince.set(open, time);
      interrupted.clear();
    } else interrupted.delete(model);
    if (type === "model_loaded") openSince.set(model, openSince.get(model) ?? time);
    if (type === "model_unloaded") {
      if (!hadEvent.has(model)) openSince.set(model, from); // it was loaded before the oldest event
      if (openSince.has(model)) end(model, time);
    }
    if (model) hadEvent.add(model);
  }
  for (const model of held) if (!hadEvent.has(model)) openSince.set(model, from);
  for (const model of [...openSince.keys()]) end(model, to);
  return [...stays].sort(([, one], [, other]) => totalTime(other) - totalTime(one));
}

const totalTime = (stays) => stays.reduce((sum, [from, to]) => sum + to - from, 0);

/** One row per model: its name, how long it was in memory, and a band that lies along the time axis of the chart. */
export function residencyRows(stays, from, to, title) {
  const others = stays.slice(MAX_ROWS).map(([model]) => model);
  const rows = stays.slice(0, MAX_ROWS).map(([model, times]) => row(model, times, from, to));
  return [
    h("h3", null, title),
    rows.length ? h("ul", null, rows) : h("p", { class: "quiet" }, "None in this time range."),
    others.length > 0 && h("p", { class: "quiet" }, `Others, in memory for less time: ${others.join(", ")}.`),
  ];
}

function row(model, stays, from, to) {
  const times = stays.length === 1 ? "" : `, ${stays.length} times`;
  const total = h("span", { class: "quiet" }, ` ${duration(totalTime(stays))} in memory${times}`);
  const band = svg(
    "svg",
    { class: "band", viewBox: `0 0 ${WIDTH} 1`, preserveAspectRatio: "none", "aria-hidden": "true" },
    svg("path", { d: stays.map((stay) => boxPath(stay, from, to)).join("") }),
  );
  return h("li", null, h("p", null, h("b", null, model), total), band);
}

/** The SVG path of one stay, at least a few pixels wide. */
export function boxPath([start, end], from, to) {
  const place = (time) => ((time - from) / (to - from)) * WIDTH;
  const left = Math.min(place(start), WIDTH - MIN_WIDTH);
  const right = Math.max(place(end), left + MIN_WIDTH);
  return `M${left.toFixed(1)} 0H${right.toFixed(1)}V1H${left.toFixed(1)}Z`;
}
