// "Where would a request go now?": asks /api/route and shows candidates and rejections with their reasons.

import { h, labelled, renderIfChanged, renderList, scrollable, setText, tableHead } from "../base/dom.js";
import { gib, number, withLocalTimes } from "../base/format.js";
import { STATUSES, state } from "../base/live.js";
import { changeUrl, errorText, get, withQuery } from "../base/site.js";
import { machineLink, machineList } from "../shared/machine_parts.js";

const CANDIDATE_HEADINGS = ["Machine", "Model", "Free VRAM", "Leases", "Why"];
const REJECTION_HEADINGS = ["Machines", "Why"];
/** By `warmth`. */
const READINESS = { warm: "ready", half_warm: "in memory, with limits", loading: "loading", cold: "not in memory" };
/** How many candidates are listed before the others are folded. */
const FIRST_CANDIDATES = 6;
/** How many machines fit into a line. */
const FIRST_MACHINES = 6;
const PARAMETERS = ["model", "min_free_vram_gb", "min_context", "role", "tag", "cold"];

/** {root, update()}: `query` is that of the page, which the form reads and changes. */
export function makeRouteForm(query) {
  const models = h("datalist", { id: "known-models" });
  const inputs = makeInputs(query);
  const verdict = h("div", { "aria-live": "polite" });
  const tables = makeTables();
  const form = h(
    "form",
    { class: "controls", submit },
    h("label", null, "Model ", inputs.model),
    models,
    h("label", null, "Free VRAM, GiB ", inputs.min_free_vram_gb),
    h("label", null, "Context, tokens ", inputs.min_context),
    h("label", null, "Role ", inputs.role),
    h("label", null, "Tag ", inputs.tag),
    h(
      "div",
      { class: "ask" },
      h("label", { class: "check" }, inputs.cold, " include machines that must load it first"),
      h("button", { class: "primary" }, "Where would it go?"),
    ),
  );
  const heading = h("h2", { id: "router" }, "Where would a request go now?");
  const root = h("section", { class: "card router", "aria-labelledby": "router" }, heading, form, verdict, tables.root);
  let requests = 0;

  function submit(event) {
    event.preventDefault();
    for (const name of PARAMETERS) {
      const value = inputValue(inputs[name]);
      if (value) query.set(name, value);
      else query.delete(name);
    }
    changeUrl(withQuery("/models", Object.fromEntries(query)));
    fetchRoute();
  }

  async function fetchRoute() {
    if (!PARAMETERS.some((name) => query.get(name))) return;
    requests += 1;
    const request = requests;
    const parameters = Object.fromEntries(PARAMETERS.map((name) => [name, query.get(name)]));
    let route;
    try {
      route = await get(withQuery("/api/route", { ...parameters, explain: true }));
    } catch (error) {
      route = { machine: null, candidates: [], rejected: error.body?.rejected ?? [], message: errorText(error) };
    }
    if (request !== requests) return;
    const { machine, url, model, warm, message } = route;
    renderIfChanged(verdict, [machine, url, model, warm, message], () => verdictOf(route));
    tables.show(route);
  }

  function update() {
    const names = state.fleet.machines.flatMap((machine) => [...machine.models, ...machine.loaded_models]);
    const known = [...new Set(names)].sort();
    renderIfChanged(models, known, () => known.map((value) => h("option", { value })));
    fetchRoute();
  }

  return { root, update };
}

function makeInputs(query) {
  const amount = { type: "number", min: "0" };
  const inputs = {
    model: h("input", { name: "model", list: "known-models", autocomplete: "off" }),
    min_free_vram_gb: h("input", { name: "min_free_vram_gb", ...amount, step: "any", inputmode: "decimal" }),
    min_context: h("input", { name: "min_context", ...amount, step: "1" }),
    role: h("input", { name: "role" }),
    tag: h("input", { name: "tag" }),
    cold: h("input", { name: "cold", type: "checkbox", value: "true" }),
  };
  for (const name of PARAMETERS)
    if (name === "cold") inputs.cold.checked = query.get("cold") === "true";
    else inputs[name].value = query.get(name) ?? "";
  return inputs;
}

