// The history of one machine over a time range: charts, their data, availability and events.

import { h, setText } from "../base/dom.js";
import { duration } from "../base/format.js";
import { serverNow, state } from "../base/live.js";
import { ApiError, errorText, siteUrl, withQuery } from "../base/site.js";
import { rangeEnds, rangeQuery, rangeText, readRange } from "../base/time_ranges.js";
import { makeCopyLink } from "../shared/copy_link.js";
import { makeRangeForm } from "../shared/range_form.js";
import { makeAvailability } from "./availability.js";
import { makeCharts } from "./charts.js";
import { makeDataTable } from "./data_table.js";
import { makeLatestEvents } from "./latest_events.js";
import { makeModelsLane } from "./models_lane.js";
import { outagesOf } from "./outages.js";
import { askForHistory, MARKED_TYPES } from "./questions.js";
import { staysOf } from "./residency.js";
import { chartGroups } from "./series.js";

const FRESH_S = 60;
const TIMEOUT_MS = 15_000;

/** {root, update, close}; `find` returns the live state or null, `onNone` is called if there is no history at all. */
export function makeHistory(name, find, onNone) {
  const message = h("p", { class: "empty", role: "status" }, "Loading…");
  const caption = h("p", { class: "quiet" });
  const chartHolder = h("div", { class: "groups" });
  const data = makeDataTable();
  const availability = makeAvailability(name);
  const models = makeModelsLane();
  const latestEvents = makeLatestEvents(name);
  const rangeForm = makeRangeForm(choose);
  const copyLink = makeCopyLink(() => location.origin + location.pathname + rangeQuery(shownEnds));
  const compare = h("a", null, "Compare with other machines");
  const legend = h("p", { class: "quiet legend", hidden: true });
  const content = h("div", { hidden: true }, legend, chartHolder, data.root);
  const root = h(
    "section",
    { class: "past", "aria-labelledby": "past" },
    h("h2", { id: "past" }, "History"),
    rangeForm.root,
    h("div", { class: "caption" }, caption, copyLink, compare),
    message,
    availability.root,
    models.root,
    content,
    latestEvents.root,
  );
  let range = readRange(location.search);
  let charts = null;
  let chartsPromise = null;
  let requests = 0;
  let requestedAt = -Infinity;
  let requestedState = null;
  let aborter = null;
  let step = 0;
  let hasFailed = false;
  let shownEnds = rangeEnds(range, serverNow() / 1000);
  showRangeChoice();

  /** Show another range; the browser's Back button returns to this one. */
  function choose(chosen) {
    const url = location.pathname + rangeQuery(chosen);
    const isSame = url === location.pathname + location.search;
    history[isSame ? "replaceState" : "pushState"](null, "", url);
    range = chosen;
    showRangeChoice();
    fetchHistory();
  }

  function showRangeChoice() {
    rangeForm.show(range, rangeEnds(range, serverNow() / 1000));
    compare.href = siteUrl(`${withQuery("/compare", { machine: name })}&${rangeQuery(range).slice(1)}`);
  }

  async function fetchHistory() {
    requests += 1;
    const request = requests;
    requestedState = liveState();
    requestedAt = performance.now();
    aborter?.abort();
    aborter = new AbortController();
    const ends = rangeEnds(range, serverNow() / 1000);
    root.setAttribute("aria-busy", "true");
    const signal = AbortSignal.any([aborter.signal, AbortSignal.timeout(TIMEOUT_MS)]);
    const answers = await Promise.allSettled(askForHistory(name, ends, signal));
    if (request !== requests) return; // a newer request is under way, or the page was closed
    aborter = null;
    root.removeAttribute("aria-busy");
    hasFailed = answers.some(({ status }) => status === "rejected");
    const [series, eventsOfRange, sum, events] = answers;
    if (series.reason instanceof ApiError && series.reason.status === 404) {
      showNone();
      return;
    }
    shownEnds = ends;
    availability.showSum(sum);
    latestEvents.show(events);
    setText(message, await showRange(series, eventsOfRange, request));
  }

  /** Nothing is recorded under this name: the machine is new, or there never was one. */
  function showNone() {
    if (find()) setText(message, "Nothing has been recorded for this machine yet.");
    else onNone();
  }

  /** Show what lies along the time range, and return the message above it. */
  async function showRange({ value: answer, reason }, { value: eventsOfRange, reason: whyNoEvents }, request) {
    if (reason) return `The charts are not up to date. ${errorText(reason)}`;
    step = answer.step_s;
    const frame = frameOf(answer, eventsOfRange);
    const groups = chartGroups(answer, find());
    setText(caption, `${rangeText(shownEnds.from, shownEnds.to, 60)}. Each point covers ${duration(step)}.`);
    availability.showStrip(answer.series.find(({ metric }) => metric === "up")?.points ?? [], frame);
    if (eventsOfRange) availability.showOutages(frame.outages);
    models.show(eventsOfRange ? staysIn(eventsOfRange) : null, frame, groups.length - 1);
    const chartsMessage = await showCharts(groups, frame, request);
    if (chartsMessage || !whyNoEvents) return chartsMessage;
    return `Models in memory and outages are unknown. ${errorText(whyNoEvents)}`;
  }

  /** The time range and what is drawn behind each chart. */
  function frameOf(answer, eventsOfRange) {
    const [from, to] = [answer.from, answer.to].map((time) => Date.parse(time) / 1000);
    const [before, within] = eventsOfRange ? eventsOfRange.map(({ events }) => events) : [[], []];
    return {
      from,
      to,
      step,
      interval: state.fleet.poller.interval_s,
      requested: shownEnds,
      outages: outagesOf(before, within, shownEnds.from, shownEnds.to),
      marks: within.filter(({ type }) => MARKED_TYPES.includes(type)).map(({ at }) => Date.parse(at) / 1000),
    };
  }

  async function showCharts(groups, frame, request) {
    const isEmpty = groups.every((group) => group.charts.every(({ points }) => points.length === 0));
    content.hidden = isEmpty;
    if (isEmpty) return "Nothing was recorded in this time range.";
    data.show(name, groups, frame);
    setText(legend, legendText(frame));
    legend.hidden = legend.textContent === "";
    try {
      chartsPromise ??= makeCharts(chartHolder, choose);
      charts = await chartsPromise;
    } catch (error) {
      chartsPromise = null;
      return `The charts cannot be drawn: ${errorText(error)} The table below has their data.`;
    }
    if (request !== requests) return message.textContent;
    charts.show(groups, frame);
    return "";
  }

  function staysIn([{ events: before }, { events: within }]) {
    const live = find();
    const { from, to } = shownEnds;
    const endsNow = range.name !== undefined || serverNow() / 1000 - to < 2;
    const held = endsNow && live ? live.ollama.models.map(({ model }) => model) : [];
    return staysOf(before, within, held, from, to);
  }

  /** The part of the present state that makes events: while it is the same, the history is fetched less often. */
  function liveState() {
    const live = find();
    return JSON.stringify(live && [live.status, live.loaded_models]);
  }

  function update() {
    charts?.restyle();
    latestEvents.update();
    if (isDue() && !aborter && !document.hidden && state.failedSince === null && !charts?.isDragging()) fetchHistory();
  }

  function isDue() {
    if (requests === 0) return true;
    if (!range.name && !hasFailed) return false; // it ends in the past
    const freshS = Math.max(state.fleet.poller.interval_s, hasFailed ? 0 : Math.min(step, FRESH_S));
    return performance.now() - requestedAt >= freshS * 1000 || liveState() !== requestedState;
  }

  function close() {
    requests += 1;
    aborter?.abort();
    charts?.close();
  }

  return { root, update, close };
}

/** A legend for the shades and lines on the charts, if there are any. */
export const legendText = ({ outages, marks }) =>
  [
    outages.length > 0 && "Shaded: offline.",
    marks.length > 0 && "Dashed lines: the host was rebooted or replaced, or the machine file changed.",
  ]
    .filter(Boolean)
    .join(" ");
