// The first visit: how to add a machine.
import { h } from "./dom.js";
import { copyButton } from "./copy.js";

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

export function welcome() {
  const text = h("pre", { tabindex: "0", "aria-label": "A machine file" }, FILE);
  return h("section", { class: "welcome", "aria-labelledby": "welcome" },
    h("h2", { id: "welcome" }, "No machine yet: three steps"),
    h("ol", null,
      h("li", null, h("p", null, "Copy this file into the folder of machine files, with the name and address of your machine. One file a machine."), text, copyButton("Copy the file", () => FILE)),
      h("li", null, h("p", null, "On that machine, run ", h("code", null, "make run-sidecar"), " in a checkout of machines-server, and have Ollama listen with ", h("code", null, "OLLAMA_HOST=0.0.0.0:11434"), ".")),
      h("li", null, h("p", null, "Stay here: the machine appears by itself within seconds. No restart. What is wrong in a file is said on this page."))));
}
