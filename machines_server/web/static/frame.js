// The frame around every page: the age of the data, the banner, problems, warnings, announcements and the theme.

import { h, renderIfChanged, renderList, setText, setTitle } from "./base/dom.js";
import { ageText, dateTimeText, momentText, timeText } from "./base/format.js";
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

const problemsTitle = h("h2");
const unfoldButton = h("button", { type: "button", class: "plain", click: unfoldProblems });
const problemLines = h("ul");
elements.problems.append(h("div", { class: "head" }, problemsTitle, unfoldButton), problemLines);
let isUnfolded = false;

/**
 * List the problems to fix, several in one line each until they are unfolded; on the page of a machine, only its own.
 * What stays the same keeps its elements, and with them the focus.
 */
export function showProblems(machineName) {
  const problems = findProblems(state, machineName);
  elements.problems.hidden = problems.length === 0;
  setText(problemsTitle, problems.length === 1 ? "1 problem" : `${problems.length} problems`);
  const keyOf = ({ since, ...lasting }) => JSON.stringify(lasting);
  renderList(problemLines, problems, keyOf, problemLine);
  for (const [index, { since }] of problems.entries()) showSince(problemLines.children[index], since);
  unfoldButton.hidden = problems.length < 2;
  showFolding();
}

function unfoldProblems() {
  isUnfolded = !isUnfolded;
  showFolding();
}

function showFolding() {
  problemLines.classList.toggle("folded", !isUnfolded && !unfoldButton.hidden);
  unfoldButton.ariaExpanded = String(isUnfolded);
  setText(unfoldButton, isUnfolded ? "Show less" : "Show all");
}

function problemLine({ severity, status, machines, where, what }) {
  const label = status ? statusBadge(status) : h("b", null, severity === "error" ? "Error" : "Warning");
  const place = machines.length ? machineLinks(machines) : where && h("code", null, where);
  const since = h("span", { class: "since" });
  return h("li", { class: severity, title: what }, label, " ", place, since, place && ": ", what);
}

/** Show since when the problem of a line has existed; the event that tells may arrive after the problem. */
function showSince(line, since) {
  const element = line.querySelector(".since");
  setText(element, since ? ` since ${momentText(Date.parse(since), serverNow())}` : "");
  setTitle(element, since ? dateTimeText(Date.parse(since)) : "");
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

/** Let the button change the theme, and printing for as long as it takes; `onChange` is called after that. */
export function startThemeButton(onChange) {
  showTheme(storedTheme());
  for (const type of ["beforeprint", "afterprint"])
    addEventListener(type, () => {
      const isPrinting = type === "beforeprint";
      document.documentElement.classList.toggle("printing", isPrinting);
      showTheme(isPrinting ? "light" : storedTheme());
      onChange();
    });
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
