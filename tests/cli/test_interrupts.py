"""Ctrl-C is recognised even if the clean-up after it fails."""

import pytest

from machines_server.cli.command import is_interrupt
from machines_server.errors import StoreError


def roll_back() -> None:
    try:
        raise ConnectionError
    except ConnectionError as error:
        raise StoreError("the transaction could not be rolled back") from error


def run(end: BaseException) -> None:
    try:
        raise end
    finally:
        roll_back()


def test_an_error_is_an_interrupt_if_it_came_of_one() -> None:
    with pytest.raises(StoreError) as error:
        run(KeyboardInterrupt())
    assert is_interrupt(error.value)
    assert is_interrupt(KeyboardInterrupt())
    error.value.__cause__ = error.value
    assert is_interrupt(error.value)


def test_other_errors_are_no_interrupts() -> None:
    with pytest.raises(StoreError) as error:
        run(ValueError())
    assert not is_interrupt(error.value)
