// A time scale below an element that spans a time range.

import { h } from "../base/dom.js";
import { tickLabels } from "../base/time_ranges.js";

const HOUR = 3600;
const DAY = 24 * HOUR;
const STEPS = [1, 5, 15, 60, 300, 900, 1800, HOUR, 3 * HOUR, 6 * HOUR, 12 * HOUR, DAY, 2 * DAY, 7 * DAY, 14 * DAY];
const MONTH = 31 * DAY;
const MAX_TICKS = 6;

/** Round moments within [from, to], in epoch seconds: {ticks, every}. Whole hours and days are those of the reader. */
export function roundTimes(from, to) {
  const every = STEPS.find((step) => (to - from) / step <= MAX_TICKS) ?? MONTH;
  return { every, ticks: every === MONTH ? months(from, to) : multiples(from, to, every) };
}

/** Counted from midnight, or in days. */
function multiples(from, to, every) {
  const ticks = [];
  const days = Math.max(1, every / DAY);
  for (let day = midnight(from); day <= to; day = midnight(day, days))
    for (let time = day; time < midnight(day, 1); time += every) if (from <= time && time <= to) ticks.push(time);
  return ticks;
}

/** The midnight at which the day of a time began, or a later one. */
function midnight(time, daysLater = 0) {
  const date = new Date(time * 1000);
  date.setHours(0, 0, 0, 0);
  date.setDate(date.getDate() + daysLater);
  return date.getTime() / 1000;
}

function months(from, to) {
  const date = new Date(midnight(from) * 1000);
  date.setDate(1);
  const apart = Math.ceil((to - from) / MONTH / MAX_TICKS);
  const ticks = [];
  for (; date.getTime() / 1000 <= to; date.setMonth(date.getMonth() + apart))
    if (date.getTime() / 1000 >= from) ticks.push(date.getTime() / 1000);
  return ticks;
}

/** The scale as an element as wide as the one above it. */
export function timeScale(from, to) {
  const { ticks, every } = roundTimes(from, to);
  const labels = tickLabels(ticks, every);
  const marks = ticks.map((time, place) => {
    const mark = h("span", null, labels[place]);
    mark.style.left = `${((time - from) / (to - from)) * 100}%`;
    return mark;
  });
  return h("div", { class: "time-scale quiet", "aria-hidden": "true" }, marks);
}
