// The form that chooses the time range of the charts.

import { h } from "../base/dom.js";
import { dateTimeInputValue, RANGES } from "../base/time_ranges.js";

/** {root, show(range, ends)}: `onChoose(range)` is called with the chosen range. */
export function makeRangeForm(onChoose) {
  const buttons = RANGES.map(([name, label, seconds]) =>
    h("button", { type: "button", click: () => onChoose({ name, seconds }) }, label),
  );
  const [from, to] = ["from", "to"].map((name) =>
    h("input", { type: "datetime-local", name, required: true, step: "60", input: () => to.setCustomValidity("") }),
  );
  const form = h(
    "form",
    { class: "controls", "aria-label": "Another time range", submit },
    h("label", null, "From ", from),
    h("label", null, "to ", to),
    h("button", { type: "submit" }, "Show"),
  );
  const root = h(
    "div",
    { class: "spans" },
    h("div", { class: "buttons", role: "group", "aria-label": "Time range up to now" }, buttons),
    form,
    h("p", { class: "quiet" }, "Or drag across a chart."),
  );

  function submit(event) {
    event.preventDefault();
    const [start, end] = [from, to].map(({ value }) => new Date(value).getTime() / 1000);
    to.setCustomValidity(start < end ? "" : "The end must be after the start.");
    if (form.reportValidity()) onChoose({ from: start, to: end });
  }

  function show(range, ends) {
    for (const [place, [name]] of RANGES.entries()) buttons[place].ariaPressed = String(name === range.name);
    from.value = dateTimeInputValue(ends.from);
    to.value = dateTimeInputValue(ends.to);
  }

  return { root, show };
}
