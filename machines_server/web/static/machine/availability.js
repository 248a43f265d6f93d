// How available a machine was: a bar per slot of the time range, the sum in words, and each outage.

import { h, renderIfChanged, svg } from "../base/dom.js";
import { duration, number, withLocalTimes } from "../base/format.js";
import { STATUSES } from "../base/live.js";
import { errorText, machinePage, siteUrl, withQuery } from "../base/site.js";
import { rangeText } from "../base/time_ranges.js";
import { statusBadge } from "../shared/machine_parts.js";
import { timeScale } from "../shared/time_scale.js";
import { availabilitySlots } from "./outages.js";

const MAX_OUTAGES = 10;
const AROUND_S = 900;
const GAP = 0.12; // between two bars, of the width of a slot
const KEYS = [
  ["up", "answered"],
  ["partly", "answered in part"],
  ["down", "offline"],
  ["unpolled", "not polled"],
];

/** {root, showStrip(points, frame), showSum(answer), showOutages(outages)}; the last two also take a failed promise. */
export function makeAvailability(name) {
  const strip = h("div");
  const sum = h("div");
  const outages = h("div");
  const root = h(
    "section",
    { class: "card availability", "aria-labelledby": "availability" },
    h("h3", { id: "availability" }, "Availability"),
    strip,
    sum,
    outages,
  );

  function showStrip(points, frame) {
    const slots = availabilitySlots(points, frame);
    renderIfChanged(strip, slots, () => [stripOf(slots), timeScale(frame.from, frame.to), legend()]);
  }

  function showSum({ value, reason }) {
    renderIfChanged(sum, value ?? errorText(reason), () =>
      value ? sumOf(value) : h("p", { class: "empty" }, errorText(reason)),
    );
  }

  function showOutages(found) {
    renderIfChanged(outages, found, () => found.length > 0 && outageList(name, found));
  }

  return { root, showStrip, showSum, showOutages };
}

function stripOf(slots) {
  return svg(
    "svg",
    { class: "strip", viewBox: `0 0 ${slots.length} 1`, preserveAspectRatio: "none", "aria-hidden": "true" },
    slots.flatMap(({ share }, place) => barsOf(share).map(([kind, top, height]) => bar(kind, place, top, height))),
  );
}

const bar = (kind, place, top, height) =>
  svg("rect", { class: kind, x: String(place), width: String(1 - GAP), y: String(top), height: String(height) });

/** The bars of a slot: [kind, top, height]. They differ in height as well, for readers who cannot tell the colours apart. */
export function barsOf(share) {
  if (share === null) return [["unpolled", 0.45, 0.1]];
  if (share >= 1) return [["up", 0, 1]];
  if (share <= 0) return [["down", 0.5, 0.5]];
  const down = Math.min(0.8, Math.max(0.2, 1 - share));
  return [
    ["up", 0, 1 - down],
    ["partly", 1 - down, down],
  ];
}

const legend = () =>
  h(
    "p",
    { class: "quiet legend" },
    KEYS.map(([kind, text]) => h("span", { class: "keyed" }, h("i", { class: `swatch ${kind}` }), text)),
  );

/** The answer of /availability as a sentence and a list. */
function sumOf({ seconds, ratio, outages, longest_outage_s: longest }) {
  const total = STATUSES.reduce((sum, status) => sum + seconds[status], 0);
  const shares = STATUSES.map((status) => h("li", null, statusBadge(status), ` ${shareText(seconds[status], total)}`));
  return [h("p", null, `${ratioText(ratio)} ${outagesText(outages, longest)}`), h("ul", { class: "shares" }, shares)];
}

/** Rounded down, so that 100 % means always. */
export function ratioText(ratio) {
  if (ratio === null) return "Availability in this time range is unknown.";
  const percent = Math.floor(ratio * 10_000 + 1e-6) / 100;
  return `Answered ${number(percent, 2)} % of the time during which its status was known.`;
}

export function outagesText(count, longestS) {
  if (count === 0) return "No outages.";
  return count === 1
    ? `One outage, of ${duration(longestS)}.`
    : `${number(count)} outages, the longest of ${duration(longestS)}.`;
}

export const shareText = (seconds, total) =>
  seconds > 0 ? `${duration(seconds)}, ${number((seconds / total) * 100, 1)} %` : "–";

function outageList(name, outages) {
  const items = outages.slice(0, MAX_OUTAGES).map((outage) => {
    const around = { from: Math.floor(outage.from - AROUND_S), to: Math.ceil(outage.to + AROUND_S) };
    const link = h("a", { href: siteUrl(withQuery(machinePage(name), around)) }, outageTimes(outage));
    return h("li", null, link, outageWords(outage));
  });
  const others = outages.length - items.length;
  return [
    h("h4", null, "Outages"),
    h("ul", { class: "outages" }, items),
    others > 0 && h("p", { class: "quiet" }, `And ${number(others)} earlier in this time range.`),
  ];
}

const outageTimes = ({ from, to }) => rangeText(from, to, 1);

export function outageWords({ from, to, reason, isOpen }) {
  const length = `${duration(to - from)}${isOpen ? " so far" : ""}`;
  return `: offline for ${length}${reason ? `, ${withLocalTimes(reason)}` : ""}`;
}
