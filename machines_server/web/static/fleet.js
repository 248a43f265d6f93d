// The fleet: who is online, what is loaded where, where VRAM is free, what just happened.
import { get, path } from "./api.js";
import { navigate } from "./app.js";
import { card, row, TABLE_HEADS } from "./cards.js";
import { ageTimes, h, onceDrawn, remake, remakeEach, say } from "./dom.js";
import { eventLine } from "./event_line.js";
import { age, gib, number } from "./format.js";
import { serverNow, state, STATUSES } from "./live.js";
import { freest, knowsModels, machineLink, statusBadge, tagsOf } from "./parts.js";
import { forget, refresh } from "./spark.js";
import { welcome } from "./welcome.js";

const EVENTS = 5;
const BEST = 3;
const MODELS = 6;
const NAMES = new Intl.Collator(undefined, { numeric: true });
const byName = (one, other) => NAMES.compare(one.name, other.name);
const most = (value) => (one, other) => value(other) - value(one);
/** What each is called, and the order that one wants first. */
const SORTS = {
  name: ["Name", byName],
  status: ["Status", (one, other) => STATUSES.indexOf(one.status) - STATUSES.indexOf(other.status)],
  vram: ["Free VRAM", most((machine) => free(machine))],
  models: ["Loaded models", most((machine) => machine.loaded_models.length)],
  cpu: ["CPU", most((machine) => machine.telemetry.cpu_percent ?? -1)],
  ram: ["RAM used", most((machine) => machine.telemetry.ram_used_gb ?? -1)],
  role: ["Role", (one, other) => NAMES.compare(one.role, other.role)],
};
const FALLING = ["vram", "models", "cpu", "ram"];
const free = (machine) => (machine.status === "online" ? freest(machine)?.free ?? -1 : -2);

/** What can be chosen from, by name of the filter: the values that the fleet has. */
const FACETS = {
  role: (machine) => [machine.role],
  tag: (machine) => tagsOf(machine),
  status: (machine) => [machine.status],
  model: (machine) => machine.loaded_models,
};
const LABELS = { role: "Role ", tag: "Tag ", status: "Status ", model: "In memory " };

export function open(main) {
  const query = new URLSearchParams(location.search);
  const controls = makeControls(query);
  const summary = makeSummary(choose);
  const latest = h("ol", { class: "events" });
  const count = h("p", { class: "quiet", role: "status" });
  const body = h("div", { class: "machines" });
  const happened = h("section", { class: "latest", "aria-labelledby": "latest" }, h("h2", { id: "latest" }, h("a", { href: "/events" }, "What just happened")), latest);
  const fleet = h("div", null, h("div", { class: "overview" }, summary.root, happened), controls.form, count, body);
  const steps = h("div");
  main.append(h("h1", { class: "unseen" }, "Fleet"), fleet, steps);
  let shown = new Map();
  let shownAs = null;
  let list = null;
  let asked = 0;

  function choose(name, value) {
    if (value) query.set(name, value);
    else query.delete(name);
    navigate(`/${query.size ? `?${query}` : ""}`, { replace: true });
    if (state.fleet) draw();
    tick();
  }
  controls.onChange = choose;

  /** The other way round, when it is sorted by that already. */
  function sortBy(name) {
    const { name: now, isReversed } = sortOf(query);
    choose("sort", name === now && !isReversed ? `-${name}` : name === "name" ? "" : name);
  }

  function update(isNew) {
    if (isNew) {
      draw();
      onceDrawn(askLatest);
    }
    tick();
  }

  function tick() {
    ageTimes(latest, (moment) => age(moment, serverNow()));
    for (const one of shown.values()) one.tick();
    refresh([...shown.values()].map((one) => one.spark));
  }

  function draw() {
    const { machines } = state.fleet;
    fleet.hidden = machines.length === 0;
    remake(steps, machines.length === 0, () => (machines.length ? [] : welcome()));
    if (!machines.length) return;
    summary.show(machines, query.get("status"));
    controls.show(machines);
    const wanted = chosen(machines, query);
    say(count, countText(wanted.length, machines.length));
    place(wanted, query.get("view") === "table" ? row : card);
    list.showSort?.(sortOf(query));
  }

  async function askLatest() {
    const turn = ++asked;
    try {
      const { events } = await get(path("/api/events", { limit: EVENTS }));
      if (turn === asked) remakeEach(latest, events, ({ id }) => id, (event) => eventLine(event, serverNow()));
    } catch (error) {
      console.info("no events:", error.message);
    }
  }

  /** Keep what is there, so that nobody's focus is lost, and put it into order. */
  function place(wanted, make) {
    const isNew = make !== shownAs;
    if (isNew) {
      for (const one of shown.values()) forget(one.root);
      shown = new Map();
      shownAs = make;
      list = make === row ? makeTable(sortBy) : makeCards();
    }
    const holder = list.querySelector("tbody") ?? list;
    const names = new Set(wanted.map((machine) => machine.name));
    for (const [name, one] of shown)
      if (!names.has(name)) {
        forget(one.root);
        one.root.remove();
        shown.delete(name);
      }
    const focused = document.activeElement;
    wanted.forEach((machine, at) => {
      if (!shown.has(machine.name)) shown.set(machine.name, make(machine));
      const one = shown.get(machine.name);
      one.show(machine);
      if (holder.children[at] !== one.root) holder.insertBefore(one.root, holder.children[at] ?? null);
    });
    if (isNew) body.replaceChildren(list);
    if (focused !== document.activeElement && focused?.isConnected) focused.focus({ preventScroll: true });
  }

  function close() {
    for (const one of shown.values()) forget(one.root);
  }

  return { update, close };
}

