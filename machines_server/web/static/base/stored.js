// The reader's choices, stored by the browser; if it stores nothing, they last until the page is closed.

const chosen = new Map();

/** What was stored under a name, or null. */
export function stored(name) {
  try {
    return localStorage.getItem(name) ?? chosen.get(name) ?? null;
  } catch {
    return chosen.get(name) ?? null;
  }
}

export function store(name, value) {
  chosen.set(name, value);
  try {
    localStorage.setItem(name, value);
  } catch {} // storage is full or forbidden
}
