// Models: where each is, where it could run, and where a request would go now.
import { get, path, sentence } from "./api.js";
import { navigate } from "./app.js";
import { ageTimes, h, remake, remakeEach, say } from "./dom.js";
import { age, ago, gib, localTimes, number, span } from "./format.js";
import { serverNow, state, STATUSES } from "./live.js";
import { freest, machineLink } from "./parts.js";

const REFRESH_MS = 30_000;
const FEW = 6;
const HEADS = ["Model", "In memory", "Could be loaded", "Last seen in memory", "In memory, last 24 h, all machines"];
const ASKED = ["model", "min_free_vram_gb", "min_context", "role", "tag", "cold"];

export function open(main) {
  const query = new URLSearchParams(location.search);
  const rows = h("tbody");
  const message = h("p", { class: "empty", role: "status" });
  const router = makeRouter(query);
  const search = h("input", { type: "search", name: "q", value: query.get("q") ?? "", input: filter });
  const table = h("div", { class: "scroll models", tabindex: "0", role: "region", "aria-label": "Models", hidden: true },
    h("table", null, h("thead", null, h("tr", null, HEADS.map((text) => h("th", { scope: "col" }, text)))), rows));
  main.append(h("h1", null, "Models"), router.root,
    h("section", { "aria-labelledby": "where" }, h("h2", { id: "where" }, "Where each model is"),
      h("form", { class: "controls", role: "search", "aria-label": "Filter models", submit: (event) => event.preventDefault() }, h("label", null, "Search ", search)),
      message, table));
  let models = null;
  let failed = "";
  let askedAt = -Infinity;

  function filter() {
    if (search.value) query.set("q", search.value);
    else query.delete("q");
    navigate(`/models${query.size ? `?${query}` : ""}`, { replace: true });
    draw();
  }

  async function ask() {
    askedAt = performance.now();
    try {
      models = (await get("/api/models")).models;
      failed = "";
    } catch (error) {
      failed = sentence(error);
    }
    draw();
  }

  function draw() {
    if (failed || !models) say(message, failed);
    if (!models) return;
    const machines = new Map(state.fleet.machines.map((machine) => [machine.name, machine]));
    const wanted = models.filter(({ model }) => model.toLowerCase().includes(search.value.toLowerCase()));
    if (!failed) say(message, wanted.length ? "" : models.length ? "No model has such a name." : "No model is declared or on a disk, and none was ever loaded.");
    table.hidden = wanted.length === 0;
    remakeEach(rows, wanted, modelKey, modelRow);
    wanted.forEach(({ loaded, last_loaded: last, residency_s: resident }, at) => {
      const { cells } = rows.children[at];
      remake(cells[3], loaded.length ? "now" : last, () => (loaded.length ? "now" : last ? [machineLink(last.machine), " ", ago(last.at, serverNow())] : "never"));
      say(cells[4], resident ? span(resident) : "–");
    });
    for (const place of rows.querySelectorAll("[data-machine]")) say(place, room(machines.get(place.dataset.machine)));
    ageTimes(rows, (moment) => age(moment, serverNow()));
  }

  function update(isNew) {
    if (isNew) {
      router.update();
      if (performance.now() - askedAt > REFRESH_MS || models === null) ask();
    }
    draw();
  }

  return { update };
}

const modelKey = ({ model, declared, on_disk: onDisk, loaded }) => JSON.stringify([model, declared, onDisk, loaded]);

/** Where a model could be loaded is where it is declared or on the disk. */
function modelRow({ model, declared, on_disk: onDisk, loaded }) {
  const ask = path("/models", { model });
  const rest = [...new Set([...declared, ...onDisk])].filter((name) => !loaded.includes(name));
  return h("tr", null, h("th", { scope: "row" }, h("a", { href: ask }, model)),
    h("td", null, places(byRoom(loaded))), h("td", null, places(byRoom(rest))),
    h("td"), h("td"));
}

/** The machines with the most free VRAM first, as it was when the row was made. */
function byRoom(names) {
  const rooms = new Map(state.fleet.machines.map((machine) => [machine.name, machine.status === "online" ? freest(machine)?.free ?? 0 : -1]));
  return [...names].sort((one, other) => (rooms.get(other) ?? -2) - (rooms.get(one) ?? -2) || one.localeCompare(other));
}

/** Machines, each with room for what `room` says of it now; many are folded. */
function places(names) {
  if (!names.length) return "–";
  const items = names.map((name) => h("li", null, machineLink(name), " ", h("span", { class: "quiet", "data-machine": name })));
  const others = items.splice(items.length > FEW + 1 ? FEW : items.length);
  const list = (some) => h("ul", { class: "places" }, some);
  return [list(items), others.length > 0 && h("details", null, h("summary", null, `${others.length} more`), list(others))];
}

/** How much VRAM is free there on one GPU. */
function room(machine) {
  if (!machine) return "";
  if (machine.status !== "online") return machine.status;
  const found = freest(machine);
  if (found) return `${gib(found.free)} free`;
  return machine.sampled_at && !machine.telemetry.gpu_unreadable ? "no GPU" : "VRAM not known";
}

