import assert from "node:assert/strict";
import { test } from "node:test";

globalThis.document ??= {}; // the module is made for a page
const { tabOf } = await import("../../machines_server/web/static/status_icon.js");

const tab = (...statuses) =>
  tabOf({ fleet: { machines: statuses.map((status) => ({ status })) }, failedSince: null }, "Fleet");

test("the tab counts the machines that are not online and shows the worst of them", () => {
  assert.deepEqual(tab(), { title: "Fleet", icon: "icon.svg" });
  assert.deepEqual(tab("online", "online"), { title: "Fleet", icon: "icon.svg" });
  assert.deepEqual(tab("online", "unknown"), { title: "(1) Fleet", icon: "icon-unknown.svg" });
  assert.deepEqual(tab("unknown", "degraded"), { title: "(2) Fleet", icon: "icon-degraded.svg" });
  assert.deepEqual(tab("degraded", "offline", "online"), { title: "(2) Fleet", icon: "icon-offline.svg" });
});

test("while the server is away, the tab says so, and nothing about machines", () => {
  const state = { fleet: { machines: [{ status: "offline" }] }, failedSince: 1 };
  assert.deepEqual(tabOf(state, "Fleet"), { title: "(!) Fleet", icon: "icon-unknown.svg" });
  assert.deepEqual(tabOf({ fleet: null, failedSince: null }, "Fleet"), { title: "Fleet", icon: "icon.svg" });
});
