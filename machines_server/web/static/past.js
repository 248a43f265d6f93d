// The past of one machine over a span: charts, their numbers, availability, what happened.
import { get, machinePath, path, Refused, sentence } from "./api.js";
import { makeCharts } from "./charts.js";
import { ageTimes, h, remake, remakeEach, say } from "./dom.js";
import { eventLine } from "./event_line.js";
import { age, number, span as spanText } from "./format.js";
import { serverNow, state, STATUSES } from "./live.js";
import { makeNumbers } from "./numbers.js";
import { statusBadge } from "./parts.js";
import { STAY_TYPES, staysOf } from "./residency.js";
import { groupsOf, WANTED } from "./series.js";
import { between, endsOf, localText, readSpan, searchOf, SPANS } from "./spans.js";

const MAX_EVENTS = 50;
const ALL_EVENTS = 10_000;
const EVENTS_BEFORE = 1000;
const FRESH_S = 60;

/** {root, update, close}; `machine` gives the live state or null, `onUnknown` hears that there is no past at all. */
export function makePast(name, machine, onUnknown) {
  const message = h("p", { class: "empty", role: "status" }, "Asking for the past…");
  const when = h("p", { class: "quiet" });
  const holder = h("div", { class: "groups" });
  const numbers = makeNumbers();
  const availability = h("div");
  const happened = h("div");
  const controls = makeControls(choose);
  const content = h("div", { hidden: true }, holder, numbers.root);
  const root = h(
    "section",
    { class: "past", "aria-labelledby": "past" },
    h("h2", { id: "past" }, "History"),
    controls.root,
    when,
    message,
    content,
    h("section", { "aria-labelledby": "availability" }, h("h3", { id: "availability" }, "Availability"), availability),
    h("section", { "aria-labelledby": "happened" }, h("h3", { id: "happened" }, "What happened"), happened),
  );
  let chosen = readSpan(location.search);
  let charts = null;
  let making = null;
  let asked = 0;
  let askedAt = -Infinity;
  let askedOf = null;
  let underWay = null;
  let step = 0;
  let hasFailed = false;
  controls.show(chosen, endsOf(chosen, serverNow() / 1000));

  /** Another span, which Back leaves again. */
  function choose(next) {
    const url = location.pathname + searchOf(next);
    history[url === location.pathname + location.search ? "replaceState" : "pushState"](null, "", url);
    chosen = next;
    controls.show(chosen, endsOf(chosen, serverNow() / 1000));
    ask();
  }

  async function ask() {
    const turn = ++asked;
    askedOf = mark();
    underWay?.abort();
    underWay = new AbortController();
    askedAt = performance.now();
    const ends = endsOf(chosen, serverNow() / 1000);
    const signal = AbortSignal.any([underWay.signal, AbortSignal.timeout(15_000)]);
    const events = (query) => get(path("/api/events", { machine: name, ...query }), signal);
    root.setAttribute("aria-busy", "true");
    const answers = await Promise.allSettled([
      get(path(machinePath(name, "/history"), { metric: WANTED, ...ends }), signal),
      Promise.all([
        events({ type: STAY_TYPES, to: ends.from, limit: EVENTS_BEFORE }),
        events({ type: STAY_TYPES, ...ends, limit: ALL_EVENTS }),
      ]),
      get(path(machinePath(name, "/availability"), ends), signal),
      events({ ...ends, limit: MAX_EVENTS }),
    ]);
    if (turn !== asked) return; // a newer question is under way, or the page was left
    underWay = null;
    root.removeAttribute("aria-busy");
    hasFailed = answers.some(({ status }) => status === "rejected");
    const [series, stays, statuses, list] = answers;
    if (series.reason instanceof Refused && series.reason.status === 404) return showNone();
    showAvailability(statuses);
    showEvents(list);
    await showSeries(series, stays, ends, turn);
  }

  /** There is no past of that name: the machine is new, or there is none. */
  function showNone() {
    if (machine()) return say(message, "Nothing was recorded of this machine yet.");
    return onUnknown();
  }

  async function showSeries({ value: answer, reason }, stays, ends, turn) {
    if (reason) return say(message, `The charts are not up to date. ${sentence(reason)}`);
    const live = machine();
    const interval = state.fleet.poller.interval_s;
    step = answer.step_s;
    const frame = {
      from: Date.parse(answer.from) / 1000,
      to: Date.parse(answer.to) / 1000,
      step,
      interval,
      asked: ends,
    };
    const groups = groupsOf(answer, live);
    const isEmpty = groups.every((group) => group.charts.every(({ points }) => points.length === 0));
    say(when, `${between(ends.from, ends.to, 60)}. Each point is ${spanText(step)}.`);
    content.hidden = isEmpty;
    if (isEmpty) return say(message, "Nothing was recorded in this span.");
    numbers.show(name, groups, frame);
    try {
      making ??= makeCharts(holder, (from, to) => choose({ from, to }));
      charts = await making;
    } catch (error) {
      making = null;
      return say(message, `The charts cannot be drawn: ${sentence(error)} The table has their numbers.`);
    }
    if (turn !== asked) return null;
    charts.show(groups, frame, residency(stays, live, ends));
    return say(message, stays.reason ? `Which models were in memory is not known. ${sentence(stays.reason)}` : "");
  }

  function residency({ value }, live, { from, to }) {
    if (!value) return null;
    const [before, within] = value.map(({ events }) => events);
    const isNow = chosen.name !== undefined || serverNow() / 1000 - to < 2;
    return staysOf(before, within, isNow ? (live?.ollama.models.map(({ model }) => model) ?? []) : [], from, to);
  }

  function showAvailability({ value, reason }) {
    remake(availability, value ?? sentence(reason), () =>
      value ? availabilityOf(value) : h("p", { class: "empty" }, sentence(reason)),
    );
  }

  function showEvents({ value, reason }) {
    if (reason) return remake(happened, sentence(reason), () => h("p", { class: "empty" }, sentence(reason)));
    const { events } = value;
    remake(happened, [events.length === 0, events.length === MAX_EVENTS], () => [
      events.length ? h("ol", { class: "events" }) : h("p", { class: "empty" }, "Nothing happened in this span."),
      events.length === MAX_EVENTS &&
        h(
          "p",
          null,
          h(
            "a",
            { href: path("/events", { machine: name }) },
            `Only the latest ${MAX_EVENTS} are listed here; these are all.`,
          ),
        ),
    ]);
    if (!events.length) return;
    remakeEach(
      happened.firstChild,
      events,
      ({ id }) => id,
      (event) => eventLine(event, serverNow()),
    );
  }

  /** What of the present makes an event: while it is the same, the past need not be asked for so often. */
  function mark() {
    const live = machine();
    return JSON.stringify(live && [live.status, live.loaded_models]);
  }

  function update() {
    charts?.restyle();
    ageTimes(happened, (moment) => age(moment, serverNow()));
    const freshMs = Math.max(state.fleet.poller.interval_s, hasFailed ? 0 : Math.min(step, FRESH_S)) * 1000;
    const isOld = performance.now() - askedAt >= freshMs || mark() !== askedOf;
    const isDue = asked === 0 || ((chosen.name || hasFailed) && isOld);
    const isPossible = !underWay && !document.hidden && state.failedSince === null;
    if (isDue && isPossible && !charts?.isDragging()) ask();
  }

  function close() {
    asked += 1;
    underWay?.abort();
    charts?.close();
  }

  return { root, update, close };
}

