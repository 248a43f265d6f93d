"""Counts polls, failures and cycles, continuing from the counts of another process."""

import threading
from bisect import bisect_left
from dataclasses import replace

from machines_server.core.poller_counts import CYCLE_BOUNDS_S, Backlog, PollerCounts
from machines_server.core.sample import PollResult, State

MAX_FAILURE_REASONS = 64
"""Codes of one kind of endpoint that are counted separately, since hosts choose the statuses they answer."""


class PollCounting:
    """Counts polls, failures and cycles; thread-safe."""

    def __init__(self, before: PollerCounts) -> None:
        """Continue from the counts of `before`."""
        self._lock = threading.Lock()
        self._cycles, self._cycles_s = list(before.cycles), before.cycles_s
        self._polls = dict(before.polls)
        self._failures = {kind: dict(reasons) for kind, reasons in before.failures.items()}
        self._dropped_before = before.backlog.dropped

    def note(self, result: PollResult) -> None:
        """Count a poll; one that was not sent counts as a failure, but not as a poll."""
        kind = result.endpoint.kind
        with self._lock:
            if result.state is not State.UNASKED:
                self._polls[kind] = self._polls.get(kind, 0) + 1
            if result.state is not State.OK:
                reasons = self._failures.setdefault(kind, {})
                code = result.code or "other"
                if code not in reasons and len(reasons) >= MAX_FAILURE_REASONS:
                    code = "other"
                reasons[code] = reasons.get(code, 0) + 1

    def note_cycle(self, took_s: float) -> None:
        """Count a finished cycle."""
        with self._lock:
            self._cycles[bisect_left(CYCLE_BOUNDS_S, took_s)] += 1
            self._cycles_s += took_s

    def counts(self, at: float, backlog: Backlog, shards: int | None = None) -> PollerCounts:
        """The counts at `at` (epoch seconds), with the backlog of writes and the number of shards."""
        with self._lock:
            return PollerCounts(
                at,
                self._cycles_s,
                tuple(self._cycles),
                dict(self._polls),
                {kind: dict(reasons) for kind, reasons in self._failures.items()},
                replace(backlog, dropped=self._dropped_before + backlog.dropped),
                shards,
            )
