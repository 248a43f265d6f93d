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
  element.append(...children.flat(2).filter((child) => child !== null && child !== undefined && child !== false));
  return element;
}

/** Make the children of an element anew, but only when `key` is another than the last time. */
export function remake(element, key, make) {
  const text = typeof key === "string" ? key : JSON.stringify(key);
  if (element.madeOf === text) return;
  element.madeOf = text;
  element.replaceChildren(...[make()].flat(2).filter((child) => child !== null && child !== undefined && child !== false));
}

/** Let the ages of moments grow. `text` gives that of one, by its RFC 3339 time. */
export function ageTimes(element, text) {
  for (const time of element.querySelectorAll("time")) say(time, text(time.dateTime));
}

/** Show a text, without touching the page when it stands there already. */
export function say(element, text) {
  if (element.textContent !== text) element.textContent = text;
}
