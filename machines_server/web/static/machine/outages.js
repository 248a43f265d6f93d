// When a machine did not answer, derived from its events and from the metric `up`. Nothing here touches the page.

import { STATUSES } from "../base/live.js";

const MAX_SLOTS = 60;

/**
 * The outages within [from, to), newest first: {from, to, reason, isOpen} in epoch seconds. `before` are the events before
 * the range and `within` those in it, both newest first. An outage lasts until the machine answers again or is removed;
 * one that has not ended is open.
 */
export function outagesOf(before, within, from, to) {
  const outages = [];
  let open = null;
  const end = (time, isOpen) => {
    if (open && time > from) outages.push({ from: Math.max(from, open.from), to: time, reason: open.reason, isOpen });
    open = null;
  };
  for (const { at, type, reason } of [...within, ...before].reverse()) {
    const time = Date.parse(at) / 1000;
    if (type === "offline") open ??= { from: time, reason };
    else if (type === "machine_removed" || (STATUSES.includes(type) && type !== "unknown")) end(time, false);
  }
  end(to, true);
  return outages.reverse();
}

/**
 * A range in at most 60 slots of equal length, each of whole steps: {from, to, share}, where `share` is the part of the
 * polls that were answered, and null where nothing was polled. `points` are those of the metric `up`.
 */
export function availabilitySlots(points, { from, to, step }) {
  const length = Math.max(1, Math.ceil((to - from) / step / MAX_SLOTS)) * step;
  const slots = Array.from({ length: Math.ceil((to - from) / length) }, (_, place) => ({
    from: from + place * length,
    to: Math.min(to, from + (place + 1) * length),
    answered: 0,
    polls: 0,
  }));
  for (const [time, average, , , count] of points) {
    const slot = slots[Math.floor((time - from) / length)];
    if (!slot) continue;
    slot.answered += average * count;
    slot.polls += count;
  }
  return slots.map(({ answered, polls, ...ends }) => ({ ...ends, share: polls ? answered / polls : null }));
}
