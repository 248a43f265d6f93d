import assert from "node:assert/strict";
import { test } from "node:test";

import { availabilityShare, outagesText, shareText } from "../../machines_server/web/static/fleet/availability.js";

test("a machine that was away for a moment was not up all the time, and unknown is not 0", () => {
  const text = (ratio) => shareText(ratio).replace("\u00a0", " ");
  assert.deepEqual([1, 0.99999, 0.9876, 0].map(text), ["100 %", "99.9 %", "98.7 %", "0 %"]);
  assert.equal(shareText(null), "");
  assert.equal(availabilityShare("nobody"), "");
  assert.equal(outagesText("nobody"), "");
});
