import assert from "node:assert/strict";
import { test } from "node:test";

import {
  FILTERS,
  filterMachines,
  readSort,
  SORTS,
  sortAfterClick,
  sortDirection,
} from "../../machines_server/web/static/fleet/filter.js";
import { polylines, sharesOf } from "../../machines_server/web/static/fleet/sparkline.js";
import {
  countByName,
  loadedText,
  mostFreeGpus,
  vramSums,
  vramText,
} from "../../machines_server/web/static/fleet/summary.js";

function machine(name, { free, ...more } = {}) {
  const gpu =
    free === undefined
      ? {}
      : {
          gpu: [{ index: 0, uuid: name, model: "RTX", vram_free_gb: free, vram_used_gb: 24 - free, vram_total_gb: 24 }],
        };
  const telemetry = { ...gpu, ...more.telemetry };
  const network = { hostname: `${name}.lan` };
  const fixed = { role: "gpu-host", status: "online", models: [], loaded_models: [], ollama: { state: "ok" } };
  return { name, network, ...fixed, ...more, telemetry };
}

const query = (search) => new URLSearchParams(search);
const found = (machines, search, leases = []) =>
  filterMachines(machines, query(search), leases).map(({ name }) => name);

const FLEET = [
  machine("box-10", { free: 4, tags: ["lab"], loaded_models: ["phi3"] }),
  machine("box-9", { free: 20, models: ["llama3.1:70b"], telemetry: { cpu_percent: 50 } }),
  machine("attic", { free: 23, status: "offline", role: "spare", tags: "lab" }),
  machine("app", { role: "cpu-host", telemetry: { cpu_percent: 0 } }),
];

test("the worst machines come first, unless the URL says otherwise", () => {
  const full = machine("full", { telemetry: { disk_used_gb: 95, disk_total_gb: 100 } });
  const fleet = [...FLEET, machine("shy", { status: "unknown" }), machine("half", { status: "degraded" }), full];
  const worstFirst = ["attic", "half", "shy", "full", "app", "box-9", "box-10"];
  for (const search of ["", "sort=status", "sort=nothing", "sort=toString", "sort=-"])
    assert.deepEqual(found(fleet, search), worstFirst, search);
  assert.deepEqual(found(fleet, "sort=-status"), ["app", "box-9", "box-10", "full", "shy", "half", "attic"]);
});

test("names are sorted with numbers by their value", () => {
  assert.deepEqual(found(FLEET, "sort=name"), ["app", "attic", "box-9", "box-10"]);
  assert.deepEqual(found(FLEET, "sort=-name"), ["box-10", "box-9", "attic", "app"]);
});

test("free VRAM sorts the most first, then machines without a GPU, then those that are not online", () => {
  assert.deepEqual(found(FLEET, "sort=vram"), ["box-9", "box-10", "app", "attic"]);
  const leases = [{ machine: "box-9", gpus: [{ uuid: "box-9", vram_gb: 18 }] }];
  assert.deepEqual(found(FLEET, "sort=vram", leases).slice(0, 2), ["box-10", "box-9"]);
});

test("an unknown value sorts below 0, and equals are sorted by name in both directions", () => {
  assert.deepEqual(found(FLEET, "sort=cpu"), ["box-9", "app", "attic", "box-10"]);
  assert.deepEqual(found(FLEET, "sort=-cpu"), ["attic", "box-10", "app", "box-9"]);
});

test("the free VRAM that is asked for must be on one GPU, beside leases and the reserve of the owner", () => {
  assert.deepEqual(found(FLEET, "min_free_vram_gb=4"), ["box-9", "box-10"]);
  assert.deepEqual(found(FLEET, "min_free_vram_gb=4.5"), ["box-9"]);
  const leases = [{ machine: "box-9", gpus: [{ uuid: "box-9", vram_gb: 18 }] }];
  assert.deepEqual(found(FLEET, "min_free_vram_gb=4", leases), ["box-10"]);
  const kept = machine("kept", { free: 20, limits: { reserve_vram_gb: 4 } });
  assert.deepEqual(found([kept], "min_free_vram_gb=17"), []);
  assert.deepEqual(found([kept], "min_free_vram_gb=16"), ["kept"]);
  const mute = machine("mute", { free: 20, ollama: { state: "unreachable", message: "refused" } });
  assert.deepEqual(found([mute], "min_free_vram_gb=16"), []);
  for (const search of ["min_free_vram_gb=", "min_free_vram_gb=0", "min_free_vram_gb=-4", "min_free_vram_gb=much"])
    assert.equal(found(FLEET, search).length, FLEET.length, search);
});

