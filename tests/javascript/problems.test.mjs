import assert from "node:assert/strict";
import { test } from "node:test";

import { findProblems } from "../../machines_server/web/static/shared/problems.js";

const machine = (name, more = {}) => ({
  name,
  status: "online",
  telemetry: {},
  ollama: { state: "ok", message: null },
  ...more,
});

function stateOf({ machines = [], poller = {}, errors = [], ...more } = {}) {
  const fleet = { machines, errors, poller: { state: "running", message: null, ...poller } };
  return { fleet, health: null, expiredLeases: 0, faults: [], lastTransitions: new Map(), ...more };
}

const texts = (state, name) => findProblems(state, name).map(({ what }) => what);

test("a healthy fleet has no problems", () => {
  const health = { store: { message: null } };
  assert.deepEqual(findProblems(stateOf({ machines: [machine("box")], health })), []);
});

test("errors come first, and each says where it is", () => {
  const errors = [
    { severity: "warning", file: "a.yaml", line: 3, column: 7, key: "role", message: "unknown key" },
    { severity: "error", file: "b.yaml", line: 2, column: null, key: null, message: "no name" },
  ];
  assert.deepEqual(findProblems(stateOf({ errors, poller: { state: "stopped" } })), [
    { severity: "error", status: null, machines: [], where: "poller", since: null, what: "it is stopped" },
    { severity: "error", status: null, machines: [], where: "b.yaml:2", since: null, what: "no name" },
    { severity: "warning", status: null, machines: [], where: "a.yaml:3:7", since: null, what: "role: unknown key" },
  ]);
});

test("the same problem of several machines is one", () => {
  const telemetry = { disk_used_gb: 96, disk_total_gb: 100 };
  const machines = ["one", "two", "three"].map((name) => machine(name, { telemetry }));
  const [problem, ...others] = findProblems(stateOf({ machines }));
  assert.deepEqual(problem.machines, ["one", "two", "three"]);
  assert.equal(problem.what, "the disk is 96 % full");
  assert.deepEqual(others, []);
});

test("a disk is full from 90 % on", () => {
  const full = (used) =>
    texts(stateOf({ machines: [machine("box", { telemetry: { disk_used_gb: used, disk_total_gb: 100 } })] }));
  assert.deepEqual(full(89.9), []);
  assert.deepEqual(full(90), ["the disk is 90 % full"]);
  assert.deepEqual(full(null), []);
});

test("GPUs that cannot be read for the same reason are one problem", () => {
  const telemetry = {
    gpu_unreadable: [
      { index: 0, reason: "GPU is lost" },
      { index: 2, reason: "GPU is lost" },
      { index: null, reason: "timed out" },
    ],
  };
  assert.deepEqual(texts(stateOf({ machines: [machine("box", { telemetry })] })), [
    "GPU 0, 2 cannot be read: GPU is lost",
    "GPU ? cannot be read: timed out",
  ]);
});

test("an Ollama that fails is a problem, a busy one is not", () => {
  const withState = (state) => machine("box", { ollama: { state, message: "it said so" } });
  for (const state of ["unreachable", "error"])
    assert.deepEqual(texts(stateOf({ machines: [withState(state)] })), ["Ollama: it said so"], state);
  for (const state of ["ok", "busy", "disabled", null])
    assert.deepEqual(texts(stateOf({ machines: [withState(state)] })), [], String(state));
});

test("a machine that is offline is the first problem, with the time since when and the reason", () => {
  const at = "2026-07-01T00:00:00Z";
  const offline = (name) => machine(name, { status: "offline", status_reason: "sidecar: refused" });
  const errors = [{ severity: "error", file: "b.yaml", line: null, column: null, key: null, message: "no name" }];
  const lastTransitions = new Map([["attic", { type: "offline", at }]]);
  const degraded = machine("lab", { status: "degraded", status_reason: "sidecar: timed out" });
  const state = stateOf({ machines: [degraded, offline("attic"), offline("barn")], errors, lastTransitions });
  const [first, second, third] = findProblems(state);
  const what = "sidecar: refused";
  const machines = ["attic", "barn"];
  assert.deepEqual(first, { severity: "error", status: "offline", machines, where: null, since: at, what });
  assert.deepEqual([second.what, third.status, third.severity], ["no name", "degraded", "warning"]);
  assert.deepEqual(texts(state, "attic"), ["no name"], "its page says so anyway");
});

test("of a machine that is not online, its old readings are no problem", () => {
  const telemetry = { disk_used_gb: 99, disk_total_gb: 100, gpu_unreadable: [{ index: 0, reason: "lost" }] };
  const ollama = { state: "unreachable", message: "refused" };
  for (const [status, found] of Object.entries({ degraded: ["degraded"], offline: ["offline"], unknown: [] }))
    assert.deepEqual(texts(stateOf({ machines: [machine("box", { status, telemetry, ollama })] })), found, status);
});

test("the page of a machine lists its problems and those of no machine", () => {
  const telemetry = { disk_used_gb: 99, disk_total_gb: 100 };
  const machines = [machine("Box", { telemetry }), machine("other", { ollama: { state: "error", message: "broken" } })];
  const state = stateOf({ machines, poller: { message: "the disk of the server is full" } });
  assert.deepEqual(texts(state, "box"), ["the disk of the server is full", "the disk is 99 % full"]);
});

test("a fault of the database is listed once, whoever met it; other faults are listed too", () => {
  const health = { store: { message: "database is locked" } };
  const fault = (source, code, message) => ({ source, code, message });
  const faults = [
    fault("events", "store_unavailable", "The database cannot be used: database is locked."),
    fault("leases", "store_unavailable", "The database cannot be used: coordination.db is damaged."),
    fault("health", null, "The server did not answer in time."),
  ];
  assert.deepEqual(texts(stateOf({ health, faults })), [
    "database is locked",
    "The database cannot be used: coordination.db is damaged.",
    "The server did not answer in time.",
  ]);
  assert.deepEqual(texts(stateOf({ faults: faults.slice(0, 1) })), [
    "The database cannot be used: database is locked.",
  ]);
});

test("leases that expire by the handful are a problem", () => {
  assert.deepEqual(texts(stateOf({ expiredLeases: 4 })), []);
  assert.match(texts(stateOf({ expiredLeases: 5 }))[0], /^5 expired in the last 10 minutes/);
});
