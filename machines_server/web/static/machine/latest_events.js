// The latest events of a machine in the time range.

import { h, setText } from "../base/dom.js";
import { errorText, siteUrl, withQuery } from "../base/site.js";
import { makeEventList } from "../shared/event_list.js";
import { MAX_EVENTS } from "./questions.js";

/** {root, show(answer), update()}: `show` takes a settled promise of /api/events. */
export function makeLatestEvents(name) {
  const list = makeEventList("h4", true);
  const message = h("p", { class: "empty" });
  const all = h("a", { href: siteUrl(withQuery("/events", { machine: name })) }, "See all events of this machine");
  const more = h("p", { hidden: true }, `Only the latest ${MAX_EVENTS} are listed. `, all);
  const root = h(
    "section",
    { "aria-labelledby": "events" },
    h("h3", { id: "events" }, "Events"),
    message,
    list.root,
    more,
  );

  function show({ value, reason }) {
    const events = value?.events ?? [];
    list.show(events);
    more.hidden = !value?.truncated;
    if (reason) setText(message, errorText(reason));
    else setText(message, events.length ? "" : "No events in this time range.");
  }

  return { root, show, update: list.update };
}
