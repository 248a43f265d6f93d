import assert from "node:assert/strict";
import { test } from "node:test";

import { highReadings, isHighShare, isHot, marked } from "../../machines_server/web/static/shared/thresholds.js";

test("a share is high from nine tenths on, and a GPU is hot from 85 degrees on", () => {
  assert.deepEqual([0, 0.89, 0.9, NaN].map(isHighShare), [false, false, true, false]);
  assert.deepEqual([0, 84, 85, null, undefined].map(isHot), [false, false, true, false, false]);
});

test("a high value has a mark besides its colour", () => {
  assert.equal(marked("96 %", true).replace("\u202f", " "), "▲ 96 %");
  assert.equal(marked("40 %", false), "40 %");
});

test("full memory and disks, and hot GPUs, are told in words; what is unknown is not", () => {
  const telemetry = {
    ram_used_gb: 125,
    ram_total_gb: 128,
    disk_used_gb: 50,
    disk_total_gb: 100,
    disk_available_gb: 3,
    gpu: [
      { index: 0, temperature_c: 60 },
      { index: 1, temperature_c: 91 },
      { index: 2, temperature_c: null },
    ],
  };
  assert.deepEqual(highReadings(telemetry), ["the disk is 97 % full", "RAM is 97 % full", "GPU 1 is at 91 °C"]);
  assert.deepEqual(highReadings({}), []);
});
