// The history of one machine over a time range: charts, their data, availability and events.

import { h, renderIfChanged, renderList, setText, updateTimes } from "../base/dom.js";
import { ageText, duration, number } from "../base/format.js";
import { STATUSES, serverNow, state } from "../base/live.js";
import { ApiError, errorText, get, machineApi, siteUrl, withQuery } from "../base/site.js";
import { rangeEnds, rangeQuery, rangeText, readRange } from "../base/time_ranges.js";
import { eventLine, statusBadge } from "../shared/machine_parts.js";
import { makeCharts } from "./charts.js";
import { makeDataTable } from "./data_table.js";
import { makeRangeForm } from "./range_form.js";
import { RESIDENCY_EVENT_TYPES, staysOf } from "./residency.js";
import { chartGroups, HISTORY_METRICS } from "./series.js";

const MAX_EVENTS = 50;
const MAX_RESIDENCY_EVENTS = 10_000;
const EVENTS_BEFORE = 1000;
const FRESH_S = 60;
const TIMEOUT_MS = 15_000;

/** {root, update, close}; `find` returns the live state or null, `onNone` is called if there is no history at all. */
export function makeHistory(name, find, onNone) {
  const message = h("p", { class: "empty", role: "status" }, "Loading…");
  const caption = h("p", { class: "quiet" });
  const chartHolder = h("div", { class: "groups" });
  const data = makeDataTable();
  const availability = h("div");
  const events = h("div");
  const rangeForm = makeRangeForm(choose);
  const content = h("div", { hidden: true }, chartHolder, data.root);
  const root = h(
    "section",
    { class: "past", "aria-labelledby": "past" },
    h("h2", { id: "past" }, "History"),
    rangeForm.root,
    caption,
    message,
    content,
    subsection("availability", "Availability", availability),
    subsection("events", "Events", events),
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
  rangeForm.show(range, rangeEnds(range, serverNow() / 1000));

  /** Show another range; the browser's Back button returns to this one. */
  function choose(chosen) {
    const url = location.pathname + rangeQuery(chosen);
    const isSame = url === location.pathname + location.search;
    history[isSame ? "replaceState" : "pushState"](null, "", url);
    range = chosen;
    rangeForm.show(range, rangeEnds(range, serverNow() / 1000));
    fetchHistory();
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
    const answers = await Promise.allSettled(requestAll(name, ends, signal));
    if (request !== requests) return; // a newer request is under way, or the page was closed
    aborter = null;
    root.removeAttribute("aria-busy");
    hasFailed = answers.some(({ status }) => status === "rejected");
    const [series, residencyEvents, statuses, latestEvents] = answers;
    if (series.reason instanceof ApiError && series.reason.status === 404) {
      showNone();
      return;
    }
    showAvailability(statuses);
    showEvents(latestEvents);
    setText(message, await showCharts(series, residencyEvents, ends, request));
  }

  /** Nothing is recorded under this name: the machine is new, or there never was one. */
  function showNone() {
    if (find()) setText(message, "Nothing has been recorded for this machine yet.");
    else onNone();
  }

  /** Show the charts and return the message above them. */
  async function showCharts({ value: answer, reason }, residencyEvents, ends, request) {
    if (reason) return `The charts are not up to date. ${errorText(reason)}`;
    const live = find();
    step = answer.step_s;
    const [from, to] = [answer.from, answer.to].map((time) => Date.parse(time) / 1000);
    const frame = { from, to, step, interval: state.fleet.poller.interval_s, requested: ends };
    const groups = chartGroups(answer, live);
    const isEmpty = groups.every((group) => group.charts.every(({ points }) => points.length === 0));
    setText(caption, `${rangeText(ends.from, ends.to, 60)}. Each point covers ${duration(step)}.`);
    content.hidden = isEmpty;
    if (isEmpty) return "Nothing was recorded in this time range.";
    data.show(name, groups, frame);
    try {
      chartsPromise ??= makeCharts(chartHolder, (start, end) => choose({ from: start, to: end }));
      charts = await chartsPromise;
    } catch (error) {
      chartsPromise = null;
      return `The charts cannot be drawn: ${errorText(error)} The table below has their data.`;
    }
    if (request !== requests) return message.textContent;
    charts.show(groups, frame, staysIn(residencyEvents, live, ends));
    const { reason: unknown } = residencyEvents;
    return unknown ? `It is unknown which models were in memory. ${errorText(unknown)}` : "";
  }

  function staysIn({ value }, live, { from, to }) {
    if (!value) return null;
    const [before, within] = value.map((answer) => answer.events);
    const endsNow = range.name !== undefined || serverNow() / 1000 - to < 2;
    const held = endsNow && live ? live.ollama.models.map(({ model }) => model) : [];
    return staysOf(before, within, held, from, to);
  }

  function showAvailability({ value, reason }) {
    renderIfChanged(availability, value ?? errorText(reason), () =>
      value ? availabilityOf(value) : h("p", { class: "empty" }, errorText(reason)),
    );
  }

  function showEvents({ value, reason }) {
    if (reason) {
      renderIfChanged(events, errorText(reason), () => h("p", { class: "empty" }, errorText(reason)));
      return;
    }
    const isFull = value.events.length === MAX_EVENTS;
    renderIfChanged(events, [value.events.length === 0, isFull], () => [
      value.events.length ? h("ol", { class: "events" }) : h("p", { class: "empty" }, "No events in this time range."),
      isFull && moreEvents(name),
    ]);
    if (!value.events.length) return;
    renderList(
      events.firstChild,
      value.events,
      ({ id }) => id,
      (event) => eventLine(event, serverNow()),
    );
  }

  /** The part of the present state that makes events: while it is the same, the history is fetched less often. */
  function liveState() {
    const live = find();
    return JSON.stringify(live && [live.status, live.loaded_models]);
  }

  function update() {
    charts?.restyle();
    updateTimes(events, (time) => ageText(time, serverNow()));
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

const subsection = (id, heading, holder) => h("section", { "aria-labelledby": id }, h("h3", { id }, heading), holder);

const moreEvents = (name) =>
  h(
    "p",
    null,
    `Only the latest ${MAX_EVENTS} are listed. `,
    h("a", { href: siteUrl(withQuery("/events", { machine: name })) }, "See all events of this machine"),
  );

/** The requests for series, events about models, availability and the latest events. */
function requestAll(name, ends, signal) {
  const events = (query) => get(withQuery("/api/events", { machine: name, ...query }), signal);
  return [
    get(withQuery(machineApi(name, "/history"), { metric: HISTORY_METRICS, ...ends }), signal),
    Promise.all([
      events({ type: RESIDENCY_EVENT_TYPES, to: ends.from, limit: EVENTS_BEFORE }),
      events({ type: RESIDENCY_EVENT_TYPES, ...ends, limit: MAX_RESIDENCY_EVENTS }),
    ]),
    get(withQuery(machineApi(name, "/availability"), ends), signal),
    events({ ...ends, limit: MAX_EVENTS }),
  ];
}

/** The answer of /availability as a sentence and a list. */
function availabilityOf({ seconds, ratio }) {
  const total = STATUSES.reduce((sum, status) => sum + seconds[status], 0);
  const shares = STATUSES.map((status) => h("li", null, statusBadge(status), ` ${shareText(seconds[status], total)}`));
  return [h("p", null, ratioText(ratio)), h("ul", { class: "shares" }, shares)];
}

export function ratioText(ratio) {
  if (ratio === null) return "Availability in this time range is unknown.";
  return `Answered ${number(ratio * 100, 1)} % of the time for which its status is known.`;
}

export const shareText = (seconds, total) =>
  seconds > 0 ? `${duration(seconds)}, ${number((seconds / total) * 100, 1)} %` : "–";
