// Keys that work everywhere: / searches, j and k go through the machines, g and a letter opens a page, ? helps.

import { openHelp } from "./dialogs.js";

const PAGES = ".top nav a[data-key]";
const MACHINES = "main :is(.cards > .card h2 a, .machine-row th a)";
const TYPING = "input:not([type=checkbox]), select, textarea, [contenteditable], dialog";

let isGoing = false;

/** Listen for keys, and for the button that lists them. */
export function startKeyboard() {
  document.getElementById("help").addEventListener("click", showHelp);
  document.addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey || event.target.closest?.(TYPING)) return;
    if (press(event.key)) event.preventDefault();
  });
}

/** Perform the action of a key; returns whether it has one. */
function press(key) {
  const wasGoing = isGoing;
  isGoing = false;
  if (wasGoing) return openPage(key);
  switch (key) {
    case "g":
      isGoing = true;
      return true;
    case "/":
      return focusSearch();
    case "j":
      return focusMachine(1);
    case "k":
      return focusMachine(-1);
    case "?":
      showHelp();
      return true;
    default:
      return false;
  }
}

function showHelp() {
  openHelp([...document.querySelectorAll(PAGES)].map((link) => [link.dataset.key, link.textContent]));
}

function openPage(key) {
  const link = [...document.querySelectorAll(PAGES)].find((one) => one.dataset.key === key);
  link?.click();
  return link !== undefined;
}

function focusSearch() {
  const search = document.querySelector("main input[type=search]");
  if (!search) return false;
  const folded = search.closest("details");
  if (folded) folded.open = true;
  search.focus();
  search.select();
  return true;
}

/** Focus the next machine in that direction, or the first; false on pages without machines. */
function focusMachine(step) {
  const links = [...document.querySelectorAll(MACHINES)];
  const current = links.findIndex((link) => link.closest(".card, .machine-row").contains(document.activeElement));
  const next = links[current < 0 ? 0 : Math.min(links.length - 1, Math.max(0, current + step))];
  next?.focus();
  next?.scrollIntoView({ block: "nearest" });
  return next !== undefined;
}

/** The first machine of the page, to which the skip link goes; null on pages without machines. */
export const firstMachine = () => document.querySelector(MACHINES);
