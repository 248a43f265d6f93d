"""The target of a request: a URL, and what requests to it need."""

from collections.abc import Callable, Mapping
from typing import NamedTuple, Protocol

from machines_server.core.access import Access
from machines_server.core.machine import Endpoint
from machines_server.core.reasons import Reason
from machines_server.errors import NoAccessError

AccessOf = Callable[[Endpoint], Access]
"""Returns what requests to an endpoint need; raises NoAccessError."""


class Target(NamedTuple):
    """A URL, and what requests to it need; with another credential it is another target."""

    url: str
    access: Access | None = None
    is_signed: bool = False
    """Whether this server signs its requests, if it has a key."""


class Sign(Protocol):
    """Makes the headers that sign a request."""

    def __call__(self, method: str, target: str, body: bytes, /) -> Mapping[str, str]:
        """The headers to add; `target` is path and query as they will be sent."""


def no_access(endpoint: Endpoint) -> Access:
    """Refuse every endpoint, since no files can be read here."""
    key = "network.credential" if endpoint.credential else "network.ca"
    raise NoAccessError(Reason("skipped: its files are not read here"), "", key)
