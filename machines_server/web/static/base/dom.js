// Building and updating elements. Every string becomes text, never markup.

/** An element. A function among its attributes is an event listener; null, undefined and false are left out. */
export function h(tag, attributes, ...children) {
  return fill(document.createElement(tag), attributes, children);
}

/** An SVG element. */
export function svg(tag, attributes, ...children) {
  return fill(document.createElementNS("http://www.w3.org/2000/svg", tag), attributes, children);
}

function fill(element, attributes, children) {
  for (const [name, value] of Object.entries(attributes ?? {})) {
    if (value === null || value === undefined || value === false) continue;
    if (typeof value === "function") element.addEventListener(name, value);
    else element.setAttribute(name, value === true ? "" : value);
  }
  append(element, children);
  return element;
}

function append(element, children) {
  for (const child of children)
    if (Array.isArray(child)) append(element, child);
    else if (child !== null && child !== undefined && child !== false) element.append(child);
}

/** The head of a table with one row of column headings. */
export const tableHead = (...headings) =>
  h("thead", null, h("tr", null, ...headings.flat().map((text) => h("th", { scope: "col" }, text))));

/** A row whose cells know the headings of their columns, which a phone shows next to each. */
export function labelled(row, headings) {
  for (const [place, cell] of [...row.cells].entries()) if (headings[place]) cell.dataset.label = headings[place];
  return row;
}

/** A region around a table that scrolls by itself where the screen is too narrow for it. */
export const scrollable = (label, attributes, ...children) =>
  h("div", { tabindex: "0", role: "region", "aria-label": label, class: "scroll", ...attributes }, ...children);

/**
 * A function that returns clones of one element, which is much cheaper than building each:
 * {root, and each element with a data-part attribute under that name}.
 */
export function template(build) {
  let original = null;
  let names = null;
  return () => {
    original ??= build();
    names ??= [...original.querySelectorAll("[data-part]")].map((element) => element.getAttribute("data-part"));
    const root = original.cloneNode(true);
    const parts = { root };
    if (!names.length) return parts;
    const elements = root.querySelectorAll("[data-part]");
    for (let index = 0; index < names.length; index += 1) parts[names[index]] = elements[index];
    return parts;
  };
}

/** Rebuild the children of an element, but only if `key` differs from the last time. */
export function renderIfChanged(element, key, build) {
  const text = typeof key === "string" ? key : JSON.stringify(key);
  if (element.renderedKey === text) return;
  element.renderedKey = text;
  element.replaceChildren();
  append(element, [build()]);
}

/** Show a list. An item whose key was there before keeps its element, and with it the focus. */
export function renderList(element, items, keyOf, build) {
  const before = element.renderedItems ?? new Map();
  const now = new Map(items.map((item) => [keyOf(item), item]));
  for (const [key, item] of now) now.set(key, before.get(key) ?? build(item));
  for (const [key, child] of before) if (!now.has(key)) child.remove();
  element.renderedItems = now;
  let index = 0;
  for (const child of now.values()) {
    if (element.children[index] !== child) element.insertBefore(child, element.children[index] ?? null);
    index += 1;
  }
}

/** Update the text of all <time> elements; `text` maps an RFC 3339 time to what is shown. */
export function updateTimes(element, text) {
  for (const time of element.querySelectorAll("time")) setText(time, text(time.dateTime));
}

/** Run `work` after the next paint; while the page is hidden, it waits until the page is shown. */
export function afterPaint(work) {
  requestAnimationFrame(() => requestAnimationFrame(() => setTimeout(work, 0)));
}

/** Set the text of an element, without touching the page if it is the same. */
export function setText(element, text) {
  if (element.textContent !== text) element.textContent = text;
}

/** Set the tooltip of an element, without touching the page if it is the same. */
export function setTitle(element, title) {
  if (element.title !== title) element.title = title;
}

/** Add a script or a style sheet to the page; resolves when it has loaded. */
export function loadFile(tag, attributes) {
  return new Promise((resolve, reject) => {
    const fail = () => reject(new Error(`${attributes.src ?? attributes.href} cannot be loaded`));
    document.head.append(h(tag, { ...attributes, load: resolve, error: fail }));
  });
}

const CONFIRMATION_MS = 2000;

/** A button that copies what `text` returns. */
export function copyButton(label, text) {
  const button = h("button", { type: "button", class: "button" }, label);
  button.addEventListener("click", async () => {
    try {
      await navigator.clipboard.writeText(text());
      setText(button, "Copied");
    } catch {
      setText(button, "Select the text and copy it"); // browsers allow copying only over https or on localhost
    }
    setTimeout(() => setText(button, label), CONFIRMATION_MS);
  });
  return button;
}
