import assert from "node:assert/strict";
import { test } from "node:test";

import { boxPath, staysOf } from "../../machines_server/web/static/machine/residency.js";

/** Events [seconds, type, model], oldest first, as the API has them: newest first. */
const events = (...told) =>
  told.map(([time, type, model]) => ({ at: new Date(time * 1000).toISOString(), type, model })).reverse();

test("a stay lasts from loading to unloading", () => {
  const within = events([10, "model_loaded", "m"], [30, "model_unloaded", "m"], [50, "model_loaded", "m"]);
  assert.deepEqual(staysOf([], within, ["m"], 0, 100), [
    [
      "m",
      [
        [10, 30],
        [50, 100],
      ],
    ],
  ]);
});

test("a model that was unloaded first had been there from the start", () => {
  assert.deepEqual(staysOf([], events([30, "model_unloaded", "m"]), [], 0, 100), [["m", [[0, 30]]]]);
});

test("a model that is held and had no event was there all the time", () => {
  assert.deepEqual(staysOf([], [], ["m"], 0, 100), [["m", [[0, 100]]]]);
});

test("what was loaded before the range is cut off at its start", () => {
  const before = events([10, "model_loaded", "m"], [10, "model_loaded", "n"], [20, "model_unloaded", "n"]);
  assert.deepEqual(staysOf(before, events([60, "model_unloaded", "m"]), [], 50, 100), [["m", [[50, 60]]]]);
});

test("nobody knows what a silent machine holds: stays end and continue when it is back", () => {
  const within = events(
    [10, "model_loaded", "m"],
    [20, "offline"],
    [30, "online"],
    [40, "unknown"],
    [50, "model_unloaded", "m"],
    [50, "online"],
    [60, "model_loaded", "n"],
    [70, "offline"],
  );
  assert.deepEqual(staysOf([], within, [], 0, 100), [
    [
      "m",
      [
        [10, 20],
        [30, 40],
      ],
    ],
    ["n", [[60, 70]]],
  ]);
});

test("the model with the longest total comes first", () => {
  const within = events(
    [10, "model_loaded", "short"],
    [20, "model_unloaded", "short"],
    [20, "model_loaded", "long"],
    [80, "model_unloaded", "long"],
  );
  assert.deepEqual(
    staysOf([], within, [], 0, 100).map(([model]) => model),
    ["long", "short"],
  );
});

test("even the shortest stay can be seen, also at the end", () => {
  assert.equal(boxPath([0, 50], 0, 100), "M0.0 0H500.0V1H0.0Z");
  assert.equal(boxPath([10, 10], 0, 100), "M100.0 0H102.0V1H100.0Z");
  assert.equal(boxPath([100, 100], 0, 100), "M998.0 0H1000.0V1H998.0Z");
});
