// Numbers and times as people read them, in the reader's language and zone.
import { h } from "./dom.js";

const UNKNOWN = "–";
const SPACE = "\u00a0"; // a number and its unit stay on one line
const ABSOLUTE = new Intl.DateTimeFormat(undefined, { dateStyle: "medium", timeStyle: "medium" });
// Made once: to make one for each number took most of the time of drawing 100 machines.
const FORMATS = [0, 1, 2, 3].map((decimals) => new Intl.NumberFormat(undefined, { maximumFractionDigits: decimals }));
const CLOCK = new Intl.DateTimeFormat(undefined, { timeStyle: "medium" });

export const clock = (ms) => CLOCK.format(ms);
export const absolute = (ms) => ABSOLUTE.format(ms);

/** A sentence of the server with its moments (RFC 3339) in the reader's zone. */
export const localTimes = (text) => text.replace(/\d{4}-\d\d-\d\dT[\d:.]+Z/g, (moment) => absolute(Date.parse(moment)));

/** A number with so many decimals at most; what nobody knows is a dash. */
export function number(value, decimals = 0) {
  if (value === null || value === undefined) return UNKNOWN;
  return FORMATS[decimals].format(value);
}

export const percent = (value) => (value === null || value === undefined ? UNKNOWN : `${number(value)}${SPACE}%`);
export const gib = (value, decimals = 1) => `${number(value, decimals)}${SPACE}GiB`;
export const bytes = (value) => (value === null || value === undefined ? UNKNOWN : gib(value / 2 ** 30));

/** A span of seconds in its two largest units at most: "3 min", "2 h 5 min", "4 d". */
export function span(seconds) {
  const s = Math.max(0, Math.round(seconds));
  if (s < 60) return `${s}${SPACE}s`;
  if (s < 3600) return `${Math.floor(s / 60)}${SPACE}min`;
  if (s < 86400) {
    const minutes = Math.floor((s % 3600) / 60);
    return `${Math.floor(s / 3600)}${SPACE}h${minutes ? ` ${minutes}${SPACE}min` : ""}`;
  }
  const hours = Math.floor((s % 86400) / 3600);
  return `${Math.floor(s / 86400)}${SPACE}d${hours && s < 7 * 86400 ? ` ${hours}${SPACE}h` : ""}`;
}

/** How long ago a moment (RFC 3339) was; `now` is the server's time in ms. */
export const age = (moment, now) => `${span((now - Date.parse(moment)) / 1000)} ago`;

/** The same as an element, absolute on hover. */
export const ago = (moment, now) => setMoment(h("time", null, age(moment, now)), moment);

/** Let such an element tell of another moment. */
export function setMoment(time, moment) {
  if (time.dateTime !== moment) [time.dateTime, time.title] = [moment, absolute(Date.parse(moment))];
  return time;
}
