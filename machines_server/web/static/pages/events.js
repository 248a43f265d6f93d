// The events page: what happened in the fleet, newest first, now or around a moment.

import { h, setText } from "../base/dom.js";
import { state } from "../base/live.js";
import { errorText, siteUrl } from "../base/site.js";
import { dateTimeInputValue } from "../base/time_ranges.js";
import { makeEventLog } from "../events/event_log.js";
import { filterPath, readFilter, TYPES, withMoment } from "../events/filter.js";
import { eventTypeText, makeEventList } from "../shared/event_list.js";
import { makeMultiChoice } from "../shared/multi_choice.js";
import { loadStyles } from "../shared/styles.js";

await loadStyles("past.css");

export function open(main) {
  let filter = readFilter(location.search);
  let log = makeEventLog(filter);
  let isFetching = false;
  let isStarted = false;
  let wasAway = false;
  let isClosed = false;
  const list = makeEventList("h2");
  const message = h("p", { class: "empty", role: "status" }, "Loading…");
  const newer = h("button", { type: "button", hidden: true, click: () => fetchWith(log.fetchNewer) }, "Newer events");
  const older = h("button", { type: "button", hidden: true, click: () => fetchWith(log.fetchOlder) }, "Older events");
  const machines = makeMultiChoice("Machines", { none: "all", onChange: (chosen) => choose({ machines: chosen }) });
  const types = makeMultiChoice("Types", {
    none: "all",
    textOf: eventTypeText,
    onChange: (chosen) => choose({ types: chosen }),
  });
  const moment = makeMomentForm((at) => choose({ at }));
  main.append(
    h("h1", null, "Events"),
    h(
      "div",
      { class: "controls", role: "group", "aria-label": "Filter events" },
      machines.root,
      types.root,
      moment.root,
    ),
    newer,
    message,
    list.root,
    older,
  );
  showFilter();

  /** Show events of another filter; the browser's Back button returns to this one. */
  function choose(change) {
    filter = { ...filter, ...change };
    history.pushState(null, "", siteUrl(filterPath(filter)));
    showFilter();
    start();
  }

  function showFilter() {
    const names = (state.fleet?.machines ?? []).map(({ name }) => name);
    machines.show(names, filter.machines);
    types.show(TYPES, filter.types);
    moment.show(filter.at);
  }

  /** Begin anew; what is shown stays until the answer is here. */
  async function start() {
    isStarted = true;
    isFetching = false;
    log = makeEventLog(filter);
    await fetchWith(log.start);
    if (filter.at !== null) list.root.querySelector(".moment-line")?.scrollIntoView({ block: "center" });
  }

  async function fetchWith(fetchPage) {
    if (isFetching) return;
    isFetching = true;
    const used = log;
    let failure = "";
    try {
      await fetchPage();
    } catch (error) {
      failure = errorText(error);
    }
    if (used !== log || isClosed) return; // the filter has changed, or another page was opened
    isFetching = false;
    show(failure);
  }

  function show(failure) {
    list.show(withMoment(log.events, filter.at, log.held));
    newer.hidden = !log.hasNewer;
    older.hidden = !log.hasOlder;
    setText(message, failure || (log.events.length ? "" : emptyText(filter)));
  }

  /** New events appear by themselves, unless there are pages between them and what is shown. */
  function update(hasChanged) {
    showFilter();
    const isBack = wasAway && state.failedSince === null;
    wasAway = state.failedSince !== null;
    if (!isStarted || isBack) start();
    else if (hasChanged && !log.hasNewer && !wasAway) fetchWith(log.fetchNewer);
    else list.update();
  }

  function close() {
    isClosed = true;
  }

  return { update, close };
}

const emptyText = ({ machines, types }) =>
  machines.length || types.length ? "No events match the filter." : "No events yet.";

/** {root, show(at)}: asks for a moment; `onChoose` is called with it in epoch seconds, or with null for now. */
function makeMomentForm(onChoose) {
  const input = h("input", { type: "datetime-local", name: "at", required: true });
  const latest = h("button", { type: "button", click: () => onChoose(null) }, "Latest events");
  const submit = (event) => {
    event.preventDefault();
    onChoose(new Date(input.value).getTime() / 1000);
  };
  const root = h(
    "form",
    { class: "moment-form", "aria-label": "Events around a moment", submit },
    h("label", null, "What happened at ", input),
    h("button", { type: "submit" }, "Show"),
    latest,
  );
  let shown;

  function show(at) {
    latest.hidden = at === null;
    if (at === shown) return; // it may be half typed
    shown = at;
    input.value = at === null ? "" : dateTimeInputValue(at);
  }

  return { root, show };
}
