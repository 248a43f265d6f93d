// The leases page: who holds what, until when, on which GPU. A lease can be released here.

import { h, labelled, renderList, scrollable, setText, tableHead } from "../base/dom.js";
import { ageText, momentText, setTime, timeText } from "../base/format.js";
import { serverNow, state } from "../base/live.js";
import { ApiError, errorText, remove, siteUrl, withQuery } from "../base/site.js";
import { makeReleaseDialog } from "../leases/release_dialog.js";
import { expiredText, remainingText, reservedText, sumText } from "../shared/lease_facts.js";
import { machineLink } from "../shared/machine_parts.js";
import { loadStyles } from "../shared/styles.js";

const HEADINGS = ["Machine", "Model", "Holder", "Reserved", "Granted", "Expires", ""];

await loadStyles("leases.css");

export function open(main) {
  const sum = h("p");
  const expired = h("p", { class: "quiet" });
  const message = h("p", { class: "empty", role: "status" });
  const hint = h(
    "p",
    { class: "empty quiet", hidden: true },
    "A lease reserves a machine's memory for a job. Take one with ",
    h("code", null, "machines-server pick MODEL --lease -- COMMAND"),
    ", or with ",
    h("code", null, "POST /api/leases"),
    ".",
  );
  const failure = h("p", { class: "failure", role: "alert" });
  const rows = h("tbody");
  const table = scrollable(
    "Leases",
    { class: "scroll stacked", hidden: true },
    h("table", null, tableHead(HEADINGS), rows),
  );
  const dialog = makeReleaseDialog(release);
  const released = new Set(); // the list may still have them for a moment
  main.append(
    h("div", { class: "leases" }, h("h1", null, "Leases"), sum, expired, failure, message, hint, table, dialog.root),
  );

  async function release({ lease, machine }) {
    setText(failure, "");
    try {
      await remove(`/api/leases/${encodeURIComponent(lease)}`);
      released.add(lease);
    } catch (error) {
      if (error instanceof ApiError && error.code === "unknown_lease") released.add(lease);
      setText(failure, `The lease on ${machine} was not released. ${errorText(error)}`);
    }
    update();
  }

  function update() {
    const isKnown = state.leasesAnsweredAt !== null;
    const leases = state.leases.filter(({ lease }) => !released.has(lease));
    setText(message, messageText(isKnown, leases.length));
    setText(sum, sumText(leases));
    setText(expired, isKnown ? expiredText(state.expiredLeases) : "");
    table.hidden = leases.length === 0;
    hint.hidden = !isKnown || leases.length > 0;
    renderList(
      rows,
      leases,
      ({ lease }) => lease,
      (lease) => row(lease, dialog.ask),
    );
    for (const [place, lease] of leases.entries()) showTimes(rows.children[place], lease);
  }

  return { update };
}

function messageText(isKnown, count) {
  if (!isKnown) return "Loading…";
  return count ? "" : "No leases.";
}

function row(lease, ask) {
  const { machine, model, holder, exclusive, created_at: created } = lease;
  const name = holder || "an unnamed holder";
  const button = h(
    "button",
    { type: "button", "aria-label": `Release the lease of ${name} on ${machine}`, click: () => ask(lease) },
    "Release",
  );
  const cells = [
    h("th", { scope: "row" }, machineLink(machine)),
    h("td", null, model ? h("a", { href: siteUrl(withQuery("/models", { model })) }, model) : "–"),
    h("td", null, holder || h("span", { class: "quiet" }, "unnamed")),
    h("td", null, h("span", { class: "reserved" }), exclusive && h("p", { class: "quiet" }, "exclusive")),
    h("td", null, setTime(h("time", { class: "granted" }), created), " ", h("span", { class: "quiet age-of" })),
    h(
      "td",
      null,
      h("time", { class: "end" }),
      " ",
      h("span", { class: "quiet remaining" }),
      h("p", { class: "broken" }),
    ),
    h("td", null, button),
  ];
  return labelled(h("tr", null, cells), HEADINGS);
}

/** What changes while a lease lasts. While the server is away, nothing counts down. */
function showTimes(element, lease) {
  const end = element.querySelector(".end");
  setText(element.querySelector(".reserved"), reservedText(lease));
  setText(element.querySelector(".granted"), momentText(Date.parse(lease.created_at), serverNow()));
  setText(element.querySelector(".age-of"), ageText(lease.created_at, serverNow()));
  setText(setTime(end, lease.expires_at), timeText(Date.parse(lease.expires_at)));
  setText(element.querySelector(".remaining"), remainingText(lease, serverNow()));
  setText(element.querySelector(".broken"), lease.broken ?? "");
}
