// Models: where each is, where it could run, and where a request would go now.
import { get, path, sentence } from "./api.js";
import { navigate } from "./app.js";
import { ageTimes, h, remake, say } from "./dom.js";
import { age, ago, gib, number, span } from "./format.js";
import { serverNow, state } from "./live.js";
import { freest, machineLink } from "./parts.js";

const REFRESH_MS = 30_000;
const ASKED = ["model", "min_free_vram_gb", "min_context", "role", "tag", "cold"];

export function open(main) {
  const query = new URLSearchParams(location.search);
  const rows = h("tbody");
  const message = h("p", { class: "empty", role: "status" });
  const router = makeRouter(query);
  const search = h("input", { type: "search", name: "q", value: query.get("q") ?? "", input: filter });
  main.append(h("h1", null, "Models"), router.root,
    h("section", { "aria-labelledby": "where" }, h("h2", { id: "where" }, "Where each model is"),
      h("form", { class: "controls", role: "search", "aria-label": "Filter models", submit: (event) => event.preventDefault() }, h("label", null, "Search ", search)),
      message,
      h("div", { class: "scroll", tabindex: "0", role: "region", "aria-label": "Models" },
        h("table", null, h("thead", null, h("tr", null, ["Model", "In memory", "Declared, not loaded", "Last loaded", "In memory, last 24 h"].map((text) => h("th", { scope: "col" }, text)))), rows))));
  let models = null;
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
    } catch (error) {
      say(message, sentence(error));
      return;
    }
    draw();
  }

  function draw() {
    if (!models) return;
    const machines = new Map(state.fleet.machines.map((machine) => [machine.name, machine]));
    const wanted = models.filter(({ model }) => model.toLowerCase().includes(search.value.toLowerCase()));
    say(message, wanted.length ? "" : models.length ? "No model has such a name." : "No model is declared, and none was ever loaded.");
    remake(rows, wanted, () => wanted.map(modelRow));
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

function modelRow({ model, declared, loaded, last_loaded: last, residency_s: resident }) {
  const ask = path("/models", { model });
  const rest = declared.filter((name) => !loaded.includes(name));
  return h("tr", null, h("th", { scope: "row" }, h("a", { href: ask }, model)),
    h("td", null, places(loaded)), h("td", null, places(rest)),
    h("td", null, last ? [machineLink(last.machine), " ", ago(last.at, serverNow())] : "never"),
    h("td", null, resident ? span(resident) : "–"));
}

/** Machines, each with room for what `room` says of it now. */
function places(names) {
  if (!names.length) return "–";
  return h("ul", { class: "places" }, names.map((name) => h("li", null, machineLink(name), " ", h("span", { class: "quiet", "data-machine": name }))));
}

/** How much VRAM is free there on one GPU. */
function room(machine) {
  if (!machine) return "";
  if (machine.status !== "online") return machine.status;
  const found = freest(machine);
  return found ? `${gib(found.free)} free` : "no GPU";
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
  const answer = h("div", { class: "answer", "aria-live": "polite" });
  const form = h("form", { class: "controls", submit: choose },
    h("label", null, "Model ", fields.model), options,
    h("label", null, "Free VRAM, GiB ", fields.min_free_vram_gb), h("label", null, "Context ", fields.min_context),
    h("label", null, "Role ", fields.role), h("label", null, "Tag ", fields.tag),
    h("label", { class: "check" }, fields.cold, " also cold"), h("button", { class: "button" }, "Where would it go?"));
  const root = h("section", { class: "card router", "aria-labelledby": "router" }, h("h2", { id: "router" }, "Where would a request go now?"), form, answer);
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
    // When each was sampled is not shown, and would have all of it read aloud at every poll.
    const key = JSON.stringify(found, (name, value) => (name === "sampled_at" ? undefined : value));
    if (turn === asked) remake(answer, key, () => showAnswer(found));
  }

  function update() {
    const models = [...new Set(state.fleet.machines.flatMap((machine) => [...machine.models, ...machine.loaded_models]))].sort();
    remake(options, models, () => models.map((model) => h("option", { value: model })));
    ask();
  }

  return { root, update };
}

function showAnswer({ machine, url, model, warm, candidates, rejected, message }) {
  const verdict = machine
    ? h("p", { class: "verdict" }, "It would go to ", h("b", null, machineLink(machine)), warm ? ", where the model is in memory: " : ", which must load it first: ", h("code", null, `${url} ${model}`))
    : h("p", { class: "verdict none" }, message);
  return [
    verdict,
    candidates.length > 0 && table("Candidates, best first", ["Machine", "Warmth", "Free VRAM", "Leases", "Why"],
      candidates.map((one) => [machineLink(one.name), (one.warmth ?? (one.warm ? "warm" : "cold")).replace("_", " "), gib(one.free_vram_gb), number(one.leases), one.reason ?? "–"])),
    rejected.length > 0 && table("Rejected, nearest miss first", ["Machine", "Code", "Why"],
      rejected.map((one) => [machineLink(one.name), h("code", null, one.code), one.reason])),
  ];
}

const table = (caption, heads, rows) =>
  h("div", { class: "scroll", tabindex: "0", role: "region", "aria-label": caption },
    h("table", null, h("caption", null, caption), h("thead", null, h("tr", null, heads.map((head) => h("th", { scope: "col" }, head)))),
      h("tbody", null, rows.map(([name, ...cells]) => h("tr", null, h("th", { scope: "row" }, name), cells.map((cell) => h("td", null, cell)))))));
