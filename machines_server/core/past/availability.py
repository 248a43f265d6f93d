"""How long a machine was online, degraded, offline or in an unknown status, and how often it went offline."""

from bisect import bisect_right
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass

from machines_server.core.status import Status


class PolledTime:
    """Adds up the time in which this server polled; time in several spans counts once."""

    def __init__(self, spans: Iterable[tuple[float, float]]) -> None:
        """`spans` has the start and the end of each, in epoch seconds."""
        self._began: list[float] = []
        self._ended: list[float] = []
        self._before: list[float] = []
        total = 0.0
        for began, ended in sorted(spans):
            last = self._ended[-1] if self._ended else began
            if ended <= max(began, last):
                continue
            began = max(began, last)
            self._began.append(began)
            self._ended.append(ended)
            self._before.append(total)
            total += ended - began

    def within(self, began: float, ended: float) -> float:
        """The seconds of polling between two moments."""
        return max(0.0, self._until(ended) - self._until(began))

    def _until(self, at: float) -> float:
        index = bisect_right(self._began, at) - 1
        if index < 0:
            return 0.0
        return self._before[index] + min(at, self._ended[index]) - self._began[index]


@dataclass(frozen=True, slots=True)
class Availability:
    """Seconds per status within a range, how often the machine was offline, and for how long at most."""

    seconds: Mapping[Status, float]
    outages: int
    longest_outage_s: float

    @property
    def ratio(self) -> float | None:
        """The fraction of the known time in which an endpoint answered; None if nothing is known."""
        up = self.seconds[Status.ONLINE] + self.seconds[Status.DEGRADED]
        known = up + self.seconds[Status.OFFLINE]
        return round(up / known, 6) if known else None


def availability(
    statuses: Iterable[tuple[float, str]], polled: PolledTime, from_s: float, to_s: float
) -> Availability:
    """Sums up a machine's statuses in [from_s, to_s).

    `statuses` has the start of each status, oldest first; any other text, such as machine_removed, ends the
    previous status. While this server did not poll, the status is unknown, because the server's own downtime
    is not the machine's.

    An outage lasts until the machine answers again or is removed: while its status is unknown, nobody knows
    that it is back. Only its known seconds within the range count.
    """
    seconds = dict.fromkeys(Status, 0.0)
    outages: list[float] = []
    is_out = False
    for status, began, ended in _status_spans(statuses, to_s):
        if status == Status.UNKNOWN:
            continue
        low, high = max(began, from_s), min(ended, to_s)
        known_s = polled.within(low, high) if low < high and status in _KNOWN else 0.0
        if status in _KNOWN:
            seconds[Status(status)] += known_s
        if status != Status.OFFLINE:
            is_out = False
        elif known_s or from_s <= began < to_s:
            if is_out:
                outages[-1] += known_s
            else:
                outages.append(known_s)
            is_out = True
    known = sum(seconds[status] for status in _KNOWN)
    seconds[Status.UNKNOWN] = max(0.0, to_s - from_s - known)
    rounded = {status: round(value, 3) for status, value in seconds.items()}
    return Availability(rounded, len(outages), round(max(outages, default=0.0), 3))


def _status_spans(statuses: Iterable[tuple[float, str]], to_s: float) -> Iterator[tuple[str, float, float]]:
    """Each status with its start and end."""
    before: tuple[float, str] | None = None
    for at, status in statuses:
        if before is not None:
            yield before[1], before[0], at
        before = at, status
    if before is not None:
        yield before[1], before[0], to_s


_KNOWN = frozenset({Status.ONLINE, Status.DEGRADED, Status.OFFLINE})
