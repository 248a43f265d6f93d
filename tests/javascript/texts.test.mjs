import assert from "node:assert/strict";
import { test } from "node:test";

import { ApiError, errorText } from "../../machines_server/web/static/base/site.js";
import {
  barsOf,
  outagesText,
  outageWords,
  ratioText,
  shareText,
} from "../../machines_server/web/static/machine/availability.js";
import { legendText } from "../../machines_server/web/static/machine/history.js";
import { brokenFileText } from "../../machines_server/web/static/machine/present.js";
import { byReason } from "../../machines_server/web/static/models/route_form.js";
import { expiredText, leaseText, sumText } from "../../machines_server/web/static/shared/lease_facts.js";
import { eventWords } from "../../machines_server/web/static/shared/machine_parts.js";
import { CPU, DISK, gpuLoadText, RAM } from "../../machines_server/web/static/shared/meters.js";

const plain = (text) => text.replaceAll("\u00a0", " ");
const words = (event) => plain(eventWords(event).join(""));

test("a gauge shows values with their totals, and an empty bar for what is unknown", () => {
  const shown = ({ read }, telemetry) => {
    const [text, share] = read(telemetry);
    return [plain(text), share];
  };
  assert.deepEqual(shown(CPU, { cpu_percent: 12.4 }), ["12 %", 0.124]);
  assert.deepEqual(shown(CPU, { cpu_percent: 0 }), ["0 %", 0]);
  assert.deepEqual(shown(CPU, { cpu_percent: null }), ["–", NaN]);
  assert.deepEqual(shown(RAM, { ram_used_gb: 38.25, ram_total_gb: 128 }), ["38.3 of 128 GiB", 38.25 / 128]);
  assert.deepEqual(shown(RAM, { ram_used_gb: 38, ram_total_gb: null }), ["38 of – GiB", NaN]);
  assert.deepEqual(shown(RAM, { ram_used_gb: 38, ram_total_gb: 0 }), ["38 of 0 GiB", NaN]);
  assert.deepEqual(shown(DISK, { disk_used_gb: 40, disk_total_gb: 100, disk_available_gb: 55 }), [
    "40 of 100 GiB",
    0.45,
  ]);
  assert.deepEqual(shown(DISK, {}), ["– of – GiB", NaN]);
});

test("the load of a GPU has its units, also where it is unknown", () => {
  assert.equal(plain(gpuLoadText({ utilisation: 47, temperature_c: 61, power_w: 213.4 })), "47 % busy · 61 °C · 213 W");
  assert.equal(plain(gpuLoadText({ utilisation: null })), "– busy · – °C · – W");
});

test("a lease says what it reserves and when it expires", () => {
  const now = Date.parse("2026-07-01T00:00:00Z");
  const text = (lease) =>
    plain(leaseText({ gpus: [], ram_gb: null, expires_at: "2026-07-01T00:10:00Z", ...lease }, now));
  assert.equal(text({}), "no memory reserved, expires in 10 min");
  const gpus = [
    { index: 1, vram_gb: 4 },
    { index: null, vram_gb: 2.5 },
  ];
  assert.equal(text({ gpus, ram_gb: 8 }), "4 GiB of GPU 1, 2.5 GiB of GPU ?, 8 GiB of RAM, expires in 10 min");
  assert.equal(text({ expires_at: "2026-06-30T00:00:00Z" }), "no memory reserved, expires now");
});

test("leases that nobody released are counted, one like many", () => {
  assert.match(expiredText(0), /No lease expired/);
  assert.match(expiredText(1), /^1 lease expired/);
  assert.match(expiredText(2), /^2 leases expired/);
});

test("events are told in words, and a type that this page does not know by its name", () => {
  const loaded = { type: "model_loaded", model: "phi3", size_gb: 3.96, processor: "100% GPU" };
  assert.equal(words(loaded), "loaded phi3 (4 GiB, 100% GPU)");
  assert.equal(words({ ...loaded, size_gb: null }), "loaded phi3 (– GiB, 100% GPU)");
  assert.equal(words({ type: "model_unloaded", model: "phi3", resident_s: 7500 }), "unloaded phi3 after 2 h 5 min");
  assert.equal(words({ type: "model_unloaded", model: "phi3", resident_s: null }), "unloaded phi3 after –");
  const changed = { type: "machine_changed", file: "box.yaml", keys: ["role", "tags"] };
  assert.equal(words(changed), "was changed in box.yaml: role, tags");
  const rebooted = { type: "host_rebooted", uptime_s: 60, uptime_before_s: 90_000 };
  assert.equal(words(rebooted), "rebooted after 1 d 1 h of uptime");
  assert.equal(words({ type: "service_up", service: "web" }), "service web answers");
  assert.equal(
    words({ type: "service_down", service: "web", reason: "refused" }),
    "service web does not answer (refused)",
  );
  assert.equal(words({ type: "moved" }), "moved");
});

