// The events page: what happened in the fleet, newest first.

import { h, renderIfChanged, renderList, setText, updateTimes } from "../base/dom.js";
import { ageText } from "../base/format.js";
import { serverNow, state } from "../base/live.js";
import { errorText, get, replaceUrl, withQuery } from "../base/site.js";
import { dateTimeInputValue } from "../base/time_ranges.js";
import { eventLine } from "../shared/machine_parts.js";

const PAGE_SIZE = 100;
const MAX_PAGE_SIZE = 10_000;
const TYPES = [
  "online",
  "degraded",
  "offline",
  "unknown",
  "model_loaded",
  "model_unloaded",
  "machine_added",
  "machine_changed",
  "machine_removed",
  "host_rebooted",
  "host_changed",
];

export function open(main) {
  const query = readQuery(location.search);
  const list = h("ol", { class: "events long" });
  const message = h("p", { class: "empty", role: "status" });
  const older = h("button", { type: "button", class: "button", hidden: true, click: fetchOlder }, "Older events");
  const machine = h("select", { name: "machine", change: choose });
  const type = h("select", { name: "type", change: choose }, options(TYPES));
  const until = h("input", { type: "datetime-local", name: "to", change: choose });
  type.value = query.get("type") ?? "";
  if (query.get("to")) until.value = dateTimeInputValue(Number(query.get("to")));
  main.append(
    h("h1", null, "Events"),
    h(
      "form",
      { class: "controls", "aria-label": "Filter events", submit: (event) => event.preventDefault() },
      h("label", null, "Machine ", machine),
      h("label", null, "Type ", type),
      h("label", null, "Until ", until),
    ),
    message,
    list,
    older,
  );
  let shown = [];
  let requests = 0;
  let showsOlder = false;

  function choose({ target }) {
    const value = target.name === "to" && target.value ? String(new Date(target.value).getTime() / 1000) : target.value;
    if (value) query.set(target.name, value);
    else query.delete(target.name);
    replaceUrl(withQuery("/events", Object.fromEntries(query)));
    fetchEvents();
  }

  function fetchOlder() {
    showsOlder = true;
    fetchEvents(Date.parse(shown.at(-1).at) / 1000 + 0.001);
  }

  /** Fetch the newest events, or add those before `before` (epoch seconds) to what is shown. */
  async function fetchEvents(before = null, limit = PAGE_SIZE) {
    requests += 1;
    const request = requests;
    try {
      const filter = { machine: query.get("machine"), type: query.get("type"), to: before ?? query.get("to") };
      const { events } = await get(withQuery("/api/events", { ...filter, limit }));
      if (request !== requests) return;
      const known = new Set(before === null ? [] : shown.map(({ id }) => id));
      const added = events.filter(({ id }) => !known.has(id));
      // All events of a full page may have the same time and be shown already: a larger page goes further back.
      if (before !== null && !added.length && events.length === limit && limit < MAX_PAGE_SIZE) {
        fetchEvents(before, Math.min(MAX_PAGE_SIZE, limit * 10));
        return;
      }
      shown = before === null ? events : [...shown, ...added];
      showsOlder = before !== null;
      older.hidden = events.length < limit;
      setText(message, shown.length ? "" : emptyText());
    } catch (error) {
      if (request !== requests) return;
      setText(message, errorText(error));
      if (before === null) shown = []; // what is shown may not match the filter
    }
    show();
  }

  const emptyText = () => (query.size ? "No events match the filter." : "No events yet.");

  function show() {
    renderList(
      list,
      shown,
      ({ id }) => id,
      (event) => eventLine(event, serverNow()),
    );
    updateTimes(list, (time) => ageText(time, serverNow()));
  }

  /** New events appear by themselves, unless the reader looks at older ones. */
  function update(hasChanged) {
    const names = [...state.fleet.machines.map(({ name }) => name), query.get("machine")].filter(Boolean);
    renderIfChanged(machine, names, () => options([...new Set(names)]));
    machine.value = query.get("machine") ?? "";
    if (requests === 0 || (hasChanged && !showsOlder && !query.get("to"))) fetchEvents();
    else show();
  }

  return { update };
}

/** The filter in the URL, without values that this page never puts there. */
function readQuery(search) {
  const query = new URLSearchParams(search);
  if (!TYPES.includes(query.get("type"))) query.delete("type");
  if (!Number.isFinite(Number(query.get("to")))) query.delete("to");
  return query;
}

const options = (values) => [
  h("option", { value: "" }, "any"),
  ...values.map((value) => h("option", { value }, value)),
];
