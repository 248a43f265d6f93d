"""Samples that wait to be sent: within limits, the oldest are dropped first."""

from collections import Counter, deque
from collections.abc import Mapping
from dataclasses import dataclass
from typing import NamedTuple

from machines_server.store.promql.message import compressed, series_of

BATCH_SAMPLES = 10_000
"""How many samples a request has at most, unless one machine alone has more."""
FULL = "full"
"""Why samples are dropped when there is no room for newer ones."""
_FIRST_TRIES, _TRIES_FOR_A_GOOD_PART = 4, 3


class QueueLimits(NamedTuple):
    """How many samples may wait, and how many bytes they may take, compressed."""

    samples: int = 20_000_000
    bytes: int = 256 * 2**20


@dataclass(slots=True)
class Tries:
    """How many more times the parts of a refused batch may be sent."""

    left: int = _FIRST_TRIES


@dataclass(frozen=True, slots=True)
class Batch:
    """The body of a request, and how many samples are in it."""

    body: bytes
    samples: int
    tries: Tries

    def halves(self) -> tuple["Batch", "Batch"] | None:
        """Both halves, since the engine may refuse only a few of the samples; None if that is not worth it.

        A part that is accepted earns more tries: one bad sample among many costs a request or two for each
        halving, and a batch of bad samples costs a few in all.
        """
        if self.samples < 2 or self.tries.left <= 0:
            return None
        self.tries.left -= 1
        series = series_of(self.body)
        middle = len(series) // 2
        first, second = b"".join(series[:middle]), b"".join(series[middle:])
        return (
            Batch(compressed(first), middle, self.tries),
            Batch(compressed(second), len(series) - middle, self.tries),
        )

    def was_accepted(self) -> None:
        """Allow more tries for the other parts."""
        self.tries.left += _TRIES_FOR_A_GOOD_PART


class Batches:
    """The batches that wait, and the one that is being filled; whoever uses it holds a lock."""

    def __init__(self, limits: QueueLimits, batch_samples: int = BATCH_SAMPLES) -> None:
        self._limits, self._batch_samples = limits, batch_samples
        self.buffer = bytearray()
        """The messages of the batch that is being filled; `added` is called after each."""
        self._in_buffer = 0
        self._waiting: deque[Batch] = deque()
        self._samples = self._bytes = 0
        self._dropped = Counter[str]()

    @property
    def samples(self) -> int:
        """How many samples wait."""
        return self._samples + self._in_buffer

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
        """Count samples whose messages were appended to the buffer."""
        self._in_buffer += samples
        if self._in_buffer >= self._batch_samples:
            self.close_batch()

    def close_batch(self) -> None:
        """Let what is in the buffer be sent."""
        if self._in_buffer:
            batch = Batch(compressed(self.buffer), self._in_buffer, Tries())
            self.buffer.clear()
            self._in_buffer = 0
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
        """Let batches that were taken wait again, before all others."""
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
