// Chooses several of many: a list to add from, and a button for each chosen one that removes it.

import { h, renderIfChanged, setText } from "../base/dom.js";

/**
 * {root, show(values, chosen)}: `onChange(chosen)` is called with the new list. `textOf` returns the label of a value,
 * and `none` is the label when nothing is chosen. No more than `most` can be chosen.
 */
export function makeMultiChoice(label, { none, onChange, textOf = String, most = Infinity }) {
  const select = h("select", { "aria-label": label, change: add });
  const list = h("ul", { class: "chosen", "aria-label": `${label}, chosen` });
  const root = h("div", { class: "choice" }, h("label", null, `${label} `, select), list);
  let chosen = [];

  function add() {
    onChange([...chosen, select.value]);
  }

  function show(values, nowChosen) {
    chosen = nowChosen;
    const others = values.filter((value) => !chosen.includes(value));
    renderIfChanged(select, [others, chosen.length], () => [
      h("option", { value: "" }, chosen.length ? "add another" : none),
      others.map((value) => h("option", { value }, textOf(value))),
    ]);
    select.value = "";
    select.disabled = chosen.length >= most;
    renderIfChanged(list, chosen, () => chosen.map(item));
    list.hidden = chosen.length === 0;
  }

  function item(value) {
    const name = h("span");
    setText(name, textOf(value));
    const remove = () => {
      onChange(chosen.filter((one) => one !== value));
      select.focus();
    };
    return h(
      "li",
      null,
      h("button", { type: "button", "aria-label": `Remove ${textOf(value)}`, click: remove }, name, " ×"),
    );
  }

  return { root, show };
}
