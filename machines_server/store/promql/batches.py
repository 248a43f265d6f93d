"""Samples that wait to be sent, within limits: the oldest are dropped first."""

from collections import Counter, deque
from collections.abc import Mapping
from dataclasses import dataclass
from typing import NamedTuple

from machines_server.store.promql.message import compressed, series_of

BATCH_SAMPLES = 10_000
"""The most samples in a request, unless a single machine has more."""
FULL = "full"
"""Why samples are dropped when there is no room for newer ones."""
MAX_HALVINGS = 40


class QueueLimits(NamedTuple):
    """How many samples may wait, and how many bytes they may take, compressed."""

    samples: int = 20_000_000
    bytes: int = 256 * 2**20


@dataclass(slots=True)
class Halvings:
    """How many more times refused batches may be halved.

    Accepted batches earn more: one bad sample among many costs a dozen, and yields as many good parts. If all
    is bad, it soon costs no more than one request for each batch.
    """

    left: int = MAX_HALVINGS

    def was_accepted(self) -> None:
        """Allow one more."""
        self.left = min(self.left + 1, MAX_HALVINGS)


@dataclass(frozen=True, slots=True)
class Batch:
    """The body of a request, and how many samples are in it."""

    body: bytes
    samples: int

    def halves(self, allowed: Halvings) -> tuple["Batch", "Batch"] | None:
        """Both halves, since an engine may refuse a batch for a few samples; None if it may not be halved."""
        if self.samples < 2 or allowed.left <= 0:
            return None
        allowed.left -= 1
        series = series_of(self.body)
        middle = len(series) // 2
        first, second = b"".join(series[:middle]), b"".join(series[middle:])
        return Batch(compressed(first), middle), Batch(compressed(second), len(series) - middle)


class Batches:
    """The waiting batches, and the one being filled; callers hold a lock."""

    def __init__(self, limits: QueueLimits, batch_samples: int = BATCH_SAMPLES) -> None:
        self._limits, self._batch_samples = limits, batch_samples
        self.parts = list[bytes]()
        """The messages of the batch that is being filled; `added` is called after each."""
        self._in_parts = 0
        self._waiting: deque[Batch] = deque()
        self._samples = self._bytes = 0
        self._dropped = Counter[str]()

    @property
    def samples(self) -> int:
        """How many samples wait."""
        return self._samples + self._in_parts

    @property
    def bytes(self) -> int:
        """How many bytes the full batches take."""
        return self._bytes

    @property
    def dropped(self) -> Mapping[str, int]:
        """How many samples were dropped, by reason."""
        return dict(self._dropped)

    def __len__(self) -> int:
        return len(self._waiting)

    def added(self, samples: int) -> None:
        """Count samples whose messages were appended to `parts`."""
        self._in_parts += samples
        if self._in_parts >= self._batch_samples:
            self.close_batch()

    def close_batch(self) -> None:
        """Close the current batch, so that it can be sent."""
        if self._in_parts:
            batch = Batch(compressed(b"".join(self.parts)), self._in_parts)
            self.parts.clear()
            self._in_parts = 0
            self._add(batch)
            self._waiting.append(batch)
            self._keep_limits()

    def take(self, place: int = 0) -> Batch:
        """Remove a batch; they are in the order in which they must be sent."""
        batch = self._waiting[place]
        del self._waiting[place]
        self._samples -= batch.samples
        self._bytes -= len(batch.body)
        return batch

    def put_back(self, *batches: Batch) -> None:
        """Put taken batches back, before all others."""
        for batch in reversed(batches):
            self._add(batch)
            self._waiting.appendleft(batch)
        self._keep_limits()

    def drop(self, batch: Batch, reason: str) -> None:
        """Count a batch that was taken as dropped."""
        self._dropped[reason] += batch.samples

    def _add(self, batch: Batch) -> None:
        self._samples += batch.samples
        self._bytes += len(batch.body)

    def _keep_limits(self) -> None:
        while self._waiting and (self._samples > self._limits.samples or self._bytes > self._limits.bytes):
            self.drop(self.take(), FULL)
