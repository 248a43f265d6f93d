// The span of time that the charts show; it lives in the URL.

/** Spans that end now: [name, words, seconds]. */
export const SPANS = [
  ["1h", "1 h", 3600],
  ["24h", "24 h", 86_400],
  ["7d", "7 d", 7 * 86_400],
  ["30d", "30 d", 30 * 86_400],
  ["1y", "1 y", 365 * 86_400],
];
const DEFAULT = "24h";
const LAST_S = 253_370_764_799; // the end of the year 9998, as far as the server goes

/** {name, seconds} of a span that ends now, or {from, to} in epoch seconds; nonsense is the usual span. */
export function readSpan(search) {
  const query = new URLSearchParams(search);
  const [from, to] = ["from", "to"].map((name) => Number(query.get(name) || NaN));
  if (from >= 0 && to <= LAST_S && Math.floor(from) < Math.ceil(to))
    return { from: Math.floor(from), to: Math.ceil(to) };
  const [name, , seconds] = SPANS.find(([one]) => one === query.get("span")) ?? SPANS.find(([one]) => one === DEFAULT);
  return { name, seconds };
}

export const searchOf = ({ name, from, to }) => (name ? `?span=${name}` : `?from=${from}&to=${to}`);

/** Both ends in epoch seconds; nobody knows the future. */
export function endsOf(span, nowS) {
  const now = Math.ceil(nowS);
  if (span.name) return { from: now - span.seconds, to: now };
  return { from: span.from, to: Math.max(span.from + 1, Math.min(span.to, now)) };
}

const DAY = new Intl.DateTimeFormat(undefined, { dateStyle: "medium" });
const DAY_AND_TIME = new Intl.DateTimeFormat(undefined, { dateStyle: "medium", timeStyle: "short" });
const TO_THE_SECOND = new Intl.DateTimeFormat(undefined, { dateStyle: "medium", timeStyle: "medium" });

const formatFor = (stepS) => (stepS < 60 ? TO_THE_SECOND : stepS < 86_400 ? DAY_AND_TIME : DAY);

/** A moment (epoch seconds) as exactly as steps of that length deserve. */
export const moment = (atS, stepS) => formatFor(stepS).format(atS * 1000);

/** From one moment to another, without saying twice what is the same of both. */
export const between = (fromS, toS, stepS) => formatFor(stepS).formatRange(fromS * 1000, toS * 1000);

const tick = (options) => new Intl.DateTimeFormat(undefined, options);
const YEAR = tick({ year: "numeric" });
const MONTH = tick({ month: "short" });
const DATE = tick({ day: "numeric", month: "short" });
const MINUTE = tick({ hour: "2-digit", minute: "2-digit" });
const SECOND = tick({ hour: "2-digit", minute: "2-digit", second: "2-digit" });

/** What stands at the ticks of the axis of time, `everyS` seconds apart; January is a year, midnight a day. */
export function tickTexts(ticks, everyS) {
  return ticks.map((atS) => {
    const at = new Date(atS * 1000);
    const isMidnight = at.getHours() + at.getMinutes() + at.getSeconds() === 0;
    if (everyS >= 28 * 86_400) return (at.getMonth() ? MONTH : YEAR).format(at);
    if (everyS >= 86_400 || isMidnight) return DATE.format(at);
    return (everyS >= 60 ? MINUTE : SECOND).format(at);
  });
}

/** A moment as datetime-local has it: without a zone, in the reader's. */
export function localText(atS) {
  const at = new Date(atS * 1000);
  return new Date(at.getTime() - at.getTimezoneOffset() * 60_000).toISOString().slice(0, 16);
}
