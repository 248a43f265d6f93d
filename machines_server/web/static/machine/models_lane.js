// Which models were in memory when: a full-width lane with a row per model.

import { h, renderIfChanged } from "../base/dom.js";
import { timeScale } from "../shared/time_scale.js";
import { residencyRows } from "./residency.js";

/** {root, show(stays, frame, gpuCount)}; `stays` is null if they are unknown. */
export function makeModelsLane() {
  const root = h("section", { class: "card residency", "aria-label": "Models in memory over time", hidden: true });

  function show(stays, { from, to }, gpuCount) {
    root.hidden = stays === null;
    if (!stays) return;
    // Ollama does not say which GPU a model is on.
    const title = gpuCount > 1 ? "Models in memory, on any of the GPUs" : "Models in memory";
    renderIfChanged(root, [stays, from, to, title], () => [
      residencyRows(stays, from, to, title),
      stays.length > 0 && timeScale(from, to),
    ]);
  }

  return { root, show };
}
