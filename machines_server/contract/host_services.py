"""Other services on hosts: in the answers about machines, and GET /api/services."""

from collections.abc import Iterable, Mapping
from typing import Literal

from msgspec import UNSET, Struct, UnsetType

from machines_server.contract.units import Moment, Port
from machines_server.core.host_services import LiveService
from machines_server.core.machine import HostService
from machines_server.core.text import printable
from machines_server.core.times import rfc3339

ServiceStatusName = Literal["active", "inactive", "unknown"]


class MachineService(Struct, frozen=True, kw_only=True):
    """An entry of `services` of a machine: all keys of its file, and whether the service answers.

    The last three keys are absent in `/api/machines`, and where the service is not polled, which a warning in
    `errors` explains.
    """

    name: str
    port: Port
    path: str | UnsetType = UNSET
    description: str | UnsetType = UNSET
    status: ServiceStatusName | UnsetType = UNSET
    """`active`: it answers with an HTTP status below 500; `unknown`: this server could not poll it."""
    message: str | UnsetType | None = UNSET
    """Why it is not active; else null."""
    since: Moment | UnsetType | None = UNSET
    """Since when it has been in this status, as far as polls show; null if unknown."""


class ServiceOnHost(Struct, frozen=True):
    """One service of GET /api/services."""

    port: Port
    path: str
    description: str
    status: ServiceStatusName
    """`active`: it answers with an HTTP status below 500; `unknown`: this server could not poll it."""
    machine: str | None
    """Null for a service of the server's own host."""
    url: str
    """What is polled."""
    message: str | None
    """Why it is not active; else null."""
    since: Moment | None
    """Since when it has been in this status, as far as polls show; null if unknown."""


class HostServices(Struct, frozen=True):
    """GET /api/services: the services of all hosts."""

    services: dict[str, ServiceOnHost]
    """By name; where several hosts have one of that name, those of the second and later machines are under
    `NAME@MACHINE`. Services of the server's own host come first, then those of the machines by name."""
    checked_at: Moment | None
    """When the latest poll cycle ended; null if none has."""


def machine_services(declared: Iterable[Mapping[str, object]], live: Iterable[LiveService]) -> list[object]:
    """The entries that a machine's file declares, each with its live keys if it is polled."""
    by_name = {one.service.name: one for one in live}
    return [_with_state(entry, by_name) for entry in declared]


def _with_state(entry: Mapping[str, object], live: dict[str, LiveService]) -> Mapping[str, object]:
    """An entry with its live keys; of several with one name only the first that has a port is polled."""
    one = live.pop(str(entry.get("name")), None) if "port" in entry else None
    return {**entry, **_state(one)} if one else entry


def _state(live: LiveService) -> dict[str, object]:
    return {
        "status": live.status.value,
        "message": live.reason and printable(live.reason),
        "since": rfc3339(live.since),
    }


def host_services(found: Iterable[tuple[str | None, LiveService]], checked_at: float | None) -> HostServices:
    """The services of all hosts, each with the name of its machine."""
    services: dict[str, ServiceOnHost] = {}
    for machine, live in found:
        name = printable(live.service.name)
        key = f"{name}@{machine}" if machine is not None and name in services else name
        services.setdefault(key, _service_on_host(machine, live.service, live))
    return HostServices(services, rfc3339(checked_at))


def _service_on_host(machine: str | None, service: HostService, live: LiveService) -> ServiceOnHost:
    return ServiceOnHost(
        port=service.port,
        path=service.path,
        description=service.description,
        status=live.status.value,
        machine=machine,
        url=service.url,
        message=live.reason and printable(live.reason),
        since=rfc3339(live.since),
    )
