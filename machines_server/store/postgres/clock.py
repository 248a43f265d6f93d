"""The database's clock, which all servers of a cluster go by.

Each server works by its own clock; the times that it writes and reads are shifted by the difference.
"""

import time
from dataclasses import replace
from typing import Any

import psycopg

from machines_server.core.host_services import ServiceResult
from machines_server.core.machine import Registry
from machines_server.core.sample import Cycle, Library, PollResult, Sample, UnchangedLibrary
from machines_server.store.values import Update

MAX_DIFFERENCE_S = 0.25
"""Smaller differences, and smaller changes of the difference, are ignored."""
_NOW = "SELECT (extract(epoch FROM clock_timestamp()) * 1000)::bigint"


class DatabaseClock:
    """How far the database's clock is ahead of this server's, in seconds."""

    def __init__(self) -> None:
        self.ahead_s = 0.0

    def measure(self, connection: psycopg.Connection[Any]) -> bool:
        """Compare the clocks in an open transaction; returns whether `ahead_s` has changed."""
        before = time.time()
        ((now_ms,),) = connection.execute(_NOW).fetchall()
        after = time.time()
        return self.note(now_ms / 1000, before, after)

    def note(self, now: float, before: float, after: float) -> bool:
        """Note what the database's clock showed between two moments of our clock."""
        ahead_s = now - (before + after) / 2
        if abs(ahead_s) <= MAX_DIFFERENCE_S:
            ahead_s = 0.0
        uncertain_s = MAX_DIFFERENCE_S + max(0.0, after - before) / 2
        if abs(ahead_s - self.ahead_s) <= uncertain_s and (ahead_s != 0.0 or self.ahead_s == 0.0):
            return False
        self.ahead_s = ahead_s
        return True

    def to_write(self, item: Update) -> Update:
        """The item with its times converted to the database's clock."""
        ahead_s = self.ahead_s
        if not ahead_s:
            return item
        match item:
            case PollResult() | ServiceResult() | Library() | UnchangedLibrary():
                return replace(item, at=item.at + ahead_s)
            case Sample():
                results = {
                    kind: replace(result, at=result.at + ahead_s) for kind, result in item.results.items()
                }
                return Sample(item.machine, results)
            case Cycle():
                return replace(item, started_at=item.started_at + ahead_s, ended_at=item.ended_at + ahead_s)
            case Registry():
                return replace(item, loaded_at=item.loaded_at + ahead_s)
