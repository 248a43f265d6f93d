// A button that copies the address of what is shown.

import { h, setText } from "../base/dom.js";

const CONFIRMATION_MS = 2000;
const LABEL = "Copy link to this moment";

/** `url()` returns the address. Where the browser forbids copying (without https), it is shown selected. */
export function makeCopyLink(url) {
  const button = h("button", { type: "button", click: copy }, LABEL);
  const field = h("input", { type: "text", readonly: true, hidden: true, "aria-label": "Link to this moment" });

  async function copy() {
    const text = url();
    try {
      await navigator.clipboard.writeText(text);
      field.hidden = true;
      setText(button, "Copied");
      setTimeout(() => setText(button, LABEL), CONFIRMATION_MS);
    } catch {
      field.value = text;
      field.hidden = false;
      field.select();
    }
  }

  return h("span", { class: "copy-link" }, button, " ", field);
}
