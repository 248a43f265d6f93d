// One event, as it is listed on several pages.
import { pageOf, path } from "./api.js";
import { h } from "./dom.js";
import { ago, localTimes, number, span } from "./format.js";
import { STATUSES } from "./live.js";
import { machineLink, statusBadge } from "./parts.js";

const AROUND_S = 1800;
const WORDS = {
  model_loaded: "loaded", model_unloaded: "unloaded", machine_added: "was added", machine_changed: "was changed",
  machine_removed: "was removed", host_rebooted: "was rebooted",
};

/** A list item; `now` is the server's time in ms. The moment leads to the machine's charts around it. */
export function eventLine(event, now) {
  const at = Math.round(Date.parse(event.at) / 1000);
  const moment = path(pageOf(event.machine), { from: at - AROUND_S, to: at + AROUND_S });
  const what = STATUSES.includes(event.type) ? [statusBadge(event.type), " ", localTimes(event.reason ?? "")] : [WORDS[event.type] ?? event.type, " ", detail(event)];
  return h("li", { class: "event" }, h("a", { class: "moment", href: moment }, ago(event.at, now)), " ", machineLink(event.machine), " ", what);
}

function detail({ type, model, size_gb: size, processor, resident_s: resident, keys, file, uptime_s: uptime }) {
  if (type === "model_loaded") return [h("b", null, model), ` (${number(size, 1)} GiB, ${processor})`];
  if (type === "model_unloaded") return [h("b", null, model), ` after ${span(resident)}`];
  if (type === "machine_changed") return `in ${file}: ${keys.join(", ")}`;
  if (type === "machine_added") return `in ${file}`;
  return type === "host_rebooted" ? `and was up for ${span(uptime)}` : "";
}
