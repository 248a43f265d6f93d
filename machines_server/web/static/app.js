// The frame around every page: routes, the age of what is shown, the banner, problems, the theme.
import { h, onceDrawn, remake, say } from "./dom.js";
import * as fleet from "./fleet.js";
import { clock, span } from "./format.js";
import { listen, serverNow, start, state } from "./live.js";
import { machineLink } from "./parts.js";
import { problemsOf } from "./problems.js";

const MACHINE = /^\/machines\/([^/]+)$/;
const ROUTES = [
  [/^\/$/, "Fleet", async () => fleet], // comes with the frame, so that it is there before its data
  [/^\/models$/, "Models", () => import("./models.js")],
  [/^\/events$/, "Events", () => import("./events.js")],
  [MACHINE, "Machine", () => import("./machine.js")],
];
const FEW = 5;
const MANY = 8;
const AHEAD_MS = 1000;
const THEMES = ["system", "light", "dark"];

const main = document.getElementById("main");
const parts = Object.fromEntries(["age", "banner", "problems", "announce", "theme"].map((id) => [id, document.getElementById(id)]));
let view = null;
let opened = 0;
let seesAll = false;
let isAhead = false;

/** Go to a page of this site without loading it anew; `replace` for what is no step back. */
export function navigate(url, { replace = false } = {}) {
  history[replace ? "replaceState" : "pushState"](null, "", url);
  if (!replace) open();
}

async function open() {
  const number = ++opened;
  const route = ROUTES.find(([pattern]) => pattern.test(location.pathname)) ?? ROUTES[0];
  const [pattern, title, load] = route;
  const found = pattern.exec(location.pathname)?.[1];
  const name = found === undefined ? null : decoded(found);
  for (const link of document.querySelectorAll(".top nav a"))
    if (link.getAttribute("href") === location.pathname) link.setAttribute("aria-current", "page");
    else link.removeAttribute("aria-current");
  document.title = `${name ?? title} · machines-server`;
  const module = await load().catch((error) => ({ open: (root) => showFailure(root, error) }));
  if (number !== opened) return; // somebody went on meanwhile
  view?.close?.();
  view = null;
  main.replaceChildren();
  view = module.open(main, name);
  if (number > 1) main.focus({ preventScroll: true });
  if (!state.fleet) return;
  showProblems();
  view.update(true);
}

/** In the place of a view whose script did not come: when the server was away, its return loads the page anew. */
function showFailure(root, error) {
  root.append(h("p", { class: "empty" }, `This page could not be loaded (${error.message}). `, h("a", { href: location.href, target: "_self" }, "Load it again")));
  let wasAway = false;
  const update = () => {
    if (wasAway && state.failedSince === null) location.reload();
    wasAway = state.failedSince !== null;
  };
  return { update };
}

/** A part of a path as text; what is no UTF-8 stays as it is. */
function decoded(part) {
  try {
    return decodeURIComponent(part);
  } catch {
    return part;
  }
}

function followLinks(event) {
  const link = event.target.closest?.("a[href]");
  if (!link || event.defaultPrevented || event.button || event.metaKey || event.ctrlKey || event.shiftKey) return;
  const url = new URL(link.href);
  if (url.origin !== location.origin || link.target || link.hasAttribute("download")) return;
  if (url.pathname.startsWith("/api/") || url.pathname === "/health") return;
  event.preventDefault();
  if (url.hash) return main.focus(); // "Skip to content", the only one
  navigate(url.pathname + url.search);
  scrollTo(0, 0);
}

function showAge() {
  const at = state.fleet?.poller.last_cycle_at;
  if (state.answeredAt === null) return;
  say(parts.age, at ? `As of ${span((serverNow() - Date.parse(at)) / 1000)} ago` : "Not polled yet");
  parts.age.title = at ? `latest poll cycle: ${clock(Date.parse(at))}` : "";
}

function showBanner() {
  const { failedSince, failure } = state;
  parts.banner.hidden = failedSince === null;
  document.body.classList.toggle("unreachable", failedSince !== null);
  if (failedSince === null) return say(parts.banner, "");
  const seen = state.answeredAt === null ? "It has not answered yet." : "What you see is what it said last.";
  const what = failure === null ? "The server cannot be reached" : "The server fails to answer";
  say(parts.banner, `${what} since ${clock(failedSince)}. ${failure ?? ""} ${seen} Trying again.`);
}

function showProblems() {
  const here = MACHINE.exec(location.pathname)?.[1];
  const problems = problemsOf(state, here && decoded(here));
  parts.problems.hidden = problems.length === 0;
  remake(parts.problems, problems, () => {
    const lines = problems.map(({ severity, machines, where, what }) =>
      h("li", { class: severity }, h("b", null, severity === "error" ? "Error" : "Warning"), " ",
        machines.length ? machineLinks(machines) : where && h("code", null, where), (machines.length > 0 || where) && ": ", what));
    const others = lines.splice(lines.length > FEW + 1 ? FEW : lines.length);
    return [
      h("h2", null, problems.length === 1 ? "1 problem" : `${problems.length} problems`),
      h("ul", null, lines),
      others.length > 0 && h("details", { open: seesAll, toggle: ({ target }) => (seesAll = target.open) },
        h("summary", null, `${others.length} more`), h("ul", null, others)),
    ];
  });
}

function machineLinks(names) {
  const links = names.slice(0, MANY).flatMap((name, at) => [at > 0 && ", ", machineLink(name)]);
  return names.length > MANY ? [...links, ` and ${names.length - MANY} more`] : links;
}

/** While the server is away, other pages can be looked at: their scripts are there. */
const fetchAhead = () => ROUTES.forEach(([, , load]) => load().catch((error) => console.info("not fetched ahead:", error.message)));

let before = null;

/** Tell a screen reader of changes of status, and of nothing else. */
function announce() {
  const now = new Map(state.fleet.machines.map((machine) => [machine.name, machine.status]));
  if (before) {
    const changed = [...now].filter(([name, status]) => before.has(name) && before.get(name) !== status);
    if (changed.length) say(parts.announce, changed.map(([name, status]) => `${name} is ${status}`).join(", "));
  }
  before = now;
}

function showTheme(theme) {
  if (theme === "system") delete document.documentElement.dataset.theme;
  else document.documentElement.dataset.theme = theme;
  say(parts.theme, `Theme: ${theme}`);
}

/** What is kept, where the browser keeps anything. */
function chosenTheme() {
  try {
    return localStorage.getItem("theme") ?? THEMES[0];
  } catch {
    return document.documentElement.dataset.theme ?? THEMES[0];
  }
}

function nextTheme() {
  const theme = THEMES[(THEMES.indexOf(chosenTheme()) + 1) % THEMES.length];
  try {
    localStorage.setItem("theme", theme);
  } catch {} // it lasts until the page is left
  showTheme(theme);
  if (state.fleet) view?.update(true);
}

showTheme(chosenTheme());
parts.theme.addEventListener("click", nextTheme);
document.addEventListener("click", followLinks);
addEventListener("popstate", open);
setInterval(showAge, 1000);
listen((isNew) => {
  showAge();
  showBanner();
  if (!state.fleet) return;
  showProblems();
  announce();
  if (!isAhead) onceDrawn(() => setTimeout(fetchAhead, AHEAD_MS));
  isAhead = true;
  view?.update(isNew);
});
open();
start();
