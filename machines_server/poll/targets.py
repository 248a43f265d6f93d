"""What is requested: a URL, and what requests to it need."""

from collections.abc import Callable
from typing import NamedTuple

from machines_server.core.access import Access
from machines_server.core.machine import Endpoint
from machines_server.core.reasons import Reason
from machines_server.errors import NoAccessError

AccessOf = Callable[[Endpoint], Access]
"""What requests to an endpoint need; raises NoAccessError."""


class Target(NamedTuple):
    """A URL, and what requests to it need; with another credential it is another target."""

    url: str
    access: Access | None = None


def no_access(endpoint: Endpoint) -> Access:
    """Find nothing for any endpoint, where no file can be read."""
    key = "network.credential" if endpoint.credential else "network.ca"
    raise NoAccessError(Reason("not asked: its files are not read here"), "", key)
