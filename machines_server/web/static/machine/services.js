// The other services on the host of one machine, and whether they answer.

import { h, renderIfChanged, updateTimes } from "../base/dom.js";
import { ageText, timeElement } from "../base/format.js";
import { serverNow } from "../base/live.js";
import { statusBadge } from "../shared/machine_parts.js";

/** The status of a machine whose shape and colour a service has. */
const LIKE_A_MACHINE = { active: "online", inactive: "offline" };

/** {root, show(machine), update()}: the services, hidden if the machine's file lists none that are polled. */
export function makeServices() {
  const list = h("ul", { class: "services" });
  const root = h("section", { class: "card wide", hidden: true }, h("h2", null, "Services"), list);

  function show({ services, network }) {
    const polled = polledServices(services);
    root.hidden = polled.length === 0;
    renderIfChanged(list, polled, () => polled.map((service) => line(service, network.hostname)));
  }

  return { root, show, update: () => updateTimes(list, (time) => ageText(time, serverNow())) };
}

/** The entries of a machine's `services` that the server polls. */
export const polledServices = (services) =>
  Array.isArray(services) ? services.filter((service) => service?.status !== undefined) : [];

function line({ name, port, path = "/", description, status, message, since }, hostname) {
  const host = hostname.includes(":") ? `[${hostname}]` : hostname;
  const url = `http://${host}:${port}${path}`;
  return h(
    "li",
    { class: `service is-${status}` },
    statusBadge(LIKE_A_MACHINE[status] ?? "unknown", status),
    " ",
    h("a", { href: url, rel: "noreferrer" }, name),
    description ? ` ${description}` : "",
    message ? `: ${message}` : "",
    since ? [", ", h("span", { class: "quiet" }, "changed ", timeElement(since, serverNow()))] : "",
  );
}
