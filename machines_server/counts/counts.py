"""Counts what one process does, and adds up what all processes of the server have done."""

import threading
from bisect import bisect_left
from collections.abc import Iterator, Sequence
from typing import NamedTuple

from machines_server.counts.columns import (
    BUCKETS_OFFSET,
    COLUMN_OF,
    COLUMNS,
    FIRST_OF_ENDPOINTS,
    LATENCY_BOUNDS_S,
    METHOD_NUMBER,
    METHODS,
    OTHER,
    OTHER_STATUS_OFFSET,
    PER_ENDPOINT,
    STATUS_OFFSET,
    STATUSES,
    TOTAL_NS_OFFSET,
    labels_of,
)
from machines_server.counts.shared import SharedCells

_OTHER_METHOD = METHOD_NUMBER[OTHER]
_PER_ROUTE = len(METHODS) * PER_ENDPOINT


class Requests(NamedTuple):
    """The requests to one route by one method: counts by status, and the histogram of their latency.

    `buckets` has a count for each of LATENCY_BOUNDS_S and one for slower answers, not accumulated.
    """

    route: int
    method: str
    by_status: dict[str, int]
    total_s: float
    buckets: Sequence[int]


class Totals:
    """The counts of all processes at one moment."""

    def __init__(self, sums: Sequence[int]) -> None:
        self._sums = sums

    def of(self, family: str) -> dict[str, int]:
        """The counts of a family with its own columns, by label."""
        return {label: self._sums[COLUMN_OF[family, label]] for label in labels_of(family)}

    def requests(self) -> Iterator[Requests]:
        """The requests of each route and method that had any."""
        for start in range(FIRST_OF_ENDPOINTS, COLUMNS, PER_ENDPOINT):
            statuses = self._sums[start : start + TOTAL_NS_OFFSET]
            if any(statuses):
                route, method = divmod((start - FIRST_OF_ENDPOINTS) // PER_ENDPOINT, len(METHODS))
                yield Requests(
                    route,
                    METHODS[method],
                    {status: count for status, count in zip(STATUSES, statuses, strict=True) if count},
                    self._sums[start + TOTAL_NS_OFFSET] / 1e9,
                    self._sums[start + BUCKETS_OFFSET : start + PER_ENDPOINT],
                )


class Counts:
    """Counts in one row of the shared cells; each process has its own object."""

    def __init__(self, shared: SharedCells, row: int) -> None:
        self._shared, self._cells, self._lock = shared, shared.take_row(row), threading.Lock()

    @classmethod
    def alone(cls) -> "Counts":
        """The counts of a process that runs alone."""
        return cls(SharedCells(1, COLUMNS), 0)

    def add(self, family: str, label: str, number: int = 1) -> None:
        """Count something, in any thread; a label without a column of its own counts as `other`."""
        column = COLUMN_OF.get((family, label))
        if column is None:
            column = COLUMN_OF[family, OTHER]
        with self._lock:
            self._cells[column] += number

    def add_request(self, endpoint: int, status: int, took_s: float) -> None:
        """Count an answered request; only the thread of the event loop may, since it takes no lock.

        `endpoint` is what `endpoint_of` returns.
        """
        cells = self._cells
        cells[endpoint + STATUS_OFFSET.get(status, OTHER_STATUS_OFFSET)] += 1
        cells[endpoint + TOTAL_NS_OFFSET] += int(took_s * 1e9)
        cells[endpoint + BUCKETS_OFFSET + bisect_left(LATENCY_BOUNDS_S, took_s)] += 1

    def totals(self) -> Totals:
        """What all processes have counted."""
        return Totals(self._shared.sums())


def endpoint_of(route: int, method: str) -> int:
    """The place of the counts of a method of a route, which is below MAX_ROUTES."""
    number = METHOD_NUMBER.get(method, _OTHER_METHOD)
    return FIRST_OF_ENDPOINTS + route * _PER_ROUTE + number * PER_ENDPOINT


def shared_counts(rows: int) -> SharedCells:
    """Memory for the counts of that many processes at a time; create it before the fork."""
    return SharedCells(rows, COLUMNS)
