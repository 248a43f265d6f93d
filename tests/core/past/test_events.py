"""Which pairs of a host's answers have a reboot between them."""

import pytest

from machines_server.core.past.events import Uptime, reboot_event

DAY_S = 86_400.0


@pytest.mark.parametrize(
    ("elapsed_s", "before_s", "now_s", "was_away"),
    [
        (5, 1000, 3, False),
        (5, 1_000_000, 0, False),
        (600, 1000, 300, True),
        (2 * DAY_S, 1000, DAY_S, True),  # up for longer than before
        (30 * DAY_S, 100 * DAY_S, 29 * DAY_S, True),
    ],
)
def test_a_host_that_was_started_later_was_rebooted(
    elapsed_s: float, before_s: float, now_s: float, was_away: bool
) -> None:
    event = reboot_event(Uptime(0, before_s), Uptime(elapsed_s, now_s), was_away=was_away)
    assert event is not None
    assert (event.type, event.at) == ("host_rebooted", elapsed_s)
    assert event.detail == {"uptime_s": now_s, "uptime_before_s": before_s}


@pytest.mark.parametrize(
    ("elapsed_s", "before_s", "now_s", "was_away"),
    [
        (5, 1000, 1005, False),
        (5, 1000, 999, False),  # rounded, or its clock was set back a little
        (5, 1000, 1000, False),
        (5, 1000, 960, False),
        (600, 1000, 1600, True),
        (600, 1000, 1570, True),
        (5, 1000, 9000, False),  # its clock was set
        (30 * DAY_S, DAY_S, 31 * DAY_S - 1200, True),  # its clock is slower
        (DAY_S, 1000, 1005, False),  # our clock leapt
    ],
)
def test_an_uptime_that_does_not_quite_fit_is_no_reboot(
    elapsed_s: float, before_s: float, now_s: float, was_away: bool
) -> None:
    assert reboot_event(Uptime(0, before_s), Uptime(elapsed_s, now_s), was_away=was_away) is None
