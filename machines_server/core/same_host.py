"""Finds machine files that describe the same host, by their endpoints or by the GPUs of the host."""

from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from ipaddress import ip_address

from machines_server.core.machine import Machine, Problem
from machines_server.core.state import MachineState
from machines_server.core.status import Status

Address = tuple[str, str, int, str]
"""Kind of endpoint, host, port, and the path that a proxy puts before its own."""
_ADVICE = "a lease on a GPU counts for both; network.gpus says which GPUs each Ollama uses"


def same_endpoints(machines: Iterable[Machine]) -> Iterator[Problem]:
    """A warning for each file that declares an endpoint that an earlier file also declares."""
    first: dict[Address, Machine] = {}
    for machine in machines:
        addresses = _addresses(machine)
        shared = [one for one in addresses if first.setdefault(one, machine) is not machine]
        if shared:
            kind, _, port, prefix = shared[0]
            below = f" below {prefix}" if prefix else ""
            what = f"{kind} at {machine.endpoints[kind].hostname} port {port}{below}"
            yield _warning(first[shared[0]], machine, f"both have the {what}")


def same_cards(states: Iterable[MachineState]) -> tuple[Problem, ...]:
    """A warning for each file whose host reports a GPU that the host of an earlier file also reports.

    Only hosts that answer now count, since cards move, and only pairs that share no endpoint.
    """
    first: dict[str, MachineState] = {}
    warnings: dict[tuple[str, str], Problem] = {}
    for state in sorted(states, key=lambda state: state.machine.file):
        if state.verdict.status is not Status.ONLINE or state.machine.sidecar is None or not state.host:
            continue
        for gpu in state.host.gpu:
            one, other = first.setdefault(gpu.uuid, state).machine, state.machine
            if one is not other and not set(_addresses(one)) & set(_addresses(other)):
                warnings.setdefault(
                    (one.file, other.file), _warning(one, other, f"both report the GPU {gpu.uuid}")
                )
    return tuple(warnings.values())


def _warning(one: Machine, other: Machine, why: str) -> Problem:
    message = f"{one.file} and {other.file} describe one host: {why}; {_ADVICE}"
    return Problem(other.file, message, key="network.hostname", severity="warning")


def _addresses(machine: Machine) -> Sequence[Address]:
    """The addresses of a machine, model servers first: a shared one matters more than a shared sidecar."""
    endpoints = sorted(machine.endpoints.values(), key=lambda one: one.reports_host)
    return [(one.kind, _normal(one.hostname), one.port, one.prefix) for one in endpoints]


def _normal(hostname: str) -> str:
    """A host name in the form that is compared: all loopback addresses are one host."""
    host = hostname.casefold().rstrip(".")
    with suppress(ValueError):
        address = ip_address("127.0.0.1" if host == "localhost" else host)
        host = "127.0.0.1" if address == ip_address("::1") else str(address)
    return host
