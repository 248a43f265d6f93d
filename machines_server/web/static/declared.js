// The file of a machine, as it is in force.
import { getText, machinePath, sentence } from "./api.js";
import { copyButton } from "./copy.js";
import { h, say } from "./dom.js";

const LIVE_KEYS = new Set([
  "status",
  "status_reason",
  "sampled_at",
  "last_seen",
  "telemetry",
  "loaded_models",
  "ollama",
]);

/** {root, show(machine)}: asks for the file when the machine is another one than before, or none. */
export function makeDeclared() {
  const text = h("pre", { tabindex: "0", "aria-labelledby": "declared" });
  const file = h("code");
  const message = h("p", { class: "empty", role: "status" });
  const copy = copyButton("Copy", () => text.textContent);
  const root = h(
    "section",
    { class: "declared", "aria-labelledby": "declared", hidden: true },
    h("h2", { id: "declared" }, "Its file"),
    h("p", { class: "about" }, h("span", null, "What is in force of ", file), copy),
    message,
    text,
  );
  let shown = null;
  let asked = 0;

  async function show(machine) {
    root.hidden = !machine;
    const key = JSON.stringify(Object.entries(machine ?? {}).filter(([name]) => !LIVE_KEYS.has(name)));
    if (!machine || key === shown) return;
    shown = key;
    const turn = ++asked;
    say(file, machine._config_file);
    try {
      const found = await getText(machinePath(machine.name, "/file"));
      if (turn !== asked) return;
      say(text, found);
      say(message, "");
    } catch (error) {
      if (turn !== asked) return;
      shown = null; // so that it is asked for again
      say(message, sentence(error));
    }
    copy.hidden = text.hidden = text.textContent === "";
  }

  return { root, show };
}
