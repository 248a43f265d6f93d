// What happened in the fleet, newest first.
import { get, path, sentence } from "./api.js";
import { navigate } from "./app.js";
import { ageTimes, h, remake, remakeEach, say } from "./dom.js";
import { eventLine } from "./event_line.js";
import { age } from "./format.js";
import { serverNow, state } from "./live.js";
import { localText } from "./spans.js";

const PAGE = 100;
const MOST = 10_000;
const TYPES = [
  "online", "degraded", "offline", "unknown", "model_loaded", "model_unloaded", "machine_added", "machine_changed",
  "machine_removed", "host_rebooted",
];

export function open(main) {
  const query = new URLSearchParams(location.search);
  const list = h("ol", { class: "events long" });
  const message = h("p", { class: "empty", role: "status" });
  const older = h("button", { type: "button", class: "button", hidden: true }, "Older events");
  const machine = h("select", { name: "machine", change: choose });
  const type = h("select", { name: "type", change: choose }, h("option", { value: "" }, "any"), TYPES.map((one) => h("option", { value: one }, one)));
  const until = h("input", { type: "datetime-local", name: "to", change: choose });
  if (!TYPES.includes(query.get("type"))) query.delete("type"); // nor does this page make another type
  type.value = query.get("type") ?? "";
  if (!Number.isFinite(Number(query.get("to")))) query.delete("to"); // another form than this page makes
  if (query.get("to")) until.value = localText(Number(query.get("to")));
  main.append(h("h1", null, "Events"),
    h("form", { class: "controls", "aria-label": "Filter events", submit: (event) => event.preventDefault() },
      h("label", null, "Machine ", machine), h("label", null, "Type ", type), h("label", null, "Until ", until)),
    message, list, older);
  let shown = [];
  let asked = 0;
  let isLong = false;
  older.addEventListener("click", () => {
    isLong = true;
    ask(Date.parse(shown.at(-1).at) / 1000 + 0.001);
  });

  function choose({ target }) {
    const value = target.name === "to" && target.value ? String(new Date(target.value).getTime() / 1000) : target.value;
    if (value) query.set(target.name, value);
    else query.delete(target.name);
    navigate(`/events${query.size ? `?${query}` : ""}`, { replace: true });
    ask();
  }

  /** The newest, or with `before` (epoch seconds) those before it, added to what is shown. */
  async function ask(before = null, limit = PAGE) {
    const turn = ++asked;
    const { machine: name, type: wanted, to } = Object.fromEntries(query);
    try {
      const { events } = await get(path("/api/events", { machine: name, type: wanted, to: before ?? to, limit }));
      if (turn !== asked) return;
      const known = new Set(before === null ? [] : shown.map((event) => event.id));
      const fresh = events.filter((event) => !known.has(event.id));
      // All of a full page may be of one moment, and shown already: then a longer one goes further back.
      if (before !== null && !fresh.length && events.length === limit && limit < MOST) return void ask(before, Math.min(MOST, limit * 10));
      shown = before === null ? events : [...shown, ...fresh];
      isLong = before !== null;
      older.hidden = events.length < limit;
      say(message, shown.length ? "" : query.size ? "Nothing happened that this filter lets through." : "Nothing has happened yet.");
    } catch (error) {
      if (turn !== asked) return;
      say(message, sentence(error));
      if (before === null) shown = []; // what stands there may be of another filter
    }
    draw();
  }

  function draw() {
    remakeEach(list, shown, ({ id }) => id, (event) => eventLine(event, serverNow()));
    ageTimes(list, (moment) => age(moment, serverNow()));
  }

  /** New events come by themselves, unless somebody reads further back. */
  function update(isNew) {
    const names = [...new Set([...state.fleet.machines.map((one) => one.name), query.get("machine")].filter(Boolean))];
    remake(machine, names, () => [h("option", { value: "" }, "any"), ...names.map((one) => h("option", { value: one }, one))]);
    machine.value = query.get("machine") ?? "";
    if (asked === 0 || (isNew && !isLong && !query.get("to"))) ask();
    else draw();
  }

  return { update };
}
