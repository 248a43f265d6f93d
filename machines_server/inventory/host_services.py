"""The services on a host, as a machine file or the server's own services.yaml declares them."""

from collections.abc import Iterator, Sequence

from machines_server.core.machine import HostService, endpoint_url
from machines_server.inventory.problem_list import KeyPath
from machines_server.inventory.schema import Service, expected

MAX_SERVICES = 100
"""How many services of one host are polled."""

_Found = HostService | tuple[KeyPath, str]
"""A service, or why it is not polled: a key path and a message."""


def services_of(entries: Sequence[Service], hostname: str) -> tuple[HostService, ...]:
    """The services that can be polled."""
    return tuple(one for one in _found(entries, hostname) if isinstance(one, HostService))


def service_warnings(entries: Sequence[Service]) -> Iterator[tuple[KeyPath, str]]:
    """Why services are not polled."""
    return (one for one in _found(entries, "") if not isinstance(one, HostService))


def _found(entries: Sequence[Service], hostname: str) -> Iterator[_Found]:
    names: set[str] = set()
    for index, entry in enumerate(entries):
        path = "services", index
        missing = next((key for key in ("name", "port") if key not in entry.model_fields_set), None)
        if missing:
            rule = expected((*path, missing))
            yield path, f"the key {missing} is missing, so it is not polled; expected {rule}"
        elif entry.name in names:
            message = "an earlier service has this name, so it is not polled; expected another name"
            yield (*path, "name"), message
        elif len(names) >= MAX_SERVICES:
            yield path, f"only the first {MAX_SERVICES} services are polled; expected fewer"
            return
        else:
            names.add(entry.name)
            url = endpoint_url(hostname, entry.port) + entry.path
            yield HostService(entry.name, entry.port, entry.path, entry.description, url)
