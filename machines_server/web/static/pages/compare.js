// The page that compares machines over a time range, one chart for each metric, and shows the VRAM free in the fleet.

import { h, setText } from "../base/dom.js";
import { duration } from "../base/format.js";
import { serverNow, state } from "../base/live.js";
import { errorText, get, siteUrl, withQuery } from "../base/site.js";
import { rangeEnds, rangeText } from "../base/time_ranges.js";
import { makeCompareCharts } from "../compare/charts.js";
import { COMPARED, metricText } from "../compare/lines.js";
import { comparePath, MAX_MACHINES, readQuery } from "../compare/query.js";
import { makeCopyLink } from "../shared/copy_link.js";
import { makeMultiChoice } from "../shared/multi_choice.js";
import { makeRangeForm } from "../shared/range_form.js";
import { loadStyles } from "../shared/styles.js";

const FRESH_S = 60;
const TIMEOUT_MS = 15_000;

await loadStyles("past.css", "compare.css");

export function open(main) {
  let query = readQuery(location.search);
  let ends = rangeEnds(query.range, serverNow() / 1000);
  let charts = null;
  let requests = 0;
  let requestedAt = -Infinity;
  let aborter = null;
  let step = 0;
  let hasFailed = false;
  const machines = makeMultiChoice("Machines", {
    none: "choose one",
    most: MAX_MACHINES,
    onChange: (chosen) => choose({ machines: chosen }),
  });
  const metrics = makeMultiChoice("Metrics", {
    none: "choose one",
    textOf: metricText,
    onChange: (chosen) => choose({ metrics: chosen }),
  });
  const rangeForm = makeRangeForm((range) => choose({ range }));
  const caption = h("p", { class: "quiet" });
  const copyLink = makeCopyLink(() => location.origin + siteUrl(comparePath({ ...query, range: ends })));
  const download = h("a", { class: "button", download: "compare.csv" }, "Download CSV");
  const hint = h("p", { class: "empty" });
  const message = h("p", { class: "empty", role: "status" }, "Loading…");
  const [machinesHolder, fleetHolder] = [h("div"), h("div")];
  const page = h(
    "div",
    { class: "compare" },
    h("h1", null, "Compare"),
    h("div", { class: "controls", role: "group", "aria-label": "What is compared" }, machines.root, metrics.root),
    rangeForm.root,
    h("div", { class: "caption" }, caption, copyLink, download),
    message,
    hint,
    machinesHolder,
    fleetHolder,
  );
  main.append(page);
  showQuery();

  /** Compare something else; the browser's Back button returns to this. */
  function choose(change) {
    const path = comparePath({ ...query, ...change });
    history.pushState(null, "", siteUrl(path));
    query = readQuery(location.search);
    showQuery();
    fetchAll();
  }

  function showQuery() {
    const names = (state.fleet?.machines ?? []).map(({ name }) => name);
    machines.show(names, query.machines);
    metrics.show(Object.keys(COMPARED), query.metrics);
    setText(hint, hintText(query.machines.length));
    download.hidden = query.machines.length === 0;
  }

  async function fetchAll() {
    requests += 1;
    const request = requests;
    requestedAt = performance.now();
    aborter?.abort();
    aborter = new AbortController();
    ends = rangeEnds(query.range, serverNow() / 1000);
    rangeForm.show(query.range, ends);
    const signal = AbortSignal.any([aborter.signal, AbortSignal.timeout(TIMEOUT_MS)]);
    const answers = await Promise.allSettled(ask(query, ends, signal));
    if (request !== requests) return; // a newer request is under way, or the page was closed
    aborter = null;
    hasFailed = answers.some(({ status }) => status === "rejected");
    const problem = await show(answers, request).catch((error) => `The charts cannot be drawn: ${errorText(error)}`);
    if (request === requests) setText(message, problem);
  }

  /** Show the charts and return why some of them are missing. */
  async function show([compared, fleet], request) {
    charts ??= await makeCompareCharts(machinesHolder, fleetHolder, (range) => choose({ range }));
    if (request !== requests) return "";
    if (compared.value) charts.showMachines(compared.value, query.metrics, frameOf(compared.value));
    else charts.hideMachines();
    if (fleet.value) charts.showFleet(fleet.value, frameOf(fleet.value));
    const shown = compared.value ?? fleet.value;
    if (shown) {
      step = shown.step_s;
      setText(caption, `${rangeText(ends.from, ends.to, 60)}. Each point covers ${duration(step)}.`);
    }
    download.href = siteUrl(withQuery("/api/history", { ...seriesQuery(query, ends), format: "csv" }));
    const reasons = [compared, fleet].flatMap(({ reason }) => (reason ? [errorText(reason)] : []));
    return [...new Set(reasons)].join(" ");
  }

  function update() {
    showQuery();
    charts?.restyle();
    if (isDue() && !aborter && !document.hidden && state.failedSince === null && !charts?.isDragging()) fetchAll();
  }

  function isDue() {
    if (requests === 0) return true;
    if (!query.range.name && !hasFailed) return false; // it ends in the past
    const freshS = Math.max(state.fleet.poller.interval_s, hasFailed ? 0 : Math.min(step, FRESH_S));
    return performance.now() - requestedAt >= freshS * 1000;
  }

  function close() {
    requests += 1;
    aborter?.abort();
    charts?.close();
  }

  return { update, close };
}

function hintText(count) {
  if (count === 0) return "Choose two to six machines to compare.";
  return count === 1 ? "Choose another machine to compare this one with." : "";
}

const seriesQuery = ({ machines, metrics }, ends) => ({ machine: machines, metric: metrics, ...ends });

/** The requests for the series of the machines, if any are chosen, and for those of the fleet. */
function ask(query, ends, signal) {
  return [
    query.machines.length ? get(withQuery("/api/history", seriesQuery(query, ends)), signal) : null,
    get(withQuery("/api/history", { metric: "vram_free_gb", ...ends }), signal),
  ];
}

const frameOf = ({ from, to, step_s: step }) => ({
  from: Date.parse(from) / 1000,
  to: Date.parse(to) / 1000,
  step,
  interval: state.fleet.poller.interval_s,
});
