// Events under headings of days, each with its clock time and its age.

import { h, renderList, setText } from "../base/dom.js";
import { ageText, dateTimeText, timeText, withLocalTimes } from "../base/format.js";
import { STATUSES, serverNow } from "../base/live.js";
import { machinePage, siteUrl, withQuery } from "../base/site.js";
import { eventWords, machineLink, statusBadge } from "./machine_parts.js";

const AROUND_S = 1800;
const DAY = new Intl.DateTimeFormat(undefined, { dateStyle: "full" });

/** The label of a type of event. */
export const eventTypeText = (type) => type.replaceAll("_", " ");

/** Events in groups of one day in the reader's time zone: [[name of the day, events], ...], in their order. */
export function eventDays(events) {
  const days = new Map();
  for (const event of events) {
    const day = DAY.format(Date.parse(event.at));
    if (!days.has(day)) days.set(day, []);
    days.get(day).push(event);
  }
  return [...days];
}

/**
 * {root, show(events), update()}: `show` takes events newest first; one of the type "moment" is a line that marks a time.
 * `headingTag` is that of the days; `isOfOneMachine` leaves out its name. `update` shows what time alone changes.
 */
export function makeEventList(headingTag, isOfOneMachine = false) {
  const root = h("div", { class: "days" });

  function show(events) {
    const days = eventDays(events);
    renderList(
      root,
      days,
      ([day]) => day,
      ([day]) => h("section", { class: "day" }, h(headingTag, null, day), h("ol", { class: "events" })),
    );
    for (const [place, [, eventsOfDay]] of days.entries())
      renderList(
        root.children[place].lastChild,
        eventsOfDay,
        ({ id }) => id,
        (event) => line(event, isOfOneMachine),
      );
    update();
  }

  function update() {
    const now = serverNow();
    for (const age of root.querySelectorAll(".age-of")) setText(age, ageText(age.dataset.at, now));
  }

  return { root, show, update };
}

/** A line across the list, with what was in memory at that time. */
function momentLine({ at, held }) {
  const models = held?.map(([model, names]) =>
    h(
      "li",
      null,
      h("b", null, model),
      " on ",
      names.map((name, place) => [place > 0 && ", ", machineLink(name)]),
    ),
  );
  return h(
    "li",
    { class: "moment-line" },
    h("b", null, dateTimeText(Date.parse(at))),
    held && h("p", null, held.length ? "In memory at this time:" : "No model was seen in memory at this time."),
    h("ul", null, models),
  );
}

function line(event, isOfOneMachine) {
  if (event.type === "moment") return momentLine(event);
  const time = Math.round(Date.parse(event.at) / 1000);
  const charts = withQuery(machinePage(event.machine), { from: time - AROUND_S, to: time + AROUND_S });
  const clock = h("time", { datetime: event.at, title: dateTimeText(time * 1000) }, timeText(Date.parse(event.at)));
  return h(
    "li",
    { class: "event" },
    h("a", { class: "moment", href: siteUrl(charts) }, clock),
    " ",
    isOfOneMachine ? null : [machineLink(event.machine), " "],
    h(
      "span",
      { class: `what ${event.type}` },
      STATUSES.includes(event.type)
        ? [statusBadge(event.type), " ", withLocalTimes(event.reason ?? "")]
        : eventWords(event).map((words, place) => (place === 1 ? h("b", null, words) : words)),
    ),
    " ",
    h("span", { class: "quiet age-of", "data-at": event.at }),
  );
}