function countText(shown, all) {
  if (shown === all) return "";
  return shown ? `${shown} of ${all} machines` : "No machine is like that; change the filter.";
}

function chosen(machines, query) {
  const words = (query.get("q") ?? "").toLowerCase().split(/\s+/).filter(Boolean);
  const wanted = machines.filter((machine) => {
    for (const [name, values] of Object.entries(FACETS)) {
      const value = query.get(name);
      if (value && !values(machine).includes(value)) return false;
    }
    const text = [machine.name, machine.network.hostname, ...machine.models, ...(machine.telemetry.gpu ?? []).map(({ model }) => model), ...Object.values(FACETS).flatMap((values) => values(machine))].join("\n").toLowerCase();
    return words.every((word) => text.includes(word));
  });
  const { name, isReversed } = sortOf(query);
  const [, compare] = SORTS[name];
  return wanted.sort((one, other) => (isReversed ? compare(other, one) : compare(one, other)) || byName(one, other));
}

/** What the URL asks to sort by, {name, isReversed}: "-cpu" is the least first. */
function sortOf(query) {
  const [, minus, name] = /^(-?)(.*)$/s.exec(query.get("sort") ?? "");
  return Object.hasOwn(SORTS, name) ? { name, isReversed: minus !== "" } : { name: "name", isReversed: false };
}

/** {root, show(machines, status)}: the buttons stay what they are, so that none loses the focus. */
function makeSummary(choose) {
  const counts = STATUSES.map(() => h("b"));
  const buttons = STATUSES.map((status, at) =>
    h("button", { type: "button", click: ({ currentTarget }) => choose("status", currentTarget.ariaPressed === "true" ? "" : status) },
      counts[at], " ", statusBadge(status)));
  const vram = h("p");
  const best = h("ul", { class: "best", "aria-label": "Most free VRAM on one GPU" });
  const loaded = h("p");
  const models = h("div", { class: "counts", role: "group", "aria-label": "Models in memory" });
  const root = h("div", { class: "summary" },
    h("div", { class: "counts", role: "group", "aria-label": "Machines by status" }, buttons), vram, best, loaded, models);

  function show(machines, chosenStatus) {
    STATUSES.forEach((status, at) => {
      const count = machines.filter((machine) => machine.status === status).length;
      say(counts[at], String(count));
      buttons[at].hidden = count === 0 && status !== "online" && status !== chosenStatus;
      buttons[at].ariaPressed = String(status === chosenStatus);
    });
    const most = mostFree(machines);
    say(vram, most.length ? freeText(machines) : "No GPU is known to have free VRAM");
    remake(best, most.map(({ name }) => name), () => most.map(({ name }) => h("li", null, h("b"), " on ", machineLink(name), h("span"))));
    most.forEach(({ free: size, index }, at) => {
      say(best.children[at].firstChild, gib(size));
      say(best.children[at].lastChild, ` GPU ${index}`);
    });
    const names = machines.flatMap((machine) => machine.loaded_models);
    const often = byNumber(names);
    const different = often.length;
    remake(models, often.slice(0, MODELS).map(([name]) => name), () => often.slice(0, MODELS).map(([name]) =>
      h("button", { type: "button", class: "model", click: () => choose("model", name) }, name, " ", h("b"))));
    often.slice(0, MODELS).forEach(([, number], at) => say(models.children[at].lastChild, `×${number}`));
    const silent = machines.filter((machine) => !knowsModels(machine)).length;
    say(loaded, `${names.length} in memory, ${different} different ${different === 1 ? "model" : "models"}`
      + (silent ? `; not known of ${silent} ${silent === 1 ? "machine" : "machines"}` : ""));
  }

  return { root, show };
}

