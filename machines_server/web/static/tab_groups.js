// Groups of controls that are one stop of the Tab key each: arrow keys move within a group, Tab leaves it.
//
// An element belongs to a group if it is within [data-tab-group]; parts of the page may share a group. Which control
// of a group Tab stops at is decided when Tab is pressed, so that changes need no bookkeeping.

const CONTROLS = ":is(a[href], button, input, select, summary)";
const STEPS = { ArrowLeft: -1, ArrowRight: 1, Home: -Infinity, End: Infinity };

/** By group, the control that last had the focus. */
const lastFocused = new Map();

/** Listen for keys. */
export function startTabGroups() {
  document.addEventListener("focusin", ({ target }) => {
    const group = groupOf(target);
    if (group) lastFocused.set(group, target);
  });
  document.addEventListener("pointerdown", () => document.body.classList.remove("tabbing"));
  document.addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    if (event.key === "Tab") {
      document.body.classList.add("tabbing");
      settleStops();
    } else if (!event.shiftKey && move(event.target, event.key)) event.preventDefault();
  });
}

const groupOf = (element) => element.closest?.("[data-tab-group]")?.dataset.tabGroup;

function controlsOf(group) {
  const found = document.querySelectorAll(`[data-tab-group="${group}"] ${CONTROLS}`);
  return [...found].filter((control) => control.checkVisibility({ visibilityProperty: true }) && !control.disabled);
}

/** Leave one control of each group among the stops of the Tab key. */
function settleStops() {
  const groups = new Set([...document.querySelectorAll("[data-tab-group]")].map(groupOf));
  for (const group of groups) {
    const controls = controlsOf(group);
    const candidates = [lastFocused.get(group), controls.find((one) => one.matches("[data-tab-first]")), controls[0]];
    const stop = candidates.find((one) => controls.includes(one));
    for (const control of controls) control.tabIndex = control === stop ? 0 : -1;
  }
}

/** Move the focus within the group of a control; returns whether the key does that. */
function move(from, key) {
  const group = groupOf(from);
  if (!group || !(key in STEPS) || isForCaret(from, key)) return false;
  const controls = controlsOf(group);
  const place = controls.indexOf(from) + STEPS[key];
  const to = controls[Math.max(0, Math.min(controls.length - 1, place))];
  to?.focus();
  return to !== undefined;
}

/** Whether a key moves the caret of a text field. */
function isForCaret(field, key) {
  if (!field.matches("input:not([type=checkbox])")) return false;
  const { selectionStart: start, selectionEnd: end, value } = field;
  if (start !== end) return true;
  return STEPS[key] < 0 ? start > 0 : end < value.length;
}
