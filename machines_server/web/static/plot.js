// The library that draws the charts, and the colours it draws them in.
import { h } from "./dom.js";

const COLOURS = ["muted", "line", "accent", "accent-soft"];

/** Add a script or a style sheet to the page; resolves when it is there. */
export function loaded(tag, attributes) {
  return new Promise((resolve, reject) => {
    const element = h(tag, {
      ...attributes,
      load: resolve,
      error: () => reject(new Error(`${attributes.src ?? attributes.href} cannot be loaded`)),
    });
    document.head.append(element);
  });
}

let library = null;

/** `window.uPlot` is there when this resolves; another try after a failure loads it again. */
export function loadLibrary() {
  library ??= Promise.all([
    loaded("link", { rel: "stylesheet", href: "/static/vendor/uPlot.min.css" }),
    loaded("script", { src: "/static/vendor/uPlot.iife.min.js" }),
  ]);
  library.catch(() => (library = null));
  return library;
}

/** The colours of the page as a canvas understands them. */
export function readColours() {
  const probe = h("span", { hidden: true });
  document.body.append(probe);
  const found = COLOURS.map((name) => {
    probe.style.color = `var(--${name})`;
    return [name, getComputedStyle(probe).color];
  });
  probe.remove();
  return Object.fromEntries(found);
}
