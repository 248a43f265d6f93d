// The fleet page: who is online, what is loaded where, where VRAM is free, and the latest events.

import { afterPaint, h, renderIfChanged, renderList, setText, updateTimes } from "../base/dom.js";
import { ageText } from "../base/format.js";
import { serverNow, state } from "../base/live.js";
import { changeUrl, get, siteUrl, withQuery } from "../base/site.js";
import { refreshAvailability } from "../fleet/availability.js";
import { filterMachines, isTable, makeFilterForm, readMinFree, readSort, sortAfterClick } from "../fleet/filter.js";
import { makeMachineList } from "../fleet/machine_list.js";
import { makeSummary } from "../fleet/summary.js";
import { addMachineSteps } from "../shared/add_machine.js";
import { eventLine } from "../shared/machine_parts.js";

const EVENTS = 20; // narrow screens show five

export function open(main) {
  let query = new URLSearchParams(location.search);
  const summary = makeSummary(choose);
  const form = makeFilterForm(() => query, choose);
  const list = makeMachineList((name) => choose("sort", sortAfterClick(query, name)));
  const events = h("ol", { class: "events" });
  const count = h("span", { role: "status" });
  const route = h("a", { hidden: true }, "Where would a request go?");
  const latest = h(
    "section",
    { class: "latest", "aria-labelledby": "latest" },
    h("h2", { id: "latest" }, h("a", { href: siteUrl("/events") }, "Recent events")),
    events,
  );
  const found = h("p", { class: "found quiet" }, count, " ", route);
  const machinesAndEvents = h("div", { class: "fleet" }, h("div", null, found, list.root), latest);
  const fleet = h("div", null, summary.root, form.root, machinesAndEvents);
  const firstSteps = h("div");
  main.append(h("h1", { class: "unseen" }, "Fleet"), fleet, firstSteps);
  let requests = 0;

  /** Put one choice into the URL and show the result. */
  function choose(name, value) {
    if (value) query.set(name, value);
    else query.delete(name);
    changeUrl(withQuery("/", Object.fromEntries(query)));
    showQuery();
  }

  /** Show the state in the URL after Back or Forward. */
  function readUrl() {
    query = new URLSearchParams(location.search);
    showQuery();
  }

  function showQuery() {
    if (state.fleet) show();
    updateAges();
  }

  function update(hasChanged) {
    if (hasChanged) {
      show();
      afterPaint(fetchEvents);
    }
    updateAges();
  }

  function updateAges() {
    updateTimes(events, (time) => ageText(time, serverNow()));
    list.update();
    refreshAvailability(list.update);
  }

  function show() {
    const { machines } = state.fleet;
    fleet.hidden = machines.length === 0;
    renderIfChanged(firstSteps, machines.length === 0, () => (machines.length ? [] : welcome()));
    if (!machines.length) return;
    summary.show(machines, state.leases, query.get("status"));
    form.update(machines);
    const wanted = filterMachines(machines, query, state.leases);
    setText(count, countText(wanted.length, machines.length));
    const size = readMinFree(query);
    route.hidden = !size;
    route.href = siteUrl(withQuery("/models", { min_free_vram_gb: size }));
    list.show(wanted, isTable(query), readSort(query));
  }

  async function fetchEvents() {
    requests += 1;
    const request = requests;
    try {
      const answer = await get(withQuery("/api/events", { limit: EVENTS }));
      if (request !== requests) return;
      renderList(
        events,
        answer.events,
        ({ id }) => id,
        (event) => eventLine(event, serverNow()),
      );
    } catch (error) {
      console.info("no events:", error.message);
    }
  }

  return { update, readUrl, close: list.close };
}

function countText(shown, all) {
  if (shown === all) return "";
  return shown ? `${shown} of ${all} machines` : "No machine matches the filter.";
}

/** Shown for a fleet without machines: how to add one. */
const welcome = () =>
  h(
    "section",
    { class: "welcome", "aria-labelledby": "welcome" },
    h("h2", { id: "welcome" }, "No machines yet: add one in three steps"),
    addMachineSteps(),
  );