test("every filter and every word must match", () => {
  assert.deepEqual(found(FLEET, "tag=lab"), ["attic", "box-10"]);
  assert.deepEqual(found(FLEET, "tag=lab&status=online"), ["box-10"]);
  assert.deepEqual(found(FLEET, "model=phi3"), ["box-10"]);
  assert.deepEqual(found(FLEET, "role=cpu-host"), ["app"]);
  assert.deepEqual(found(FLEET, "q=LLAMA3.1"), ["box-9"]);
  assert.deepEqual(found(FLEET, "q=rtx+offline"), ["attic"]);
  assert.deepEqual(found(FLEET, "q=box+attic"), []);
  assert.deepEqual(found(FLEET, "role="), found(FLEET, ""));
});

test("a filter looks for whole values", () => {
  assert.deepEqual(found(FLEET, "role=host"), []);
  assert.deepEqual(Object.keys(FILTERS), ["role", "tag", "status", "model"]);
});

test("a click on a heading sorts by it, and another one turns the order round", () => {
  assert.equal(sortAfterClick(query(""), "vram"), "vram");
  assert.equal(sortAfterClick(query("sort=vram"), "vram"), "-vram");
  assert.equal(sortAfterClick(query("sort=-vram"), "vram"), "vram");
  assert.equal(sortAfterClick(query("sort=vram"), "status"), "");
  assert.equal(sortAfterClick(query(""), "status"), "-status");
  assert.equal(sortAfterClick(query("min_free_vram_gb=4"), "status"), "status");
});

test("numbers are sorted downwards, and all else upwards", () => {
  const directions = Object.keys(SORTS).map((name) => [name, sortDirection(readSort(query(`sort=${name}`)))]);
  assert.deepEqual(Object.fromEntries(directions), {
    name: "ascending",
    status: "ascending",
    vram: "descending",
    models: "descending",
    cpu: "descending",
    ram: "descending",
    disk: "descending",
    gpu: "descending",
    heat: "descending",
    role: "ascending",
  });
  assert.equal(sortDirection(readSort(query("sort=-vram"))), "ascending");
});

test("the summary names the online machines with the most free VRAM on one GPU", () => {
  const fleet = [...FLEET, machine("spark", { free: 100 }), machine("last", { free: 1 })];
  assert.deepEqual(mostFreeGpus(fleet, []), [
    { name: "spark", gpu: 0, free: 100 },
    { name: "box-9", gpu: 0, free: 20 },
    { name: "box-10", gpu: 0, free: 4 },
  ]);
  assert.deepEqual(mostFreeGpus([], []), []);
});

test("VRAM is summed over machines that are online, and what is leased is not free", () => {
  assert.deepEqual(vramSums(FLEET, []), { total: 48, used: 24, leased: 0, free: 24 });
  const leases = [{ machine: "box-9", gpus: [{ uuid: "box-9", vram_gb: 50 }] }];
  const sums = vramSums(FLEET, leases);
  assert.deepEqual(sums, { total: 48, used: 24, leased: 20, free: 4 });
  assert.equal(vramText(sums), "24 used, 20 leased");
  assert.equal(vramText(vramSums([], [])), "No GPUs online");
});

test("loaded models are counted, and machines of which they are unknown are named", () => {
  assert.equal(loadedText(0, 0, 0), "0 in memory, 0 different models");
  assert.equal(loadedText(2, 1, 1), "2 in memory, 1 different model; 1 machine unknown");
  assert.equal(loadedText(5, 3, 2), "5 in memory, 3 different models; 2 machines unknown");
  assert.deepEqual(countByName(["b", "a", "c", "c"]), [
    ["c", 2],
    ["a", 1],
    ["b", 1],
  ]);
});

test("a sparkline shows VRAM as a share over all GPUs that could be read", () => {
  const series = [
    { metric: "cpu_percent", points: [[0, 25]] },
    {
      metric: "vram_used_gb",
      points: [
        [0, 6],
        [60, 6],
      ],
    },
    { metric: "vram_used_gb", points: [[0, 12]] },
    {
      metric: "vram_total_gb",
      points: [
        [0, 24],
        [60, 24],
      ],
    },
    { metric: "vram_total_gb", points: [[0, 12]] },
  ];
  assert.deepEqual(sharesOf(series), {
    cpu: [[0, 0.25]],
    vram: [
      [0, 0.5],
      [60, 0.25],
    ],
  });
});

test("a sparkline has a line for each stretch without a gap", () => {
  const points = [
    [0, 0],
    [60, 1],
    [240, 0.5],
  ];
  assert.deepEqual(polylines(points, 0), ["1.0,27.0 3.0,1.0", "9.0,14.0"]);
  assert.deepEqual(polylines([], 0), []);
});
