import assert from "node:assert/strict";
import { test } from "node:test";

import {
  diskShare,
  fixText,
  knowsLoadedModels,
  leasedVram,
  roomiestGpu,
  sidecarHint,
  tagTexts,
  unloadText,
} from "../../machines_server/web/static/shared/machine_facts.js";

const gpu = (uuid, free) => ({ uuid, vram_free_gb: free });
const lease = (machine, ...gpus) => ({ machine, gpus: gpus.map(([uuid, size]) => ({ uuid, vram_gb: size })) });

test("loaded models are known only where Ollama has said so, or there is none", () => {
  for (const state of ["ok", "busy", "disabled"]) assert.equal(knowsLoadedModels({ ollama: { state } }), true, state);
  for (const state of ["unreachable", "error", null])
    assert.equal(knowsLoadedModels({ ollama: { state } }), false, String(state));
});

test("tags are texts, whatever a file has there", () => {
  assert.deepEqual(tagTexts({}), []);
  assert.deepEqual(tagTexts({ tags: null }), []);
  assert.deepEqual(tagTexts({ tags: "gpu" }), ["gpu"]);
  assert.deepEqual(tagTexts({ tags: ["gpu", 7, false, { rack: 3 }] }), ["gpu", "7", "false", '{"rack":3}']);
});

test("leases on one GPU add up, and those of other machines do not count", () => {
  const leases = [lease("box", ["a", 4], ["b", 1]), lease("box", ["a", 2.5]), lease("other", ["a", 50])];
  assert.deepEqual(
    [...leasedVram({ name: "box" }, leases)],
    [
      ["a", 6.5],
      ["b", 1],
    ],
  );
});

test("the roomiest GPU has the most VRAM that is neither used nor leased", () => {
  const machine = { name: "box", telemetry: { gpu: [gpu("a", 20), gpu("b", 16)] } };
  assert.deepEqual(roomiestGpu(machine, []), { gpu: gpu("a", 20), free: 20 });
  assert.deepEqual(roomiestGpu(machine, [lease("box", ["a", 8])]), { gpu: gpu("b", 16), free: 16 });
  assert.deepEqual(roomiestGpu(machine, [lease("box", ["a", 50], ["b", 50])]), { gpu: gpu("a", 20), free: 0 });
});

test("without a readable GPU there is no roomiest one", () => {
  assert.equal(roomiestGpu({ name: "box", telemetry: {} }, []), null);
  assert.equal(roomiestGpu({ name: "box", telemetry: { gpu: [] } }, []), null);
});

test("what is reserved for root counts as used disk", () => {
  const disk = { disk_used_gb: 50, disk_total_gb: 100 };
  assert.equal(diskShare(disk), 0.5);
  assert.equal(diskShare({ ...disk, disk_available_gb: 45 }), 0.55);
  assert.equal(diskShare({ ...disk, disk_available_gb: 0 }), 1);
});

test("the share of a disk that was not measured is not a number", () => {
  for (const telemetry of [{}, { disk_total_gb: 0 }, { disk_used_gb: null, disk_total_gb: 100 }])
    assert.ok(Number.isNaN(diskShare(telemetry)), JSON.stringify(telemetry));
});

test("a fix is given where it is known what mends a machine, without the reason", () => {
  const ollama = { state: "unreachable", message: "connection refused: start Ollama" };
  const reason = "sidecar: timed out; ollama: connection refused";
  const offline = { status: "offline", status_reason: reason, ollama };
  assert.equal(fixText(offline), "Fix: start Ollama.");
  const bothRefuse = { ...offline, status_reason: "sidecar and ollama: connection refused" };
  assert.equal(fixText(bothRefuse), "Fix: start Ollama.");
  assert.equal(fixText({ ...offline, status_reason: null }), "Ollama: connection refused: start Ollama");
  assert.equal(sidecarHint(offline), "");
  const degraded = { status: "degraded", ollama: { state: "ok", message: null } };
  assert.match(sidecarHint(degraded), /make run-sidecar/);
  assert.match(fixText(degraded), /^Fix: run .*\.$/);
  assert.equal(fixText({ ...offline, status: "online", ollama: { state: "ok", message: "odd" } }), "");
});

test("a model is pinned, unloads at its time, or is in use past that", () => {
  const now = Date.parse("2026-07-01T00:00:00Z");
  const unload = (expires) => unloadText({ expires_at: expires }, now).replaceAll("\u00a0", " ");
  assert.equal(unload(null), "pinned");
  assert.equal(unload("2026-07-01T00:04:59Z"), "unloads in 4 min");
  assert.equal(unload("2026-07-01T00:00:01Z"), "unloads in 1 s");
  assert.equal(unload("2026-07-01T00:00:00Z"), "in use");
  assert.equal(unload("2026-06-30T23:59:00Z"), "in use");
});
