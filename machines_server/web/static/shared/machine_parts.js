// Elements that several pages show of a machine and its events.

import { h, renderIfChanged, setText, setTitle, svg, template } from "../base/dom.js";
import { ageText, bytes, dateTimeText, duration, number, timeElement, withLocalTimes } from "../base/format.js";
import { STATUSES, serverNow, state } from "../base/live.js";
import { machinePage, siteUrl, withQuery } from "../base/site.js";
import { tagTexts, unloadText } from "./machine_facts.js";

// A shape for each status, for readers who cannot tell the colours apart.
const SHAPES = {
  online: "M8 2a6 6 0 1 1 0 12A6 6 0 0 1 8 2z",
  degraded: "M8 2l7 12H1z",
  offline: "M3 2l5 5 5-5 1.5 1.5L9.5 8l5 4.5L13 14 8 9.5 3 14l-1.5-1.5 5-4.5-5-4.5z",
  unknown: "M8 1l7 7-7 7-7-7zm0 3L4 8l4 4 4-4z",
};
const AROUND_S = 1800;

const badgeTemplates = new Map(Object.entries(SHAPES).map(([status, d]) => [status, badgeTemplate(status, d)]));

function badgeTemplate(status, d) {
  return template(() => {
    const shape = svg("path", { d, "fill-rule": "evenodd" });
    return h(
      "span",
      { class: `badge status-${status}` },
      svg("svg", { viewBox: "0 0 16 16", "aria-hidden": "true" }, shape),
      status,
    );
  });
}

/** A status as shape, word and colour; another word than that of the status may be shown. */
export function statusBadge(status, word = status) {
  const { root } = badgeTemplates.get(status)();
  root.lastChild.data = word;
  return root;
}

/** Show how long a machine has had its status, such as "for 3 h 5 min", after `word`; nothing if unknown. */
export function showSince(element, machine, word = "for ") {
  const event = state.lastTransitions.get(machine.name);
  const isSince = event?.type === machine.status;
  setText(element, isSince ? `${word}${duration((serverNow() - Date.parse(event.at)) / 1000)}` : "");
  setTitle(element, isSince ? `since ${dateTimeText(Date.parse(event.at))}` : "");
}

/** Show how old the values of a machine are, unless it is online. */
export function showAgeOfValues(element, { status, sampled_at: sampledAt, last_seen: lastSeen }) {
  const isOld = status !== "online" && lastSeen !== null;
  const [what, time] = sampledAt ? ["Values from", sampledAt] : ["Last answered", lastSeen];
  setText(element, isOld ? `${what} ${ageText(time, serverNow())}` : "");
  setTitle(element, isOld ? dateTimeText(Date.parse(time)) : "");
}

/** Show the status of a machine and why it has it. */
export function showStatus(badge, reason, machine) {
  renderIfChanged(badge, machine.status, () => statusBadge(machine.status));
  setText(reason, withLocalTimes(machine.status_reason ?? ""));
}

/** A link to the page of a machine. */
export const machineLink = (name) => h("a", { href: siteUrl(machinePage(name)) }, name);

/** A text in which what is between backticks is code. */
export const withCode = (text) => text.split("`").map((piece, place) => (place % 2 ? h("code", null, piece) : piece));

/** A list of machines, where `detail(name)` comes after each link; those after the first few are folded. */
export function machineList(names, first, detail) {
  if (!names.length) return "–";
  const items = names.map((name) => h("li", null, machineLink(name), " ", detail?.(name)));
  const folded = items.splice(items.length > first + 1 ? first : items.length);
  return [
    h("ul", { class: "places" }, items),
    folded.length > 0 &&
      h("details", null, h("summary", null, `${folded.length} more`), h("ul", { class: "places" }, folded)),
  ];
}

/** A bar of parts [[class, share]], shares of 1. Screen readers skip it: text beside it must say the same. */
export function bar(parts) {
  const element = h("span", { class: "bar", "aria-hidden": "true" });
  for (const [name, share] of parts) {
    const part = h("span", { class: name });
    setShare(part, share);
    element.append(part);
  }
  return element;
}

