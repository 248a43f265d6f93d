// The dialogs of the frame: the keys that work everywhere, and how to add a machine.

import { h } from "./base/dom.js";
import { addMachineSteps } from "./shared/add_machine.js";

/** Open a dialog with a heading; Escape and its button close and remove it. */
function openDialog(title, content) {
  if (document.querySelector("dialog[open]")) return;
  const close = h("button", { type: "button", click: () => dialog.close() }, "Close");
  const heading = h("h2", { id: "dialog-title" }, title);
  const dialog = h("dialog", { "aria-labelledby": "dialog-title" }, h("header", null, heading, close), content);
  dialog.addEventListener("close", () => dialog.remove());
  dialog.addEventListener("click", ({ target }) => target === dialog && dialog.close());
  document.body.append(dialog);
  dialog.showModal();
}

export const openAddMachine = () => openDialog("Add a machine", addMachineSteps());

/** `pages` has [key, title] of each page that `g` and the key open. */
export function openHelp(pages) {
  const keys = [
    ["/", "Search"],
    ["j", "Next machine"],
    ["k", "Previous machine"],
    ["Enter", "Open the machine"],
    ["Tab", "To the next part of the page"],
    ["← →", "Within the header, the problems or the filters"],
    ...pages.map(([key, title]) => [`g ${key}`, title]),
    ["?", "This help"],
    ["Esc", "Close"],
  ];
  const lines = keys.map(([key, what]) => [
    h(
      "dt",
      null,
      key.split(" ").map((one) => h("kbd", null, one)),
    ),
    h("dd", null, what),
  ]);
  openDialog("Keyboard shortcuts", h("dl", { class: "keys" }, lines));
}
