// One machine: its present, its past, and its file.
import { loaded } from "./plot.js";
import { makeDeclared } from "./declared.js";
import { h } from "./dom.js";
import { state } from "./live.js";
import { makePast } from "./past.js";
import { makePresent } from "./present.js";

// A page without its styles would jump; if they cannot be had, it is still to be read.
await loaded("link", { rel: "stylesheet", href: "/static/machine.css" }).catch((error) => console.info(error.message));

export function open(main, asked) {
  const present = makePresent();
  const past = makePast(asked, find, showUnknown);
  const declared = makeDeclared();
  const goneHead = h(
    "header",
    { hidden: true },
    h("h1", null, asked),
    h(
      "p",
      { class: "reason" },
      "No file declares this machine now. What was recorded of it is kept. ",
      h("a", { href: "/" }, "See the fleet"),
    ),
  );
  const parts = [goneHead, present.head, present.body, past.root, declared.root];
  const page = h("div", { class: "machine" }, parts);
  let isUnknown = false;
  main.append(page);

  function find() {
    const name = asked.toLowerCase();
    return state.fleet?.machines.find((machine) => machine.name.toLowerCase() === name) ?? null;
  }

  function showUnknown() {
    isUnknown = true;
    page.replaceChildren(
      h("h1", null, "No such machine"),
      h(
        "p",
        null,
        "There is no machine named ",
        h("b", null, asked),
        ", and there never was. ",
        h("a", { href: "/" }, "See the fleet"),
      ),
    );
  }

  function update(isNew) {
    if (!state.fleet) return;
    const machine = find();
    if (isUnknown && !machine) return;
    if (isUnknown) page.replaceChildren(...parts);
    isUnknown = false;
    goneHead.hidden = machine !== null;
    present.head.hidden = present.body.hidden = machine === null;
    if (machine && isNew) present.show(machine);
    if (machine) present.tick();
    past.update();
    declared.show(machine);
  }

  return { update, close: past.close };
}
