// The page for signing in: puts the address of this server into the command, and lets it be copied.

import { copyButton } from "./base/dom.js";

const command = document.querySelector(".sign-in pre");
if (command) {
  const address = new URL("..", import.meta.url).href.replace(/\/$/, "");
  command.textContent = command.textContent.replace("ADDRESS_OF_THIS_SERVER", address);
  command.after(copyButton("Copy", () => command.textContent));
}
