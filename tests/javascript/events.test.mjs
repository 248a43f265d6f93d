import assert from "node:assert/strict";
import { test } from "node:test";

import {
  filterPath,
  heldModels,
  mergeEvents,
  readFilter,
  withMoment,
} from "../../machines_server/web/static/events/filter.js";
import { eventDays, eventTypeText } from "../../machines_server/web/static/shared/event_list.js";

const event = (id, at) => ({ id, at, type: "online" });
const ids = (events) => events.map(({ id }) => id);
const HELD = [["phi3", ["b"]]];
const MARK = `moment ${JSON.stringify(HELD)}`;

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
  assert.deepEqual(ids(withMoment(events, at, HELD)), [2, MARK, 1]);
  assert.deepEqual(ids(withMoment(events, at + 1, HELD)), [MARK, 2, 1]);
  assert.deepEqual(ids(withMoment([], at, HELD)), [MARK]);
  assert.equal(withMoment(events, null, null), events);
});

test("what was in memory at a moment is that of the chosen machines", () => {
  const models = [
    { model: "phi3", resident_on: ["a", "b"] },
    { model: "mistral", resident_on: ["a"] },
    { model: "qwen3", resident_on: [] },
  ];
  assert.deepEqual(heldModels(models, ["B"]), HELD);
  assert.deepEqual(heldModels(models, []), [
    ["phi3", ["a", "b"]],
    ["mistral", ["a"]],
  ]);
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
