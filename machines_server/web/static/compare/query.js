// What is compared, which is kept in the URL. Nothing here touches the page.

import { withQuery } from "../base/site.js";
import { rangeQuery, readRange } from "../base/time_ranges.js";
import { COMPARED } from "./lines.js";

export const MAX_MACHINES = 6;
const DEFAULT_METRICS = ["cpu_percent", "vram_used_gb", "utilisation"];

/** What a URL asks to compare: {machines, metrics, range}. */
export function readQuery(search) {
  const query = new URLSearchParams(search);
  const lists = ["machine", "metric"].map((name) => [...new Set(query.getAll(name).filter(Boolean))]);
  const metrics = lists[1].filter((metric) => metric in COMPARED);
  return {
    machines: lists[0].slice(0, MAX_MACHINES),
    metrics: metrics.length ? metrics : DEFAULT_METRICS,
    range: readRange(search),
  };
}

/** The site path of the page that compares that. */
export function comparePath({ machines, metrics, range }) {
  const isDefault = metrics.join() === DEFAULT_METRICS.join();
  const query = { machine: machines, metric: isDefault ? [] : metrics };
  return withQuery("/compare", { ...query, ...Object.fromEntries(new URLSearchParams(rangeQuery(range))) });
}
