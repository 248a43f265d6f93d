// How to add a machine: the file to copy, and what to run on the host.

import { copyButton, h } from "../base/dom.js";

const FILE = `# machines/workstation.yaml
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
const COPY_FILE =
  "Copy this file into the folder of machine files (MACHINES_DIR, by default machines/ where the server was started)," +
  " with the name and address of your machine. One file per machine.";
const RUN_SIDECAR = "On that machine, run this in a checkout of machines-server:";
const LISTEN = "Let Ollama listen with OLLAMA_HOST=0.0.0.0:11434.";
const WAIT =
  "The machine appears on the first page within seconds, without a restart. Mistakes in a file are shown there.";

/** The steps as a list. */
export function addMachineSteps() {
  return h(
    "ol",
    { class: "steps" },
    h(
      "li",
      null,
      h("p", null, COPY_FILE),
      code("A machine file", FILE),
      copyButton("Copy the file", () => FILE),
    ),
    h("li", null, h("p", null, RUN_SIDECAR), code("Commands", COMMANDS), h("p", null, LISTEN)),
    h("li", null, h("p", null, WAIT)),
  );
}

const code = (label, text) => h("pre", { tabindex: "0", role: "region", "aria-label": label }, text);
