// Numbers and times as text, in the reader's language and time zone.
import { h } from "./dom.js";

const UNKNOWN = "–";
const SPACE = "\u00a0"; // a number and its unit stay on one line
const DATE_TIME = new Intl.DateTimeFormat(undefined, { dateStyle: "medium", timeStyle: "medium" });
const TIME = new Intl.DateTimeFormat(undefined, { timeStyle: "medium" });
// Made once: making one per number took most of the time to draw 100 machines.
const NUMBERS = [0, 1, 2, 3].map((decimals) => new Intl.NumberFormat(undefined, { maximumFractionDigits: decimals }));

const ONE_DECIMAL = new Intl.NumberFormat(undefined, { minimumFractionDigits: 1, maximumFractionDigits: 1 });

/** Whether a value was measured: unknown is null or missing, and never 0. */
export const isKnown = (value) => value !== null && value !== undefined;

export const timeText = (ms) => TIME.format(ms);
export const dateTimeText = (ms) => DATE_TIME.format(ms);

/** A time of today without its date; `now` is the server's time in ms. */
export const momentText = (ms, now) =>
  new Date(ms).toDateString() === new Date(now).toDateString() ? timeText(ms) : dateTimeText(ms);

/** A text from the server with its RFC 3339 times in the reader's time zone. */
export const withLocalTimes = (text) =>
  text.replace(/\d{4}-\d\d-\d\dT[\d:.]+Z/g, (time) => dateTimeText(Date.parse(time)));

/** A number with at most that many decimals; a dash if it is unknown. */
export const number = (value, decimals = 0) => (isKnown(value) ? NUMBERS[decimals].format(value) : UNKNOWN);

/** A known number with exactly one decimal, for columns. */
export const oneDecimal = (value) => ONE_DECIMAL.format(value);

export const percent = (value) => (isKnown(value) ? `${number(value)}${SPACE}%` : UNKNOWN);
export const gib = (value, decimals = 1) => `${number(value, decimals)}${SPACE}GiB`;
export const bytes = (value) => (isKnown(value) ? gib(value / 2 ** 30) : UNKNOWN);

/** Seconds in at most two units: "3 min", "2 h 5 min", "4 d". A dash if unknown, and never less than 0. */
export function duration(seconds) {
  if (!isKnown(seconds)) return UNKNOWN;
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

/** How long ago an RFC 3339 time was; `now` is the server's time in ms. */
export const ageText = (time, now) => `${duration((now - Date.parse(time)) / 1000)} ago`;

/** A <time> element that shows the age of a time, with the date in its tooltip. */
export const timeElement = (time, now) => setTime(h("time", null, ageText(time, now)), time);

/** Set the time of a <time> element; `updateTimes` shows its age. */
export function setTime(element, time) {
  if (element.dateTime !== time) {
    element.dateTime = time;
    element.title = dateTimeText(Date.parse(time));
  }
  return element;
}
