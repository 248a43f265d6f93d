// Elements from plain values. Every string becomes text, never markup.

/** An element; `attributes` with a function as value are listeners, null and false are left out. */
export function h(tag, attributes, ...children) {
  return fill(document.createElement(tag), attributes, children);
}

/** The same for SVG. */
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

/** Makes copies of one element, which costs far less than to make each: {root, and what has a data-part, by its name}. */
export function copier(make) {
  let first = null;
  let names = null;
  return () => {
    first ??= make();
    names ??= [...first.querySelectorAll("[data-part]")].map((element) => element.getAttribute("data-part"));
    const root = first.cloneNode(true);
    const parts = { root };
    if (!names.length) return parts;
    const found = root.querySelectorAll("[data-part]");
    for (let at = 0; at < names.length; at += 1) parts[names[at]] = found[at];
    return parts;
  };
}

/** Make the children of an element anew, but only when `key` is another than the last time. */
export function remake(element, key, make) {
  const text = typeof key === "string" ? key : JSON.stringify(key);
  if (element.madeOf === text) return;
  element.madeOf = text;
  element.replaceChildren();
  append(element, [make()]);
}

/** The same for a list: what stays keeps its element, and with it the focus. `keyOf` tells items apart. */
export function remakeEach(element, items, keyOf, make) {
  const before = element.made ?? new Map();
  element.made = new Map(items.map((item) => [keyOf(item), item]).map(([key, item]) => [key, before.get(key) ?? make(item)]));
  for (const [key, child] of before) if (!element.made.has(key)) child.remove();
  let at = 0;
  for (const child of element.made.values()) {
    if (element.children[at] !== child) element.insertBefore(child, element.children[at] ?? null);
    at += 1;
  }
}

/** Let the ages of moments grow. `text` gives that of one, by its RFC 3339 time. */
export function ageTimes(element, text) {
  for (const time of element.querySelectorAll("time")) say(time, text(time.dateTime));
}

/** Do it once what was changed is on the screen; not while nobody looks. */
export function onceDrawn(work) {
  requestAnimationFrame(() => requestAnimationFrame(() => setTimeout(work, 0)));
}

/** Show a text, without touching the page when it stands there already. */
export function say(element, text) {
  if (element.textContent !== text) element.textContent = text;
}
