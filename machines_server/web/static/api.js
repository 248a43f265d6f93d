// Questions to the server.

const TIMEOUT_MS = 10_000;

/** An answer that is no 2xx: `status`, and the JSON that came with it in `body`. */
export class Refused extends Error {
  constructor(status, body) {
    super(body?.message ?? `The server answered ${status}.`);
    this.status = status;
    this.body = body;
  }
}

/** GET a path; gives the JSON. Raises Refused, or TypeError when the server cannot be reached. */
export const get = async (path, signal) => (await answered(path, { signal })).json();

/** The same for what is no JSON. */
export const getText = async (path) => (await answered(path, {})).text();

/** What went wrong with a question, as a sentence. */
export function sentence(error) {
  if (error instanceof Refused) return error.message;
  if (error.name === "TimeoutError") return "The server did not answer in time.";
  return error instanceof TypeError ? "The server cannot be reached." : `${error.message}.`;
}

async function answered(path, { headers = {}, signal = AbortSignal.timeout(TIMEOUT_MS) }) {
  const response = await fetch(path, { cache: "no-store", headers, signal });
  if (!response.ok && response.status !== 304)
    throw new Refused(response.status, await response.json().catch(() => null));
  return response;
}

/** Asks the same again and again: `body` is null as long as the answer is the one before. */
export function asker(path) {
  let etag = null;
  return async () => {
    const response = await answered(path, { headers: etag ? { "If-None-Match": etag } : {} });
    const serverTime = Date.parse(response.headers.get("Date"));
    if (response.status === 304) return { body: null, serverTime };
    const body = await response.json();
    etag = response.headers.get("ETag");
    return { body, serverTime };
  };
}

/** A path with a query; null, undefined and "" are left out, lists are repeated. */
export function path(base, query) {
  const search = new URLSearchParams();
  for (const [name, value] of Object.entries(query))
    for (const one of [value].flat()) if (one !== null && one !== undefined && one !== "") search.append(name, one);
  return search.size ? `${base}?${search}` : base;
}

export const machinePath = (name, rest = "") => `/api/machines/${encodeURIComponent(name)}${rest}`;
export const pageOf = (name) => `/machines/${encodeURIComponent(name)}`;
