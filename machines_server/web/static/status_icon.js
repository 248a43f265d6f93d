// The title of the tab and its icon, which show the worst that is wrong with the fleet.

import { state } from "./base/live.js";
import { siteUrl } from "./base/site.js";

const WORST_FIRST = ["offline", "degraded", "unknown"];

/** {title, icon}: what the tab shows of a page with that title. */
export function tabOf({ fleet, failedSince }, title) {
  if (failedSince !== null) return { title: `(!) ${title}`, icon: "icon-unknown.svg" };
  const statuses = (fleet?.machines ?? []).map(({ status }) => status);
  const wrong = statuses.filter((status) => WORST_FIRST.includes(status)).length;
  if (!wrong) return { title, icon: "icon.svg" };
  const worst = WORST_FIRST.find((status) => statuses.includes(status));
  return { title: `(${wrong}) ${title}`, icon: `icon-${worst}.svg` };
}

/** Show the page's title and the worst status in the tab. */
export function showTab(pageTitle) {
  const { title, icon } = tabOf(state, `${pageTitle} · machines`);
  const link = document.querySelector("link[rel=icon]");
  const href = new URL(siteUrl(`/static/${icon}`), location.href).href;
  if (link.href !== href) link.href = href;
  if (document.title !== title) document.title = title;
}
