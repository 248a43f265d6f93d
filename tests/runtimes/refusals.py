"""Answers of hosts that are refused."""

from collections.abc import Callable

import pytest

from machines_server.errors import BadAnswerError


def refused(parse: Callable[[bytes], object], body: bytes) -> str:
    """Why the body is refused; a reason is one short line."""
    with pytest.raises(BadAnswerError) as caught:
        parse(body)
    reason = str(caught.value)
    assert 0 < len(reason) < 200
    assert reason.isprintable()
    return reason
