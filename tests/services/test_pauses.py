"""Long work in the background lets others run, and is not held up for ever."""

import time

from machines_server.services.pauses import MAX_PAUSES_S, PIECE, SHORT_PAUSE_S, Pauses


def slept_s(steps: int) -> float:
    """How long so many steps took that do nothing else."""
    pauses, began = Pauses(), time.monotonic()
    for _ in range(steps):
        pauses.pause()
    return time.monotonic() - began


def test_there_is_a_pause_after_some_steps() -> None:
    assert min(slept_s(PIECE - 1) for _ in range(20)) < SHORT_PAUSE_S <= slept_s(PIECE)
    assert slept_s(10 * PIECE) >= 10 * SHORT_PAUSE_S


def test_there_are_none_when_it_takes_too_long() -> None:
    most = int(MAX_PAUSES_S / SHORT_PAUSE_S)
    assert MAX_PAUSES_S <= slept_s(100 * most * PIECE) < 20 * MAX_PAUSES_S
