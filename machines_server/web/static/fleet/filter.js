// Which machines the fleet page shows, in which order (both from its URL), and the form that changes that.

import { h, renderIfChanged } from "../base/dom.js";
import { isKnown } from "../base/format.js";
import { store, stored } from "../base/stored.js";
import { diskShare, highestOfGpus, roomiestGpu, tagTexts } from "../shared/machine_facts.js";
import { machineProblems } from "../shared/problems.js";
import { ramShare } from "../shared/thresholds.js";

const MIN_FREE = "min_free_vram_gb";
const COLLATOR = new Intl.Collator(undefined, { numeric: true });
const WORST_FIRST = ["offline", "degraded", "unknown", "online"];

/** Sort orders by their name in the URL; `key` is what machines are sorted by. */
export const SORTS = {
  status: { label: "Worst first", key: badness },
  name: { label: "Name", key: ({ name }) => name },
  vram: { label: "Free VRAM", key: freeVram, isDescending: true },
  models: { label: "Loaded models", key: (machine) => machine.loaded_models.length, isDescending: true },
  cpu: { label: "CPU", key: measured(({ telemetry }) => telemetry.cpu_percent), isDescending: true },
  ram: { label: "RAM used", key: measured(({ telemetry }) => ramShare(telemetry)), isDescending: true },
  disk: { label: "Disk used", key: measured(({ telemetry }) => diskShare(telemetry)), isDescending: true },
  gpu: { label: "GPU load", key: measured((machine) => highestOfGpus(machine, "utilisation")), isDescending: true },
  heat: { label: "GPU heat", key: measured((machine) => highestOfGpus(machine, "temperature_c")), isDescending: true },
  role: { label: "Role", key: ({ role }) => role },
};

/** A key that sorts by a reading: machines without it, and those of which only an old one is known, come last. */
function measured(read) {
  return (machine) => {
    const value = machine.status === "offline" ? null : read(machine);
    return Number.isFinite(value) ? value : -1;
  };
}

/** A reader who looks for free VRAM wants the machine with the most first. */
const defaultSort = (query) => (readMinFree(query) ? "vram" : "status");

/** Filters by their name in the URL: {label, values}, where `values` returns those of one machine. */
export const FILTERS = {
  role: { label: "Role ", values: (machine) => [machine.role] },
  tag: { label: "Tag ", values: tagTexts },
  status: { label: "Status ", values: (machine) => [machine.status] },
  model: { label: "In memory ", values: (machine) => machine.loaded_models },
};

/** The lower, the worse: first by status, then machines with problems. */
function badness(machine) {
  return 2 * WORST_FIRST.indexOf(machine.status) - Math.sign(machineProblems(machine).length);
}

function freeVram(machine, leases) {
  if (machine.status !== "online") return -2;
  return roomiestGpu(machine, leases)?.free ?? -1;
}

/** Whether a URL asks for the dense table; if it does not say, the reader's last choice counts. */
export const isTable = (query) => (query.get("view") ?? stored("view")) === "table";

/** The sort order of a URL: {name, isReversed}; "-cpu" has the smallest first. */
export function readSort(query) {
  const [, minus, name] = /^(-?)(.*)$/s.exec(query.get("sort") ?? "");
  return Object.hasOwn(SORTS, name)
    ? { name, isReversed: minus !== "" }
    : { name: defaultSort(query), isReversed: false };
}

/** The `sort` of the URL after a click on the heading of a column: the other direction if the list is sorted by it. */
export function sortAfterClick(query, name) {
  const { name: current, isReversed } = readSort(query);
  if (name === current && !isReversed) return `-${name}`;
  return sortValue(query, name);
}

/** The direction of a sort order, as aria-sort says it. */
export const sortDirection = ({ name, isReversed }) =>
  Boolean(SORTS[name].isDescending) === isReversed ? "ascending" : "descending";

/** The machines that match a query, in its order. */
export function filterMachines(machines, query, leases) {
  const words = (query.get("q") ?? "").toLowerCase().split(/\s+/).filter(Boolean);
  const sort = readSort(query);
  const { key } = SORTS[sort.name];
  const sign = sortDirection(sort) === "ascending" ? 1 : -1;
  const size = readMinFree(query);
  return machines
    .filter((machine) => hasFilterValues(machine, query) && hasWords(machine, words) && hasRoom(machine, size, leases))
    .map((machine) => ({ machine, key: key(machine, leases) }))
    .sort((one, other) => sign * compare(one.key, other.key) || compare(one.machine.name, other.machine.name))
    .map(({ machine }) => machine);
}

