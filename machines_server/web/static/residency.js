// Which model was in memory when, from the events of its machine.
import { h, svg } from "./dom.js";
import { span } from "./format.js";
import { STATUSES } from "./live.js";

const WIDTH = 1000;
const LEAST_WIDTH = 2;
const MAX_ROWS = 10;

const SILENT = ["offline", "unknown", "machine_removed"];
export const STAY_TYPES = ["model_loaded", "model_unloaded", ...STATUSES, "machine_removed"].join(",");

/**
 * [[model, [[from, to], ...]], ...], the longest first; epoch seconds. `before` are events before the span and
 * `within` those in it, both newest first; `held` the models in memory now, if the span goes up to now.
 * While a machine says nothing, nobody knows what it holds: its stays end, and go on when it is back.
 */
export function staysOf(before, within, held, from, to) {
  const open = new Map();
  const stays = new Map();
  const end = (model, at) => {
    if (at > from) stays.set(model, [...(stays.get(model) ?? []), [Math.max(from, open.get(model)), at]]);
    open.delete(model);
  };
  const known = new Set();
  const unseen = new Set();
  for (const event of [...within, ...before].reverse()) {
    const at = Date.parse(event.at) / 1000;
    if (SILENT.includes(event.type))
      for (const model of [...open.keys()]) {
        end(model, at);
        unseen.add(model);
      }
    else if (STATUSES.includes(event.type)) {
      for (const model of unseen) open.set(model, at);
      unseen.clear();
    } else unseen.delete(event.model);
    if (event.type === "model_loaded") open.set(event.model, open.get(event.model) ?? at);
    if (event.type === "model_unloaded") {
      if (!known.has(event.model)) open.set(event.model, from); // it came before all that is known
      if (open.has(event.model)) end(event.model, at);
    }
    if (event.model) known.add(event.model);
  }
  for (const model of held) if (!known.has(model)) open.set(model, from);
  for (const model of [...open.keys()]) end(model, to);
  return [...stays].sort(([, one], [, other]) => total(other) - total(one));
}

const total = (stays) => stays.reduce((sum, [from, to]) => sum + to - from, 0);

/** One row a model: its name, how long it was there, and a band that lies along the axis of the chart above. */
export function residencyRows(stays, from, to, title) {
  const rows = stays.slice(0, MAX_ROWS).map(([model, its]) => {
    const times = its.length === 1 ? "" : `, ${its.length} times`;
    return h(
      "li",
      null,
      h("p", null, h("b", null, model), h("span", { class: "quiet" }, ` ${span(total(its))} in memory${times}`)),
      svg(
        "svg",
        { class: "band", viewBox: `0 0 ${WIDTH} 1`, preserveAspectRatio: "none", "aria-hidden": "true" },
        svg("path", { d: its.map((stay) => box(stay, from, to)).join("") }),
      ),
    );
  });
  const rest = stays.slice(MAX_ROWS).map(([model]) => model);
  return [
    h("h4", null, title),
    rows.length ? h("ul", null, rows) : h("p", { class: "quiet" }, "None in this span."),
    rest.length > 0 && h("p", { class: "quiet" }, `For a shorter time: ${rest.join(", ")}.`),
  ];
}

function box([began, ended], from, to) {
  const place = (at) => ((at - from) / (to - from)) * WIDTH;
  const left = Math.min(place(began), WIDTH - LEAST_WIDTH);
  const right = Math.max(place(ended), left + LEAST_WIDTH);
  return `M${left.toFixed(1)} 0H${right.toFixed(1)}V1H${left.toFixed(1)}Z`;
}
