// The frame around every page: the age of the data, the banner, problems, warnings, announcements and the theme.

import { h, renderIfChanged, setText } from "./base/dom.js";
import { ageText, dateTimeText, timeText } from "./base/format.js";
import { serverNow, state } from "./base/live.js";
import { store, stored } from "./base/stored.js";
import { machineLink, statusBadge } from "./shared/machine_parts.js";
import { findProblems } from "./shared/problems.js";

const SHOWN_MACHINES = 8;
const THEMES = ["system", "light", "dark"];

const elements = Object.fromEntries(
  ["age", "banner", "problems", "warnings", "announce", "theme"].map((id) => [id, document.getElementById(id)]),
);

/** Show how old the data is, or its time while the server is away; called each second. */
export function showAge() {
  const time = state.fleet?.poller.last_cycle_at;
  if (state.answeredAt === null) return;
  setText(
    elements.age,
    time
      ? `As of ${state.failedSince === null ? ageText(time, serverNow()) : timeText(Date.parse(time))}`
      : "Not polled yet",
  );
  elements.age.title = time ? `latest poll cycle: ${timeText(Date.parse(time))}` : "";
  elements.age.dataset.time = time ? dateTimeText(Date.parse(time)) : "no poll"; // for paper
}

/** Show the banner while the server does not answer. */
export function showBanner() {
  const { failedSince, failure, answeredAt } = state;
  elements.banner.hidden = failedSince === null;
  document.body.classList.toggle("unreachable", failedSince !== null);
  if (failedSince === null) {
    setText(elements.banner, "");
    return;
  }
  const since = timeText(failedSince);
  const what =
    failure === null ? `The server has been unreachable since ${since}.` : `Errors since ${since}: ${failure}`;
  const data = answeredAt === null ? "It has not answered yet." : "This page shows its last answer.";
  setText(elements.banner, `${what} ${data} Retrying.`);
}

let isUnfolded = false;

/** List the problems to fix, several in one line each until they are unfolded; on the page of a machine, only its own. */
export function showProblems(machineName) {
  const problems = findProblems(state, machineName);
  elements.problems.hidden = problems.length === 0;
  renderIfChanged(elements.problems, problems, () => {
    const text = problems.length === 1 ? "1 problem" : `${problems.length} problems`;
    const lines = h("ul", null, problems.map(problemLine));
    return [h("div", { class: "head" }, h("h2", null, text), problems.length > 1 && unfoldButton(lines)), lines];
  });
}

function unfoldButton(lines) {
  const button = h("button", { type: "button", class: "plain", click: toggle });
  show();

  function toggle() {
    isUnfolded = !isUnfolded;
    show();
  }

  function show() {
    lines.classList.toggle("folded", !isUnfolded);
    button.ariaExpanded = String(isUnfolded);
    setText(button, isUnfolded ? "Show less" : "Show all");
  }

  return button;
}

function problemLine({ severity, status, machines, where, since, what }) {
  const label = status ? statusBadge(status) : h("b", null, severity === "error" ? "Error" : "Warning");
  const place = machines.length ? machineLinks(machines) : where && h("code", null, where);
  const time = since && [" since ", h("span", { title: dateTimeText(Date.parse(since)) }, momentText(since))];
  return h("li", { class: severity, title: what }, label, " ", place, time, (place || time) && ": ", what);
}

/** A time of today without its date. */
function momentText(time) {
  const ms = Date.parse(time);
  const isToday = new Date(ms).toDateString() === new Date(serverNow()).toDateString();
  return isToday ? timeText(ms) : dateTimeText(ms);
}

function machineLinks(names) {
  const links = names.slice(0, SHOWN_MACHINES).flatMap((name, place) => [place > 0 && ", ", machineLink(name)]);
  return names.length > SHOWN_MACHINES ? [...links, ` and ${names.length - SHOWN_MACHINES} more`] : links;
}

/** Show what is unsafe about how the server is run. */
export function showWarnings() {
  const warnings = state.health?.warnings ?? [];
  elements.warnings.hidden = warnings.length === 0;
  renderIfChanged(elements.warnings, warnings, () => warnings.map((warning) => h("p", null, warning)));
}

let lastStatuses = null;

/** Tell screen readers which machines have changed their status. */
export function announceStatuses() {
  const statuses = new Map(state.fleet.machines.map(({ name, status }) => [name, status]));
  const changed = [...statuses].filter(([name, status]) => (lastStatuses?.get(name) ?? status) !== status);
  if (changed.length) setText(elements.announce, changed.map(([name, status]) => `${name} is ${status}`).join(", "));
  lastStatuses = statuses;
}

const storedTheme = () => stored("theme") ?? THEMES[0];

/** Let the button change the theme; `onChange` is called after that. */
export function startThemeButton(onChange) {
  showTheme(storedTheme());
  elements.theme.addEventListener("click", () => {
    const theme = THEMES[(THEMES.indexOf(storedTheme()) + 1) % THEMES.length];
    store("theme", theme);
    showTheme(theme);
    onChange();
  });
}

function showTheme(theme) {
  if (theme === "system") delete document.documentElement.dataset.theme;
  else document.documentElement.dataset.theme = theme;
  setText(elements.theme, `Theme: ${theme}`);
}
