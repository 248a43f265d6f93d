"""Recognises when another host answers under a machine's name, from what its sidecar reports.

A host that shares a card with the previous one is the same host, even under another host name: it was renamed
or reinstalled. Otherwise another host name means another host. So do entirely different cards under the same
name, unless the host has restarted: nobody replaces cards while it runs.
"""

from collections.abc import Mapping
from functools import lru_cache
from string import hexdigits
from typing import Any, NamedTuple

from machines_server.core.hosts import is_address
from machines_server.core.sample import HostSample
from machines_server.core.text import clip

BOOT_TOLERANCE_S = 60.0
"""How far the start time of a host may appear to shift."""
_MAX_LISTED_CARDS = 8
_CONTAINER_ID_DIGITS = (12, 64)
"""The lengths of container ids, which are hexadecimal; the host name of a container is often its id."""


class Identity(NamedTuple):
    """What identifies a host; what it did not report is None or empty. `booted_at` is in epoch seconds."""

    url: str
    hostname: str | None
    cards: frozenset[str]
    booted_at: float | None


def identity(url: str, at: float, host: HostSample) -> Identity:
    """The identity of a host that a sidecar reported at `at` (epoch seconds)."""
    cards = frozenset([gpu.uuid for gpu in host.gpu])
    if host.gpu_unreadable:
        cards |= {gpu.uuid for gpu in host.gpu_unreadable if gpu.uuid}
    return Identity(url, host.hostname, cards, None if host.uptime_s is None else at - host.uptime_s)


def is_another(before: Identity, now: Identity) -> bool:
    """Return whether another host answers now. A new URL does not count: it comes from the machine's file."""
    if before[:3] == now[:3]:
        return False
    cards_before, cards = _lasting(before.cards), _lasting(now.cards)
    if before.url != now.url or cards_before & cards:
        return False
    label_before, label = _label(before.hostname), _label(now.hostname)
    if label_before and label and label_before != label:
        return True
    return bool(cards_before and cards) and _runs_on(before, now)


def followed(before: Identity, now: Identity) -> Identity:
    """The identity after two answers of one host; missing cards are kept unless it has restarted."""
    if before.url != now.url or (before[:3] == now[:3] and now.booted_at is not None):
        return now
    cards = now.cards or (before.cards if _runs_on(before, now) else now.cards)
    return Identity(now.url, now.hostname or before.hostname, cards, now.booted_at or before.booted_at)


def change(before: Identity, now: Identity) -> Mapping[str, Any]:
    """The details of the event."""
    if _label(before.hostname) == _label(now.hostname) or not now.hostname:
        reason = "all of its GPUs are different, although it was not restarted"
    else:
        reason = f"its host name changed from {clip(before.hostname or 'unknown')} to {clip(now.hostname)}"
    return {
        "reason": reason,
        "hostname_before": before.hostname and clip(before.hostname),
        "hostname": now.hostname and clip(now.hostname),
        "gpu_before": _some(before.cards),
        "gpu": _some(now.cards),
    }


def _runs_on(before: Identity, now: Identity) -> bool:
    """Return whether the host has not restarted in between."""
    if before.booted_at is None or now.booted_at is None:
        return False
    return now.booted_at <= before.booted_at + BOOT_TOLERANCE_S


def _lasting(cards: frozenset[str]) -> frozenset[str]:
    """The cards without MIG devices, which can be recreated while a host runs."""
    return frozenset(uuid for uuid in cards if not uuid.startswith("MIG-"))


def _some(cards: frozenset[str]) -> list[str]:
    return [clip(uuid) for uuid in sorted(cards)[:_MAX_LISTED_CARDS]]


@lru_cache(maxsize=4096)
def _label(hostname: str | None) -> str | None:
    """A host name without its domain; None for a container's id or localhost."""
    if hostname is None or is_address(hostname):
        return hostname
    label = hostname.partition(".")[0].casefold()
    is_id = len(label) in _CONTAINER_ID_DIGITS and set(label) <= set(hexdigits)
    return None if is_id or label == "localhost" else label
