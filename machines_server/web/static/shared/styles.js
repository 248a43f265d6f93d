// Style sheets that only some pages need.

import { loadFile } from "../base/dom.js";
import { siteUrl } from "../base/site.js";

const loaded = new Map();

/** Resolves when these files of /static/ are loaded. Without its styles a page would jump, but can still be read. */
export const loadStyles = (...names) => Promise.all(names.map(loadOnce));

function loadOnce(name) {
  if (!loaded.has(name)) {
    const link = loadFile("link", { rel: "stylesheet", href: siteUrl(`/static/${name}`) });
    loaded.set(
      name,
      link.catch((error) => console.info(error.message)),
    );
  }
  return loaded.get(name);
}
