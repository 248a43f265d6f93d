import assert from "node:assert/strict";
import { test } from "node:test";

import { filterPath, mergeEvents, readFilter, withMoment } from "../../machines_server/web/static/events/filter.js";
import { eventDays, eventTypeText } from "../../machines_server/web/static/shared/event_list.js";

const event = (id, at) => ({ id, at, type: "online" });
const ids = (events) => events.map(({ id }) => id);

test("a filter is read from the URL and written there again", () => {
  const filter = { machines: ["a", "b"], types: ["offline", "online"], at: 1_700_000_000 };
  const path = filterPath(filter);
  assert.equal(path, "/events?machine=a&machine=b&type=offline&type=online&at=1700000000");
  assert.deepEqual(readFilter(path.slice(path.indexOf("?"))), filter);
  assert.equal(filterPath({ machines: [], types: [], at: null }), "/events");
});

test("what is no filter is left out", () => {
  assert.deepEqual(readFilter("?machine=&machine=a&machine=a&type=nothing&at=yesterday"), {
    machines: ["a"],
    types: [],
    at: null,
  });
  for (const at of ["", "-1", "Infinity"]) assert.equal(readFilter(`?at=${at}`).at, null);
  assert.equal(readFilter("?at=0").at, 0);
});

test("pages become one list, newest first, without repetitions", () => {
  const [early, late] = ["2026-07-01T00:00:00Z", "2026-07-01T01:00:00Z"];
  assert.deepEqual(ids(mergeEvents([event(3, late), event(1, early)], [event(1, early), event(2, late)])), [3, 2, 1]);
});

test("the mark of a moment lies between what was before it and what happened from then on", () => {
  const events = [event(2, "2026-07-01T01:00:00Z"), event(1, "2026-07-01T00:00:00Z")];
  const at = Date.parse("2026-07-01T01:00:00Z") / 1000;
  assert.deepEqual(ids(withMoment(events, at)), [2, "moment", 1]);
  assert.deepEqual(ids(withMoment(events, at + 1)), ["moment", 2, 1]);
  assert.deepEqual(ids(withMoment([], at)), ["moment"]);
  assert.equal(withMoment(events, null), events);
});

test("days are those of the reader's time zone", () => {
  const events = [event(3, "2026-07-01T22:30:00Z"), event(2, "2026-07-01T21:30:00Z"), event(1, "2026-06-30T22:30:00Z")];
  assert.deepEqual(
    eventDays(events).map(([day, some]) => [day.replace(",", ""), ids(some)]),
    [
      ["Thursday 2 July 2026", [3]],
      ["Wednesday 1 July 2026", [2, 1]],
    ],
  );
});

test("a type of event is named in words", () => {
  assert.equal(eventTypeText("model_loaded"), "model loaded");
});