function makeControls(choose) {
  const buttons = SPANS.map(([name, text, seconds]) =>
    h("button", { type: "button", click: () => choose({ name, seconds }) }, text),
  );
  const [from, to] = ["from", "to"].map((name) =>
    h("input", { type: "datetime-local", name, required: true, step: "60" }),
  );
  const form = h(
    "form",
    { class: "controls", "aria-label": "Another span", submit },
    h("label", null, "From ", from),
    h("label", null, "to ", to),
    h("button", { type: "submit" }, "Show"),
  );

  function submit(event) {
    event.preventDefault();
    const [first, last] = [from, to].map(({ value }) => new Date(value).getTime() / 1000);
    to.setCustomValidity(first < last ? "" : "The end must come after the beginning.");
    if (form.reportValidity()) choose({ from: first, to: last });
  }
  for (const input of [from, to]) input.addEventListener("input", () => to.setCustomValidity(""));

  function show(span, ends) {
    SPANS.forEach(([name], place) => buttons[place].setAttribute("aria-pressed", String(name === span.name)));
    from.value = localText(ends.from);
    to.value = localText(ends.to);
  }

  const root = h(
    "div",
    { class: "spans" },
    h("div", { class: "buttons", role: "group", "aria-label": "Span up to now" }, buttons),
    form,
    h("p", { class: "quiet by-mouse" }, "Or drag over a chart."),
  );
  return { root, show };
}

function availabilityOf({ seconds, ratio }) {
  const all = STATUSES.reduce((sum, status) => sum + seconds[status], 0);
  const text =
    ratio === null
      ? "Nobody knows how it was in this span."
      : `Answered in ${number(ratio * 100, 1)} % of the time that is known.`;
  return [
    h("p", null, text),
    h(
      "ul",
      { class: "shares" },
      STATUSES.map((status) =>
        h("li", null, statusBadge(status), seconds[status] > 0 ? ` ${spanText(seconds[status])}, ${number((seconds[status] / all) * 100, 1)} %` : " –"),
      ),
    ),
  ];
}
