// A button that copies a text.
import { h, say } from "./dom.js";

export function copyButton(label, text) {
  const button = h("button", { type: "button", class: "button" }, label);
  button.addEventListener("click", async () => {
    try {
      await navigator.clipboard.writeText(text());
      say(button, "Copied");
    } catch {
      say(button, "Select the text and copy it"); // the browser allows it only over https, or on this very machine
    }
    setTimeout(() => say(button, label), 2000);
  });
  return button;
}