/** "Where would a request go now?": asks /api/route and shows candidates and rejections with their reasons. */
function makeRouter(query) {
  const options = h("datalist", { id: "known-models" });
  const fields = {
    model: h("input", { name: "model", list: "known-models", required: true, autocomplete: "off" }),
    min_free_vram_gb: h("input", { name: "min_free_vram_gb", type: "number", min: "0", step: "any", inputmode: "decimal" }),
    min_context: h("input", { name: "min_context", type: "number", min: "0", step: "1" }),
    role: h("input", { name: "role" }),
    tag: h("input", { name: "tag" }),
    cold: h("input", { name: "cold", type: "checkbox", value: "true" }),
  };
  for (const name of ASKED)
    if (name === "cold") fields.cold.checked = query.get("cold") === "true";
    else fields[name].value = query.get(name) ?? "";
  const verdict = h("div", { "aria-live": "polite" });
  const others = h("div", { class: "answer" });
  const form = h("form", { class: "controls", submit: choose },
    h("label", null, "Model ", fields.model), options,
    h("label", null, "Free VRAM, GiB ", fields.min_free_vram_gb), h("label", null, "Context, tokens ", fields.min_context),
    h("label", null, "Role ", fields.role), h("label", null, "Tag ", fields.tag),
    h("label", { class: "check" }, fields.cold, " may have to load it first"), h("button", { class: "button" }, "Where would it go?"));
  const root = h("section", { class: "card router", "aria-labelledby": "router" }, h("h2", { id: "router" }, "Where would a request go now?"), form, verdict, others);
  let asked = 0;

  function choose(event) {
    event.preventDefault();
    for (const name of ASKED) {
      const value = name === "cold" ? (fields.cold.checked ? "true" : "") : fields[name].value;
      if (value) query.set(name, value);
      else query.delete(name);
    }
    navigate(`/models?${query}`, { replace: true });
    ask();
  }

  async function ask() {
    if (!query.get("model")) return;
    const turn = ++asked;
    const wanted = Object.fromEntries(ASKED.map((name) => [name, query.get(name)]));
    let found;
    try {
      found = await get(path("/api/route", wanted));
    } catch (error) {
      found = { machine: null, candidates: [], rejected: error.body?.rejected ?? [], message: sentence(error) };
    }
    if (turn !== asked) return;
    const { machine, url, model, warm, message } = found;
    remake(verdict, [machine, url, model, warm, message], () => verdictOf(found));
    showTables(others, found);
  }

  function update() {
    const models = [...new Set(state.fleet.machines.flatMap((machine) => [...machine.models, ...machine.loaded_models]))].sort();
    remake(options, models, () => models.map((model) => h("option", { value: model })));
    ask();
  }

  return { root, update };
}

function verdictOf({ machine, url, model, warm, message }) {
  if (!machine) return h("p", { class: "verdict none" }, localTimes(message));
  return h("p", { class: "verdict" }, "It would go to ", h("b", null, machineLink(machine)),
    warm ? ", where the model is in memory: " : ", which must load it first: ", h("code", null, `${url} ${model}`));
}

/** Rows stay while their numbers change, and so does the focus on a link in them. */
function showTables(root, { candidates, rejected }) {
  remake(root, [candidates.length > 0, rejected.length > 0], () => [
    candidates.length > 0 && table("Candidates, best first", ["Machine", "Warmth", "Free VRAM", "Leases", "Why"]),
    rejected.length > 0 && table("Rejected, nearest miss first", ["Machines", "Why"]),
  ]);
  const bodies = root.querySelectorAll("tbody");
  if (candidates.length)
    fillRows(bodies[0], candidates, ({ warmth, warm, free_vram_gb: free, leases, reason }) =>
      [(warmth ?? (warm ? "warm" : "cold")).replace("_", " "), gib(free), number(leases), reason ? localTimes(reason) : "–"]);
  if (rejected.length)
    remakeEach(bodies[bodies.length - 1], byReason(rejected), JSON.stringify, ([reason, names]) =>
      h("tr", null, h("th", { scope: "row" }, names.length > 1 && h("p", { class: "quiet" }, `${names.length} machines`), places(names)), h("td", null, reason)));
}

/** Many machines are mostly rejected for one reason: [[reason, names], ...]. */
function byReason(rejected) {
  const found = new Map();
  for (const { name, code, reason } of rejected) {
    const why = localTimes(STATUSES.includes(code) ? `${code}: ${reason}` : reason);
    found.set(why, [...(found.get(why) ?? []), name]);
  }
  return [...found];
}

const table = (caption, heads) =>
  h("div", { class: "scroll", tabindex: "0", role: "region", "aria-label": caption },
    h("table", null, h("caption", null, caption), h("thead", null, h("tr", null, heads.map((head) => h("th", { scope: "col" }, head)))), h("tbody")));

function fillRows(body, items, textsOf) {
  remakeEach(body, items, ({ name }) => name, (item) =>
    h("tr", null, h("th", { scope: "row" }, machineLink(item.name)), textsOf(item).map(() => h("td"))));
  items.forEach((item, at) => textsOf(item).forEach((text, cell) => say(body.children[at].cells[cell + 1], text)));
}
