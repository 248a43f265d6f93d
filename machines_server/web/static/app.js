// The entry point: opens the page of each path, and updates it after each answer of the server.

import { afterPaint, h } from "./base/dom.js";
import { startFetching, state, subscribe } from "./base/live.js";
import { currentPath, sitePath } from "./base/site.js";
import { openAddMachine } from "./dialogs.js";
import { announceStatuses, showAge, showBanner, showProblems, showWarnings, startThemeButton } from "./frame.js";
import { firstMachine, startKeyboard } from "./keyboard.js";
import * as fleet from "./pages/fleet.js";
import { showTab } from "./status_icon.js";
import { startTabGroups } from "./tab_groups.js";

const MACHINE_PATH = /^\/machines\/([^/]+)$/;
/** [path, title, how to load the module of the page]; the first page is loaded with the frame. */
const ROUTES = [
  [/^\/$/, "Fleet", async () => fleet],
  [/^\/models$/, "Models", () => import("./pages/models.js")],
  [/^\/events$/, "Events", () => import("./pages/events.js")],
  [/^\/compare$/, "Compare", () => import("./pages/compare.js")],
  [/^\/leases$/, "Leases", () => import("./pages/leases.js")],
  [MACHINE_PATH, "Machine", () => import("./pages/machine.js")],
];
const PRELOAD_DELAY_MS = 1000;

const main = document.getElementById("main");
let page = null;
let openPath = null;
let title = "";
let pagesOpened = 0;
let hasPreloaded = false;

/** Open the page of the current path. */
async function open() {
  pagesOpened += 1;
  const number = pagesOpened;
  openPath = null; // until then, going back must open a page, or this one would be shown at its URL
  const path = currentPath();
  const [, routeTitle, load] = ROUTES.find(([pattern]) => pattern.test(path)) ?? ROUTES[0];
  const name = machineName();
  markCurrentLink();
  title = name ?? routeTitle;
  showTab(title);
  const module = await load().catch((error) => ({ open: (root) => showLoadFailure(root, error) }));
  if (number !== pagesOpened) return; // another page was opened meanwhile
  page?.close?.();
  page = null;
  main.replaceChildren();
  page = module.open(main, name);
  openPath = path;
  if (number > 1) main.focus({ preventScroll: true });
  if (!state.fleet) return;
  showProblems(name);
  page.update(true);
}

function markCurrentLink() {
  for (const link of document.querySelectorAll(".top nav a"))
    if (link.pathname === location.pathname) link.setAttribute("aria-current", "page");
    else if (link.dataset.key === "f" && machineName() !== null) link.setAttribute("aria-current", "true");
    else link.removeAttribute("aria-current");
}

/** The machine whose page the current path is, or null. */
function machineName() {
  const part = MACHINE_PATH.exec(currentPath())?.[1];
  if (part === undefined) return null;
  try {
    return decodeURIComponent(part);
  } catch {
    return part; // not valid UTF-8
  }
}

/** Shown instead of a page whose module cannot be loaded; reloads the document when the server is back. */
function showLoadFailure(root, error) {
  const link = h("a", { href: location.href, target: "_self" }, "Load it again");
  root.append(h("p", { class: "empty" }, `This page could not be loaded (${error.message}). `, link));
  let wasAway = false;
  const update = () => {
    if (wasAway && state.failedSince === null) location.reload();
    wasAway = state.failedSince !== null;
  };
  return { update };
}

/** Open pages of this site without loading the document again. */
function followLink(event) {
  const link = event.target.closest?.("a[href]");
  if (!link || event.defaultPrevented || event.button || event.metaKey || event.ctrlKey || event.shiftKey) return;
  const url = new URL(link.href);
  if (url.origin !== location.origin || link.target || link.hasAttribute("download")) return;
  const path = sitePath(url.pathname);
  if (path === null || path.startsWith("/api/") || path === "/health") return;
  event.preventDefault();
  if (url.hash) {
    (firstMachine() ?? main).focus(); // "Skip to content" is the only such link
    return;
  }
  history.pushState(null, "", url);
  open();
  scrollTo(0, 0);
}

/** Show the state in the URL after Back or Forward; a page that can do so itself keeps its elements. */
function followHistory() {
  if (page?.readUrl && currentPath() === openPath) page.readUrl();
  else open();
}

/** Load the modules of the other pages, so that they can be opened while the server is away. */
function preloadPages() {
  for (const [, , load] of ROUTES) load().catch((error) => console.info("not preloaded:", error.message));
}

function update(hasChanged) {
  showAge();
  showBanner();
  showTab(title);
  if (!state.fleet) return;
  showProblems(machineName());
  showWarnings();
  announceStatuses();
  if (!hasPreloaded) afterPaint(() => setTimeout(preloadPages, PRELOAD_DELAY_MS));
  hasPreloaded = true;
  page?.update(hasChanged);
}

// The links of the document are relative to its path, which changes when another page is opened.
for (const link of document.querySelectorAll("a[href], link[rel=icon]")) link.setAttribute("href", link.href);
startThemeButton(() => {
  if (state.fleet) page?.update(true);
});
document.addEventListener("click", followLink);
addEventListener("popstate", followHistory);
document.getElementById("add").addEventListener("click", openAddMachine);
startKeyboard();
startTabGroups();
setInterval(showAge, 1000);
subscribe(update);
open();
startFetching();