/** Set the share of a bar, of 1, that one of its parts takes. */
export function setShare(part, share) {
  const width = `${Math.min(100, Math.max(0, (share || 0) * 100))}%`;
  if (part.shownWidth === width) return;
  part.shownWidth = width;
  part.style.width = width;
}

export const unreadableGpu = (gpu) =>
  h("p", { class: "gpu unreadable" }, `GPU ${gpu.index ?? "?"} cannot be read: ${gpu.reason}`);

const chipTemplate = template(() =>
  h(
    "li",
    { class: "chip" },
    h("a", { "data-part": "link" }),
    " ",
    h("span", { class: "quiet until", "data-part": "until" }),
    " ",
    h("span", { class: "quiet details", "data-part": "details" }),
  ),
);

/** A loaded model: name, size, processor, context, and when it unloads, which `chip.update` shows. */
function modelChip(model) {
  const context = model.context_length && `${number(model.context_length)}\u00a0ctx`;
  const fixed = [bytes(model.size_bytes), model.processor, context];
  const { root: chip, link, until, details } = chipTemplate();
  link.href = siteUrl(withQuery("/models", { model: model.name }));
  setText(link, model.name);
  setText(details, fixed.filter(Boolean).join(" · "));
  chip.update = (now) => {
    setTitle(until, now.expires_at ? dateTimeText(Date.parse(now.expires_at)) : "");
    setText(until, unloadText(now, serverNow()));
  };
  return chip;
}

/** Show the loaded models of a machine as chips, or `empty`; `updateModelChips` shows when they unload. */
export function showModelChips(element, machine, empty) {
  const { models } = machine.ollama;
  renderIfChanged(element, [empty, modelsKey(models)], () =>
    models.length ? h("ul", { class: "chips", "aria-label": "loaded models" }, models.map(modelChip)) : empty,
  );
}

export function updateModelChips(element, machine) {
  const chips = [...(element.firstElementChild?.children ?? [])];
  for (const [index, chip] of chips.entries()) chip.update(machine.ollama.models[index]);
}

/** Models without their expiry: every request postpones it, and rebuilt elements would lose the focus. */
export const modelsKey = (models) => models.map((model) => ({ ...model, expires_at: null }));

export const tagChips = (machine) => tagTexts(machine).map((tag) => h("span", { class: "tag" }, tag));

/** An event as a list item, whose time links to the machine's charts around it; `now` is the server's time in ms. */
export function eventLine(event, now) {
  const time = Math.round(Date.parse(event.at) / 1000);
  const charts = withQuery(machinePage(event.machine), { from: time - AROUND_S, to: time + AROUND_S });
  return h(
    "li",
    { class: "event" },
    h("a", { class: "moment", href: siteUrl(charts) }, timeElement(event.at, now)),
    " ",
    machineLink(event.machine),
    " ",
    STATUSES.includes(event.type)
      ? [statusBadge(event.type), " ", withLocalTimes(event.reason ?? "")]
      : eventWords(event).map((words, place) => (place === 1 ? h("b", null, words) : words)),
  );
}

/** An event in words: [text], or [text, name of the model, text]. */
export function eventWords(event) {
  switch (event.type) {
    case "model_loaded":
      return ["loaded ", event.model, ` (${number(event.size_gb, 1)} GiB, ${event.processor})`];
    case "model_unloaded":
      return ["unloaded ", event.model, ` after ${duration(event.resident_s)}`];
    case "machine_added":
      return [`was added in ${event.file}`];
    case "machine_changed":
      return [`was changed in ${event.file}: ${event.keys.join(", ")}`];
    case "machine_removed":
      return ["was removed"];
    case "host_rebooted":
      return [`rebooted after ${duration(event.uptime_before_s)} of uptime`];
    case "host_changed":
      return [`was replaced by a different host (${event.reason})`];
    case "service_up":
      return ["service ", event.service, " answers"];
    case "service_down":
      return ["service ", event.service, ` does not answer (${event.reason})`];
    default:
      return [event.type];
  }
}
