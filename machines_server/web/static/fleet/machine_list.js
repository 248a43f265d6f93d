// The machines of the fleet, as cards or as rows of a table.

import { afterPaint, h } from "../base/dom.js";
import { makeCard } from "./cards.js";
import { sortDirection } from "./filter.js";
import { COLUMNS, makeRow } from "./rows.js";
import { refreshSparklines } from "./sparkline.js";

/** {root, show(machines, isTable, sort), update(), close()}: `onSort(name)` is called for clicks on column headings. */
export function makeMachineList(onSort) {
  const root = h("div", { class: "machines" });
  let shown = new Map();
  let list = null;
  let wasTable = null;

  function show(machines, isTable, sort) {
    const isNew = isTable !== wasTable;
    if (isNew) {
      close();
      shown = new Map();
      wasTable = isTable;
      list = isTable ? makeTable(onSort) : makeCards();
    }
    place(machines, isTable ? makeRow : makeCard);
    list.showSort(sort);
    if (isNew) root.replaceChildren(list.root);
  }

  /** Existing elements are kept and put into order, so that none loses the focus. */
  function place(machines, make) {
    const names = new Set(machines.map(({ name }) => name));
    for (const [name, element] of shown)
      if (!names.has(name)) {
        element.close();
        element.root.remove();
        shown.delete(name);
      }
    const focused = document.activeElement;
    for (const [index, machine] of machines.entries()) {
      if (!shown.has(machine.name)) shown.set(machine.name, make(machine));
      const element = shown.get(machine.name);
      element.show(machine);
      const before = list.body.children[index + list.heads];
      if (before !== element.root) list.body.insertBefore(element.root, before ?? null);
    }
    if (focused !== document.activeElement && focused?.isConnected) focused.focus({ preventScroll: true });
  }

  function update() {
    for (const element of shown.values()) element.update();
    refreshSparklines([...shown.values()].map(({ sparkline }) => sparkline()).filter(Boolean));
  }

  function close() {
    for (const element of shown.values()) element.close();
  }

  return { root, show, update, close };
}

/** The first screen of cards is laid out one frame before the others. */
function makeCards() {
  const cards = h("ul", { class: "cards first" });
  afterPaint(() => cards.classList.remove("first"));
  return { root: cards, body: cards, heads: 0, showSort() {} };
}

function makeTable(onSort) {
  const headings = COLUMNS.map(([text, sort, name, title]) =>
    h(
      "th",
      { scope: "col", "data-sort": sort, class: name, title },
      sort ? h("button", { type: "button", click: () => onSort(sort) }, text) : text,
    ),
  );
  const table = h("table", { class: "dense" }, h("thead", { "data-tab-group": "filter" }, h("tr", null, headings)));

  function showSort(sort) {
    for (const heading of headings) heading.ariaSort = heading.dataset.sort === sort.name ? sortDirection(sort) : null;
  }

  return { root: table, body: table, heads: 1, showSort };
}
