// The time range of the charts; it is kept in the URL.

/** Ranges that end now: [name, label, seconds]. */
export const RANGES = [
  ["1h", "1 h", 3600],
  ["24h", "24 h", 86_400],
  ["7d", "7 d", 7 * 86_400],
  ["30d", "30 d", 30 * 86_400],
  ["1y", "1 y", 365 * 86_400],
];
const DEFAULT = "24h";
const MAX_TIME_S = 253_370_764_799; // the end of the year 9998, the last time that the server takes

/** The range in a URL: {name, seconds} if it ends now, else {from, to} in epoch seconds. The default if invalid. */
export function readRange(search) {
  const query = new URLSearchParams(search);
  const [from, to] = ["from", "to"].map((name) => Number(query.get(name) || NaN));
  if (from >= 0 && to <= MAX_TIME_S && Math.floor(from) < Math.ceil(to))
    return { from: Math.floor(from), to: Math.ceil(to) };
  const named = (wanted) => RANGES.find(([name]) => name === wanted);
  const [name, , seconds] = named(query.get("span")) ?? named(DEFAULT);
  return { name, seconds };
}

/** A range as the query of a URL. */
export const rangeQuery = ({ name, from, to }) => (name ? `?span=${name}` : `?from=${from}&to=${to}`);

/** Both ends of a range in epoch seconds, none of them in the future. */
export function rangeEnds(range, nowS) {
  const now = Math.ceil(nowS);
  if (range.name) return { from: now - range.seconds, to: now };
  return { from: range.from, to: Math.max(range.from + 1, Math.min(range.to, now)) };
}

const formatter = (options) => new Intl.DateTimeFormat(undefined, options);
const DAY = formatter({ dateStyle: "medium" });
const DAY_AND_MINUTE = formatter({ dateStyle: "medium", timeStyle: "short" });
const DAY_AND_SECOND = formatter({ dateStyle: "medium", timeStyle: "medium" });

function formatterFor(stepS) {
  if (stepS < 60) return DAY_AND_SECOND;
  return stepS < 86_400 ? DAY_AND_MINUTE : DAY;
}

/** A time (epoch seconds) with the precision that suits steps of that length. */
export const timeOfStep = (timeS, stepS) => formatterFor(stepS).format(timeS * 1000);

/** Two times as a range, without repeating what they have in common. */
export const rangeText = (fromS, toS, stepS) => formatterFor(stepS).formatRange(fromS * 1000, toS * 1000);

const TICK_YEAR = formatter({ year: "numeric" });
const TICK_MONTH = formatter({ month: "short" });
const TICK_DAY = formatter({ day: "numeric", month: "short" });
const TICK_MINUTE = formatter({ hour: "2-digit", minute: "2-digit" });
const TICK_SECOND = formatter({ hour: "2-digit", minute: "2-digit", second: "2-digit" });

/** Labels for the ticks of a time axis, `everyS` seconds apart: the year in January, the day at midnight. */
export function tickLabels(ticks, everyS) {
  return ticks.map((timeS) => {
    const time = new Date(timeS * 1000);
    const isMidnight = time.getHours() + time.getMinutes() + time.getSeconds() === 0;
    if (everyS >= 28 * 86_400) return (time.getMonth() ? TICK_MONTH : TICK_YEAR).format(time);
    if (everyS >= 86_400 || isMidnight) return TICK_DAY.format(time);
    return (everyS >= 60 ? TICK_MINUTE : TICK_SECOND).format(time);
  });
}

/** A time as the value of a datetime-local input: in the reader's time zone. */
export function dateTimeInputValue(timeS) {
  const time = new Date(timeS * 1000);
  return new Date(time.getTime() - time.getTimezoneOffset() * 60_000).toISOString().slice(0, 16);
}
