"""How the machines of a site are divided among the pollers of several servers.

A machine belongs to one of SHARDS shards forever. Which poller should poll a shard follows from the ids of
the pollers present (rendezvous hashing, Thaler and Ravishankar 1996), so that all of them reach the same
result, and a poller that joins or leaves moves only its own share.
"""

from collections.abc import Collection, Mapping
from functools import lru_cache
from hashlib import blake2b

from machines_server.core.machine import Registry

SHARDS = 256
CHECK_INTERVALS = 0.15
"""How often a poller checks shards and pollers, in poll intervals."""
HOLD_INTERVALS = 1.5
"""How long a poller keeps its shards after a cycle has ended, in poll intervals."""


def start_hold_s(interval_s: float, timeout_s: float) -> float:
    """How long a poller keeps its shards after a cycle has begun, in seconds.

    The cycle ends within that time; and when the poller dies at its start, others poll the hosts before what
    is known of them is too old.
    """
    return max(1.1 * interval_s, timeout_s + 0.6 * interval_s)


@lru_cache(maxsize=200_000)
def shard_of(name: str) -> int:
    """The shard of a machine, by its name regardless of case."""
    return _hash(name.casefold()) % SHARDS


def owner_of(shard: int, pollers: Collection[str]) -> str | None:
    """Which of these pollers should poll a shard; None if there are none."""
    return max(pollers, key=lambda poller: (_hash(f"{shard}/{poller}"), poller), default=None)


@lru_cache(maxsize=64)
def shares(pollers: frozenset[str]) -> Mapping[int, str]:
    """By shard, which of these pollers should poll it."""
    owners = ((shard, owner_of(shard, pollers)) for shard in range(SHARDS))
    return {shard: owner for shard, owner in owners if owner is not None}


def part_of(registry: Registry, shards: Mapping[int, int]) -> Registry:
    """The machines of these shards, given with the epoch in which each is held."""
    machines = tuple(machine for machine in registry if shard_of(machine.name) in shards)
    return Registry(machines, registry.problems, registry.loaded_at, registry.is_whole, shards)


def _hash(text: str) -> int:
    return int.from_bytes(blake2b(text.encode("utf-8", "surrogatepass"), digest_size=8).digest(), "big")
