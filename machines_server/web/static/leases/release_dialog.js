// Asks before a lease is released.

import { h, setText } from "../base/dom.js";
import { reservedText } from "../shared/lease_facts.js";

/** {root, ask(lease)}: `onConfirm(lease)` is called after the reader has agreed. */
export function makeReleaseDialog(onConfirm) {
  const question = h("p", { id: "release" });
  const consequence = h(
    "p",
    { class: "quiet" },
    "Its memory then goes to others, even if the holder is still using it.",
  );
  const root = h(
    "dialog",
    { class: "card", "aria-labelledby": "release" },
    question,
    consequence,
    h(
      "div",
      { class: "buttons" },
      h("button", { type: "button", click: confirm }, "Release it"),
      h("button", { type: "button", autofocus: true, click: () => root.close() }, "Keep it"),
    ),
  );
  let asked = null;

  function ask(lease) {
    asked = lease;
    const { machine, model, holder } = lease;
    const what = [`on ${machine}`, model && `for ${model}`].filter(Boolean).join(" ");
    const whose = holder ? `, held by ${holder}` : "";
    setText(question, `Release the lease ${what}${whose} (${reservedText(lease)})?`);
    root.showModal();
  }

  function confirm() {
    root.close();
    onConfirm(asked);
  }

  return { root, ask };
}
