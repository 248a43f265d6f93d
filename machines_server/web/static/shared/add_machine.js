// How to add a machine: the file to copy, and what to run on the host.

import { copyButton, h } from "../base/dom.js";
import { get } from "../base/site.js";

const FILE = `# workstation.yaml
name: workstation
role: gpu-host
hardware:
  gpu:
    - model: 24GB consumer GPU
      vram_gb: 24
network:
  hostname: workstation.lan
models:
  - llama3.1:70b
tags: [primary, gpu]
`;
const COMMANDS = "make run-sidecar\n";
const DEFAULT_FOLDER = "the folder of machine files (MACHINES_DIR)";
const RUN_SIDECAR = "On that machine, run this in a checkout of machines-server:";
const LISTEN = "Start Ollama there with OLLAMA_HOST=0.0.0.0:11434, so that others can reach it.";
const WAIT = "The machine appears on the Fleet page within seconds. Mistakes in the file are shown there.";

/** The steps as a list. */
export function addMachineSteps() {
  const folder = h("span", null, DEFAULT_FOLDER);
  nameFolder(folder);
  return h(
    "ol",
    { class: "steps" },
    h(
      "li",
      null,
      h("p", null, "Save this file in ", folder, " on the server, with the name and address of your machine:"),
      code("A machine file", FILE),
      copyButton("Copy the file", () => FILE),
    ),
    h("li", null, h("p", null, RUN_SIDECAR), code("Commands", COMMANDS), h("p", null, LISTEN)),
    h("li", null, h("p", null, WAIT)),
  );
}

/** Show which folder it is. */
async function nameFolder(element) {
  try {
    element.replaceChildren(h("code", null, (await get("/api/machines")).config_dir));
  } catch (error) {
    console.info("folder of machine files unknown:", error.message);
  }
}

const code = (label, text) => h("pre", { tabindex: "0", role: "region", "aria-label": label }, text);