/** The `min_free_vram_gb` of a URL, which means the same as in GET /api/route; 0 if it has none. */
export function readMinFree(query) {
  return Math.max(Number(query.get(MIN_FREE)) || 0, 0);
}

/** Whether a request for so much VRAM on one GPU would fit, besides leases and what is reserved for the owner. */
function hasRoom(machine, size, leases) {
  if (!size) return true;
  if (!["ok", "busy"].includes(machine.ollama.state)) return false; // nothing can be sent there
  const reserve = machine.limits?.reserve_vram_gb;
  return freeVram(machine, leases) - (isKnown(reserve) ? Number(reserve) : 0) >= size;
}

const compare = (one, other) => (typeof one === "string" ? COLLATOR.compare(one, other) : one - other);

function hasFilterValues(machine, query) {
  return Object.entries(FILTERS).every(([name, { values }]) => {
    const value = query.get(name);
    return !value || values(machine).includes(value);
  });
}

function hasWords(machine, words) {
  const gpuModels = (machine.telemetry.gpu ?? []).map(({ model }) => model);
  const filterValues = Object.values(FILTERS).flatMap(({ values }) => values(machine));
  const texts = [machine.name, machine.network.hostname, ...machine.models, ...gpuModels, ...filterValues];
  const text = texts.join("\n").toLowerCase();
  return words.every((word) => text.includes(word));
}

/** {root, update(machines)}: `query` returns what is shown; `onChange(name, value)` is called for each change. */
export function makeFilterForm(query, onChange) {
  const change = ({ target }) => onChange(target.name, target.value);
  const search = h("input", {
    type: "search",
    name: "q",
    "aria-label": "Search",
    placeholder: "Search…",
    "data-tab-first": true,
    input: change,
  });
  const minFree = h("input", {
    type: "text",
    name: MIN_FREE,
    autocomplete: "off",
    inputmode: "decimal",
    placeholder: "0",
    input: change,
  });
  const selects = Object.keys(FILTERS).map((name) => h("select", { name, change }));
  const changeSort = ({ target }) => onChange("sort", sortValue(query(), target.value));
  const sort = h("select", { name: "sort", change: changeSort }, sortOptions());
  const view = h("button", { type: "button" }, "Dense table");
  view.addEventListener("click", () => {
    const chosen = isTable(query()) ? "cards" : "table";
    store("view", chosen);
    onChange("view", chosen);
  });
  const controls = h(
    "div",
    { class: "controls" },
    search,
    h("label", null, "Free on one GPU ≥ ", minFree, " GiB"),
    selects.map((select) => h("label", null, FILTERS[select.name].label, select)),
    h("label", null, "Sort by ", sort),
    view,
  );
  // On a phone the open form would fill the screen before the first machine.
  const isOpen = matchMedia("(min-width: 40rem)").matches || [...query().keys()].some((name) => name !== "view");
  const root = h(
    "form",
    {
      role: "search",
      "aria-label": "Filter machines",
      "data-tab-group": "filter",
      submit: (event) => event.preventDefault(),
    },
    h("details", { class: "filter", open: isOpen }, h("summary", null, "Filter and sort"), controls),
  );

  function update(machines) {
    for (const input of [search, minFree])
      if (input !== document.activeElement) input.value = query().get(input.name) ?? "";
    view.ariaPressed = String(isTable(query()));
    sort.value = readSort(query()).name;
    for (const select of selects) showOptions(select, query().get(select.name) ?? "", machines);
  }

  return { root, update };
}

const sortOptions = () => Object.entries(SORTS).map(([value, { label }]) => h("option", { value }, label));

/** The URL leaves out the default. */
const sortValue = (query, name) => (name === defaultSort(query) ? "" : name);

/** Offer the values in the fleet, and the chosen one even if no machine has it now. */
function showOptions(select, chosen, machines) {
  const present = machines.flatMap(FILTERS[select.name].values);
  const values = [...new Set([...present, chosen].filter(Boolean))].sort((one, other) => one.localeCompare(other));
  renderIfChanged(select, values, () => [
    h("option", { value: "" }, "any"),
    ...values.map((value) => h("option", { value }, value)),
  ]);
  select.value = chosen;
}