function inputValue(input) {
  if (input.type === "checkbox") return input.checked ? input.value : "";
  return input.value;
}

function verdictOf({ machine, url, model, warm, message }) {
  if (!machine) return h("p", { class: "verdict none" }, withLocalTimes(message));
  return h(
    "p",
    { class: "verdict" },
    "It would go to ",
    h("b", null, machineLink(machine)),
    model === null ? ": " : warm ? ", where the model is in memory: " : ", which must load it first: ",
    h("code", null, [url, model].filter(Boolean).join(" ")),
  );
}

/**
 * {root, show(route)}: rows stay the same elements while their numbers change, and so keep the focus on a link in them.
 * What comes after the first candidates is folded, so that the rejections are within reach.
 */
function makeTables() {
  const [candidateBody, rejectionBody] = [h("tbody"), h("tbody")];
  const unfold = h("button", { type: "button", class: "unfold-rows", click: toggle });
  const candidateTable = table("Candidates, best first", CANDIDATE_HEADINGS, candidateBody);
  const rejectionTable = table("Rejected, nearest miss first", REJECTION_HEADINGS, rejectionBody);
  const root = h("div", { class: "answer" }, candidateTable, unfold, rejectionTable);
  let isUnfolded = false;

  function toggle() {
    isUnfolded = !isUnfolded;
    fold();
  }

  function fold() {
    const count = candidateBody.rows.length;
    const isLong = count > FIRST_CANDIDATES + 1;
    unfold.hidden = !isLong;
    unfold.ariaExpanded = String(isUnfolded);
    setText(unfold, isUnfolded ? "Show fewer candidates" : `Show all ${count} candidates`);
    for (const [place, row] of [...candidateBody.rows].entries())
      row.classList.toggle("folded", isLong && !isUnfolded && place >= FIRST_CANDIDATES);
  }

  function show({ candidates, rejected }) {
    candidateTable.hidden = candidates.length === 0;
    rejectionTable.hidden = rejected.length === 0;
    showCandidates(candidateBody, candidates);
    renderList(rejectionBody, byReason(rejected), JSON.stringify, rejectionRow);
    fold();
  }

  show({ candidates: [], rejected: [] });
  return { root, show };
}

const table = (caption, headings, body) =>
  scrollable(
    caption,
    { class: "scroll stacked" },
    h("table", null, h("caption", null, caption), tableHead(headings), body),
  );

function showCandidates(body, candidates) {
  const row = ({ name }) =>
    labelled(
      h("tr", null, h("th", { scope: "row" }, machineLink(name)), h("td"), h("td"), h("td"), h("td")),
      CANDIDATE_HEADINGS,
    );
  renderList(body, candidates, ({ name }) => name, row);
  for (const [index, candidate] of candidates.entries()) {
    const [, ...cells] = body.children[index].cells;
    for (const [place, text] of candidateTexts(candidate).entries()) setText(cells[place], text);
  }
}

const candidateTexts = ({ warmth, warm, free_vram_gb: free, leases, reason }) => [
  warmthText(warmth, warm),
  gib(free),
  number(leases),
  reason ? withLocalTimes(reason) : "–",
];

function warmthText(warmth, warm) {
  if (warm === null) return "–"; // no model was asked for
  return READINESS[warmth ?? (warm ? "warm" : "cold")];
}

function rejectionRow([reason, names]) {
  const count = names.length > 1 && h("p", { class: "quiet" }, `${names.length} machines`);
  return h("tr", null, h("th", { scope: "row" }, count, machineList(names, FIRST_MACHINES)), h("td", null, reason));
}

/** Many machines are often rejected for the same reason: [[reason, names], ...]. */
export function byReason(rejected) {
  const found = new Map();
  for (const { name, code, reason } of rejected) {
    const text = withLocalTimes(STATUSES.includes(code) ? `${code}: ${reason}` : reason);
    found.set(text, [...(found.get(text) ?? []), name]);
  }
  return [...found];
}