test("availability that is unknown is not 0", () => {
  assert.match(ratioText(null), /unknown/);
  assert.match(ratioText(0), /^Answered 0 %/);
  assert.match(ratioText(0.99999), /^Answered 99.99 %/);
  assert.match(ratioText(0.57), /^Answered 57 %/);
  assert.match(ratioText(1), /^Answered 100 %/);
  assert.equal(plain(shareText(0, 100)), "–");
  assert.equal(plain(shareText(90, 360)), "1 min, 25 %");
});

test("outages are counted and each is told in words", () => {
  assert.equal(outagesText(0, 0), "No outages.");
  assert.equal(plain(outagesText(1, 90)), "One outage, of 1 min.");
  assert.equal(plain(outagesText(12, 7200)), "12 outages, the longest of 2 h.");
  const outage = { from: 0, to: 300, reason: "connection refused", isOpen: false };
  assert.equal(plain(outageWords(outage)), ": offline for 5 min, connection refused");
  assert.equal(plain(outageWords({ ...outage, reason: null, isOpen: true })), ": offline for 5 min so far");
});

test("bars of a slot differ in height, not only in colour", () => {
  assert.deepEqual(barsOf(1), [["up", 0, 1]]);
  assert.deepEqual(barsOf(0), [["down", 0.5, 0.5]]);
  assert.deepEqual(barsOf(null), [["unpolled", 0.45, 0.1]]);
  assert.deepEqual(barsOf(0.999), [
    ["up", 0, 0.8],
    ["partly", 0.8, 0.2],
  ]);
});

test("a legend explains what is drawn, and nothing else", () => {
  assert.equal(legendText({ outages: [], marks: [] }), "");
  assert.match(legendText({ outages: [{}], marks: [] }), /^Shaded: offline\.$/);
  assert.match(legendText({ outages: [{}], marks: [1] }), /^Shaded: offline\. Dashed lines: /);
});

test("a broken file says that its last valid version is still in effect", () => {
  const machine = { _config_file: "box.yaml" };
  const error = { file: "box.yaml", line: 2, key: null, message: "a list is not closed.", severity: "error" };
  assert.equal(
    brokenFileText(machine, [error]),
    "box.yaml has an error in line 2: a list is not closed. Its last valid version is still in effect.",
  );
  assert.match(
    brokenFileText(machine, [{ ...error, line: null, key: "name" }]),
    /^box.yaml has an error: name: a list/,
  );
  assert.equal(brokenFileText(machine, [{ ...error, severity: "warning" }]), "");
  assert.equal(brokenFileText(machine, [{ ...error, file: "other.yaml" }]), "");
});

test("rejections for the same reason are one", () => {
  const rejected = [
    { name: "a", code: "offline", reason: "connection refused" },
    { name: "b", code: "not_enough_vram", reason: "needs 5, has 2" },
    { name: "c", code: "offline", reason: "connection refused" },
  ];
  assert.deepEqual(byReason(rejected), [
    ["offline: connection refused", ["a", "c"]],
    ["needs 5, has 2", ["b"]],
  ]);
});

test("a failed request is told in a sentence, and its code is kept", () => {
  const refused = new ApiError(503, { error: "store_unavailable", message: "The database cannot be used." });
  assert.equal(refused.code, "store_unavailable");
  assert.equal(errorText(refused), "The database cannot be used.");
  assert.equal(errorText(new ApiError(500, null)), "The server answered 500.");
  assert.equal(new ApiError(500, null).code, null);
  assert.equal(errorText(new TypeError("Failed to fetch")), "The server cannot be reached.");
  assert.equal(errorText(new DOMException("late", "TimeoutError")), "The server did not answer in time.");
  assert.equal(errorText(new Error("It broke")), "It broke.");
});

test("what all leases reserve is one sentence", () => {
  const lease = (machine, ...sizes) => ({ machine, gpus: sizes.map((size) => ({ vram_gb: size })) });
  assert.equal(sumText([]), "");
  assert.equal(plain(sumText([lease("one", 4)])), "1 lease reserves 4 GiB of VRAM on 1 machine.");
  const many = [lease("one", 4, 2.5), lease("one"), lease("two", 8)];
  assert.equal(plain(sumText(many)), "3 leases reserve 14.5 GiB of VRAM on 2 machines.");
});
