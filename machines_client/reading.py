"""The questions that only read: machines, models, the past, the server itself.

Each function is a flow and, under the same name, a method of both clients.
"""

from collections.abc import Iterable, Mapping
from typing import Any, Unpack
from urllib.parse import quote

from machines_client import parameters as p
from machines_client.arguments import checked_name, checked_path
from machines_client.fleet_answers import (
    Health,
    HostServices,
    Infrastructure,
    Machines,
    MachineState,
    Models,
    System,
)
from machines_client.flows import Flow, Session, answer, fetch, get
from machines_client.flows import ask as ask_flow
from machines_client.past_answers import Availability, Events, FleetAvailability, Histories, History


def machines(session: Session) -> Flow[Machines]:
    """The machine files as declared, and their problems.

    >>> [machine.name for machine in client.machines().machines]
    ['laptop', 'workstation']
    """
    return answer(session, get("/api/machines"), Machines)


def infrastructure(session: Session) -> Flow[Infrastructure]:
    """Every machine with its current state.

    >>> for machine in client.infrastructure().machines:
    ...     print(machine.name, machine.status, machine.loaded_models)
    laptop online ('llama3.1:70b',)
    workstation online ('llama3.1:70b',)
    """
    return answer(session, get("/api/infrastructure"), Infrastructure)


def machine(session: Session, name: str) -> Flow[MachineState]:
    """One machine with its current state; raises UnknownMachine.

    >>> client.machine("workstation").telemetry["gpu"][0]["vram_free_gb"]
    20.0
    """
    return answer(session, get(_machine_path(name)), MachineState)


def file(session: Session, name: str) -> Flow[str]:
    """The version of a machine's file that is in force, as YAML; raises UnknownMachine.

    >>> "name: workstation" in client.file("workstation")
    True
    """
    return text(session, f"{_machine_path(name)}/file")


def models(session: Session, **between: Unpack[p.RangeOptions]) -> Flow[Models]:
    """Every model of the fleet: where it is declared, on disk and in memory.

    >>> [(model.model, model.loaded) for model in client.models(from_="-7d").models]
    [('llama3.1:70b', ('laptop', 'workstation'))]
    """
    return answer(session, get("/api/models", p.parameters(p.RANGE, between)), Models)


def history(session: Session, name: str, **options: Unpack[p.SeriesOptions]) -> Flow[History]:
    """Metrics of one machine over time, by default the last day; raises UnknownMachine.

    >>> client.history("workstation", metric="cpu_percent", from_="-1h").series[0].unit
    'percent'
    """
    query = p.parameters(p.SERIES, options)
    return answer(session, get(f"{_machine_path(name)}/history", query), History)


def history_csv(session: Session, name: str, **options: Unpack[p.SeriesOptions]) -> Flow[str]:
    """The same as `history`, as CSV.

    >>> client.history_csv("workstation", metric="cpu_percent").split(",")[0]
    'time'
    """
    query = p.parameters(p.SERIES, options)
    return text(session, f"{_machine_path(name)}/history", {**query, "format": "csv"})


def histories(
    session: Session, machine: str | Iterable[str], **options: Unpack[p.SeriesOptions]
) -> Flow[Histories]:
    """Metrics of several machines over time, in steps of the same length.

    >>> [one.machine for one in client.histories(["laptop", "workstation"], metric="up").machines]
    ['laptop', 'workstation']
    """
    query = p.parameters(p.SEVERAL_SERIES, {"machine": machine, **options})
    return answer(session, get("/api/history", query), Histories)


def events(session: Session, **options: Unpack[p.EventOptions]) -> Flow[Events]:
    """A page of events, newest first, or with `after` the next ones, oldest first.

    `wait_s` waits up to 60 s for one to happen. `every_event` and `follow` fetch all pages by themselves.

    >>> client.events(machine="workstation", type=["online", "offline"], limit=1).events[0].type
    'online'
    """
    query = p.parameters(p.EVENTS, options)
    wait_s = p.take_wait_s(query)
    return answer(session, get("/api/events", query, wait_s=wait_s, is_kept=not wait_s), Events)


def availability(session: Session, name: str, **between: Unpack[p.RangeOptions]) -> Flow[Availability]:
    """How long a machine had each status; raises UnknownMachine.

    >>> client.availability("workstation", from_="-1h").ratio
    1.0
    """
    path = f"{_machine_path(name)}/availability"
    return answer(session, get(path, p.parameters(p.RANGE, between)), Availability)


def availabilities(session: Session, **between: Unpack[p.RangeOptions]) -> Flow[FleetAvailability]:
    """How long each machine had each status, and how often it was offline, the least reliable first.

    >>> sorted(one.machine for one in client.availabilities().machines)
    ['laptop', 'workstation']
    """
    return answer(session, get("/api/availability", p.parameters(p.RANGE, between)), FleetAvailability)


def services(session: Session) -> Flow[HostServices]:
    """The other services on all hosts, and whether they answer.

    >>> client.services().services["grafana"]["status"]
    'active'
    """
    return answer(session, get("/api/services"), HostServices)


def system(session: Session) -> Flow[System]:
    """The server's own machine: its CPU, memory and disk.

    >>> client.system().cpu_percent >= 0
    True
    """
    return answer(session, get("/api/system"), System)


def health(session: Session) -> Flow[Health]:
    """Whether the server answers, and the state of its parts.

    >>> client.health().status
    'ok'
    """
    return answer(session, get("/health", is_kept=False), Health)


def ready(session: Session) -> Flow[Health]:
    """Whether the server's answers are up to date: `status` is then `ok`, else `not_ready`.

    >>> client.ready().status
    'ok'
    """
    return answer(session, get("/health/ready", is_kept=False, good=(503,)), Health)


def ask(session: Session, path: str, query: Mapping[str, Any] | None = None) -> Flow[dict[str, Any]]:
    """The JSON object at any path, which begins with `/`.

    >>> client.ask("/api/machines")["total"]
    2
    """
    return ask_flow(session, get(checked_path(path, query), query, is_kept=False))


def text(session: Session, path: str, query: Mapping[str, Any] | None = None) -> Flow[str]:
    """The text at any path, which begins with `/`.

    >>> client.text("/api/machines/workstation/history", {"format": "csv"}).split(",")[0]
    'time'
    """
    request = get(checked_path(path, query), query, is_kept=False)
    return (yield from fetch(session, request)).content.decode("utf-8", "replace")


def _machine_path(name: str) -> str:
    """The path of a machine, even if a shell passed its name as bytes that are not UTF-8."""
    return f"/api/machines/{quote(checked_name(name), safe='', errors='surrogateescape')}"
