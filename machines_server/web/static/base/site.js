// The paths of this site, and requests to its API.

/** The path of the first page, derived from where this script was loaded. */
const BASE_PATH = new URL("../..", import.meta.url).pathname;
const TIMEOUT_MS = 10_000;

/** The URL path of a site path such as "/models". */
export const siteUrl = (path) => BASE_PATH + path.slice(1);

/** The site path of a URL path; null if it is outside this site. */
export const sitePath = (pathname) => (pathname.startsWith(BASE_PATH) ? `/${pathname.slice(BASE_PATH.length)}` : null);

/** The site path that the browser shows. */
export const currentPath = () => sitePath(location.pathname) ?? "/";

/** Show another site path in the address bar, without a new entry in the browser's history. */
export const replaceUrl = (path) => history.replaceState(null, "", siteUrl(path));

const ENTRY_PAUSE_MS = 1000;
let urlChangedAt = -Infinity;

/**
 * Show another site path in the address bar, with a new entry in the browser's history, so that Back undoes the change.
 * Changes in quick succession, as when a search is typed, share one entry. A page that its reader has left,
 * but that stays until the next one has loaded, changes nothing.
 */
export function changeUrl(path) {
  if (new URL(siteUrl(path), location.href).pathname !== location.pathname) return;
  const now = performance.now();
  if (now - urlChangedAt > ENTRY_PAUSE_MS) history.pushState(null, "", siteUrl(path));
  else replaceUrl(path);
  urlChangedAt = now;
}

/** The page of one machine, as a site path. */
export const machinePage = (name) => `/machines/${encodeURIComponent(name)}`;

/** A path with a query; null, undefined and "" are left out, lists are repeated. */
export function withQuery(path, query) {
  const search = new URLSearchParams();
  for (const [name, value] of Object.entries(query))
    for (const one of [value].flat()) if (one !== null && one !== undefined && one !== "") search.append(name, one);
  return search.size ? `${path}?${search}` : path;
}

/** An answer with an error status: `status`, the API's error `code` or null, and the JSON `body` or null. */
export class ApiError extends Error {
  constructor(status, body) {
    super(body?.message ?? `The server answered ${status}.`);
    this.status = status;
    this.code = body?.error ?? null;
    this.body = body;
  }
}

/** GET a path as JSON. Throws ApiError, or TypeError when the server cannot be reached. */
export const get = async (path, signal) => (await request(path, { signal })).json();

/** GET a path as text. */
export const getText = async (path) => (await request(path, {})).text();

/** DELETE a path. Throws as `get` does. */
export const remove = async (path) => (await request(path, { method: "DELETE" })).json();

/** Why a request failed, as a sentence. */
export function errorText(error) {
  if (error instanceof ApiError) return error.message;
  if (error.name === "TimeoutError") return "The server did not answer in time.";
  return error instanceof TypeError ? "The server cannot be reached." : `${error.message}.`;
}

async function request(path, { method = "GET", headers = {}, signal = AbortSignal.timeout(TIMEOUT_MS) }) {
  const send = () => fetch(siteUrl(path), { method, cache: "no-store", headers, signal });
  let response = await send();
  while (response.status === 429) {
    await new Promise((resume) => setTimeout(resume, 1000 * response.headers.get("Retry-After")));
    response = await send();
  }
  // A session has ended: the server shows how to begin another one.
  if (response.status === 401 && method === "GET") location.reload();
  if (!response.ok && response.status !== 304)
    throw new ApiError(response.status, await response.json().catch(() => null));
  return response;
}

/** A function that GETs the same path each time: {body, serverTime}, where `body` is null if it has not changed. */
export function conditionalGet(path) {
  let etag = null;
  return async () => {
    const response = await request(path, { headers: etag ? { "If-None-Match": etag } : {} });
    const serverTime = Date.parse(response.headers.get("Date"));
    if (response.status === 304) return { body: null, serverTime };
    const body = await response.json();
    etag = response.headers.get("ETag");
    return { body, serverTime };
  };
}

/** The API path of one machine, or of what lies below it. */
export const machineApi = (name, rest = "") => `/api/machines/${encodeURIComponent(name)}${rest}`;
