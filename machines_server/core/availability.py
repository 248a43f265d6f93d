"""How long a machine was online, degraded, offline, and how long nobody knows."""

from collections.abc import Iterable, Sequence

from machines_server.core.status import Status


def availability(
    statuses: Sequence[tuple[float, str]], polled: Iterable[tuple[float, float]], from_s: float, to_s: float
) -> dict[str, float]:
    """Seconds per status in [from_s, to_s).

    `statuses` says when the machine took on which status, oldest first; one that is no status (the machine
    was removed) means that nobody looked any more. `polled` are the spans in which somebody polled, oldest
    first. Outside of both, the status is unknown: our absence is not the machine's.
    """
    seconds = dict.fromkeys(Status, 0.0)
    ends = [*(at for at, _ in statuses[1:]), to_s]
    spans = list(polled)
    for (began, status), ended in zip(statuses, ends, strict=False):
        if status in _KNOWN:
            low, high = max(began, from_s), min(ended, to_s)
            seconds[Status(status)] += sum(max(0.0, min(high, b) - max(low, a)) for a, b in spans)
    known = sum(seconds[status] for status in _KNOWN)
    seconds[Status.UNKNOWN] = max(0.0, to_s - from_s - known)
    return {str(status): round(value, 3) for status, value in seconds.items()}


def ratio(seconds: dict[str, float]) -> float | None:
    """The part of the known time in which an endpoint answered; None when nothing is known."""
    up = seconds[Status.ONLINE] + seconds[Status.DEGRADED]
    known = up + seconds[Status.OFFLINE]
    return round(up / known, 6) if known else None


_KNOWN = frozenset({Status.ONLINE, Status.DEGRADED, Status.OFFLINE})