/** The machines with the most free VRAM on one GPU, most first: {name, index, free}. */
function mostFree(machines) {
  const found = machines.map((machine) => ({ name: machine.name, best: machine.status === "online" ? freest(machine) : null }));
  return found.filter(({ best }) => best).sort((one, other) => other.best.free - one.best.free).slice(0, BEST)
    .map(({ name, best }) => ({ name, index: best.gpu.index, free: best.free }));
}

/** How much VRAM is free in all, of how much, on the machines that are online. */
function freeText(machines) {
  const gpus = machines.flatMap((machine) => (machine.status === "online" && machine.telemetry.gpu) || []);
  const sum = (key) => gpus.reduce((total, gpu) => total + gpu[key], 0);
  return `VRAM: ${number(sum("vram_free_gb"))} of ${gib(sum("vram_total_gb"), 0)} free; most on one GPU:`;
}

/** [[name, how often], ...], most often first. */
function byNumber(names) {
  const counts = new Map();
  for (const name of names) counts.set(name, (counts.get(name) ?? 0) + 1);
  return [...counts].sort(([one, many], [other, more]) => more - many || one.localeCompare(other));
}

function makeControls(query) {
  const found = { form: null, onChange: null, show: null };
  const change = ({ target }) => found.onChange(target.name, target.value);
  const search = h("input", { type: "search", name: "q", value: query.get("q") ?? "", placeholder: "name, host, model…", input: change });
  const selects = Object.keys(FACETS).map((name) => h("select", { name, change }));
  const sort = h("select", { name: "sort", change }, Object.entries(SORTS).map(([value, [text]]) => h("option", { value: value === "name" ? "" : value }, text)));
  const view = h("button", { type: "button", "aria-pressed": String(query.get("view") === "table") }, "Dense table");
  view.addEventListener("click", () => {
    const isTable = view.getAttribute("aria-pressed") === "true";
    view.setAttribute("aria-pressed", String(!isTable));
    found.onChange("view", isTable ? "" : "table");
  });
  // On a phone they would fill the screen before the first machine.
  const open = matchMedia("(min-width: 40rem)").matches || [...query.keys()].length > 0;
  found.form = h("form", { role: "search", "aria-label": "Filter machines", submit: (event) => event.preventDefault() },
    h("details", { class: "filter", open }, h("summary", null, "Filter and sort"),
      h("div", { class: "controls" }, h("label", null, "Search ", search),
        selects.map((select) => h("label", null, LABELS[select.name], select)),
        h("label", null, "Sort by ", sort), view)));
  found.show = (machines) => {
    const { name: sorted } = sortOf(query);
    sort.value = sorted === "name" ? "" : sorted;
    for (const select of selects) {
      const value = query.get(select.name) ?? "";
      const values = [...new Set([...machines.flatMap(FACETS[select.name]), value].filter(Boolean))].sort((one, other) => one.localeCompare(other));
      remake(select, values, () => [h("option", { value: "" }, "any"), ...values.map((one) => h("option", { value: one }, one))]);
      select.value = value;
    }
  };
  return found;
}

/** The first screen of cards is laid out a frame before the others. */
function makeCards() {
  const cards = h("ul", { class: "cards first" });
  onceDrawn(() => cards.classList.remove("first"));
  return cards;
}

/** The dense table; `showSort` says in its heads by which column it is sorted. */
function makeTable(sortBy) {
  const heads = TABLE_HEADS.map(([text, sort]) =>
    h("th", { scope: "col", "data-sort": sort }, sort ? h("button", { type: "button", click: () => sortBy(sort) }, text) : text));
  const table = h("div", { class: "scroll", tabindex: "0", role: "region", "aria-label": "Machines" },
    h("table", null, h("thead", null, h("tr", null, heads)), h("tbody")));
  table.showSort = ({ name, isReversed }) => {
    const direction = FALLING.includes(name) === isReversed ? "ascending" : "descending";
    for (const head of heads) head.ariaSort = head.dataset.sort === name ? direction : null;
  };
  return table;
}
