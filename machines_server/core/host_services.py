"""Other services on hosts; polls only check whether they answer."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import NamedTuple

from machines_server.core.machine import HostService
from machines_server.core.status import NOT_YET

OWN_HOST = ""
"""The name that stands for the server's own host, which no machine has."""
FIRST_FAILURE_STATUS = 500
"""A service that answers with a lower HTTP status is active: it may require a login, or not know the path."""


class ServiceStatus(StrEnum):
    """Whether a service answers."""

    ACTIVE = "active"
    INACTIVE = "inactive"
    UNKNOWN = "unknown"


@dataclass(slots=True)
class ServiceResult:
    """How one poll of a service ended, `at` epoch seconds; `machine` may be OWN_HOST."""

    machine: str
    service: HostService
    status: ServiceStatus
    at: float
    reason: str | None = None
    """Why it is not active."""


class PolledService(NamedTuple):
    """What polls have shown about a service at a URL, and since when (epoch seconds)."""

    url: str
    status: ServiceStatus
    reason: str | None
    since: float


class LiveService(NamedTuple):
    """A declared service now; `since` is None if its status is unknown."""

    service: HostService
    status: ServiceStatus
    reason: str | None
    since: float | None


def live_services(
    declared: Sequence[HostService], polled: Mapping[str, PolledService], poller_fault: str | None
) -> tuple[LiveService, ...]:
    """The state of each declared service; `polled` is by name, `poller_fault` says why nobody polls."""
    return tuple(_live(service, polled.get(service.name), poller_fault) for service in declared)


def _live(service: HostService, polled: PolledService | None, poller_fault: str | None) -> LiveService:
    if poller_fault or polled is None or polled.url != service.url:
        return LiveService(service, ServiceStatus.UNKNOWN, poller_fault or NOT_YET, None)
    since = None if polled.status is ServiceStatus.UNKNOWN else polled.since
    return LiveService(service, polled.status, polled.reason, since)
