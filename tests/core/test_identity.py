"""Which host answers under a name: another one, or the same one after an upgrade."""

from typing import Any

import pytest

from machines_server.core.identity import Identity, change, followed, identity, is_another
from machines_server.core.sample import GpuSample, GpuUnreadable, HostSample

DAY_S = 86_400.0
URL = "http://gpu1.lan:3039/metrics"


def seen(
    hostname: str | None, *cards: str, at: float = 1e9, up_s: float | None = DAY_S, url: str = URL
) -> Identity:
    """A host as its sidecar tells of it at `at`."""
    gpus = tuple(GpuSample(index, uuid, None, "dedicated", 1, 0, 1) for index, uuid in enumerate(cards))
    return identity(url, at, HostSample(hostname=hostname, gpu=gpus, uptime_s=up_s))


@pytest.mark.parametrize(
    ("before", "now"),
    [
        (seen("alpha", "GPU-a"), seen("beta", "GPU-b")),
        (seen("alpha"), seen("beta")),
        (seen("alpha", "GPU-a"), seen("beta")),
        (seen("alpha.lan"), seen("beta.lan")),
        (seen("10.0.0.7"), seen("10.0.0.8")),
        (seen("alpha", "GPU-a", "GPU-b"), seen("alpha", "GPU-c")),
        (seen(None, "GPU-a"), seen(None, "GPU-b")),
        (seen("localhost", "GPU-a"), seen("localhost", "GPU-b", at=1e9 + 5, up_s=3 * DAY_S)),
    ],
)
def test_another_name_or_none_but_other_cards_at_once_are_another_host(
    before: Identity, now: Identity
) -> None:
    assert is_another(before, now)
    assert change(before, now)["reason"]


@pytest.mark.parametrize(
    ("before", "now"),
    [
        (seen("alpha"), seen("alpha")),
        (seen("alpha"), seen("ALPHA.lan")),
        (seen("mac.local"), seen("mac.fritz.box")),
        (seen("alpha", "GPU-a", "GPU-b"), seen("beta", "GPU-b", up_s=60)),  # set up anew, one card less
        (seen("alpha", "GPU-a"), seen("alpha", "GPU-b", at=1e9 + 600, up_s=300)),  # another card put in
        (seen("alpha", "GPU-a"), seen("alpha", "GPU-b", at=1e9 + 9 * DAY_S, up_s=2 * DAY_S)),
        (seen("alpha", "GPU-a"), seen("alpha", "GPU-b", up_s=None)),
        (seen("alpha", "GPU-a"), seen("alpha")),  # its driver is not loaded
        (seen("alpha", "MIG-1"), seen("alpha", "MIG-2", "MIG-3")),  # divided in another way
        (seen("alpha", "GPU-a"), seen("alpha", "MIG-2")),
        (seen("alpha"), seen(None)),
        (seen("alpha"), seen("localhost")),
        (seen("0123456789ab"), seen("ba9876543210")),  # two runs of one container
        (seen("alpha"), seen("beta", url="http://10.0.0.8:3039/metrics")),  # its file was changed
    ],
)
def test_a_new_name_cards_or_system_of_the_same_host_are_no_other_host(
    before: Identity, now: Identity
) -> None:
    assert not is_another(before, now)


def test_a_card_that_cannot_be_read_is_still_its_own() -> None:
    lost = HostSample(hostname="beta", gpu_unreadable=(GpuUnreadable(0, "GPU-a", "lost"),), uptime_s=DAY_S)
    assert not is_another(seen("alpha", "GPU-a"), identity(URL, 1e9, lost))


def test_cards_are_remembered_while_the_host_runs_on_and_does_not_tell_them() -> None:
    silent = followed(seen("alpha", "GPU-a"), seen(None, at=1e9 + 5, up_s=DAY_S + 5))
    assert (silent.hostname, set(silent.cards)) == ("alpha", {"GPU-a"})
    assert is_another(silent, seen("alpha", "GPU-b", at=1e9 + 10, up_s=DAY_S + 10))
    restarted = followed(seen("alpha", "GPU-a"), seen("alpha", at=1e9 + 3600, up_s=60))
    assert not restarted.cards
    assert not is_another(restarted, seen("alpha", "GPU-b", at=1e9 + 7200, up_s=3660))


def test_an_event_is_short_whatever_a_host_calls_itself() -> None:
    many = [f"{'x' * 500}{number}" for number in range(200)]
    found: dict[str, Any] = dict(change(seen("a" * 512, "GPU-a"), seen("b" * 512, *many)))
    assert len(str(found)) < 2000
    assert len(found["gpu"]) == 8
