"""Checks a running server from outside, and says how to fix each fault."""

from collections.abc import Iterator

from machines_server.cli.finding import Check, Verdict
from machines_server.cli.fleet_text import reason_and_hint
from machines_server.cli.http import RETRIES, client_of
from machines_server.client import (
    ClientError,
    Health,
    Infrastructure,
    MachineState,
    ServerUnreachable,
)
from machines_server.core.machine import Problem

_VERDICTS: dict[str, Verdict] = {"online": "ok", "degraded": "warning", "unknown": "warning"}


def examine_server(url: str) -> list[Check]:
    """Check a running server, its machine files and its machines through its API."""
    client = client_of(url, retries=RETRIES)
    try:
        return [*_server(url, client.ready()), *_fleet(client.infrastructure())]
    except ServerUnreachable as error:
        hint = "start it, or name another with --server or MACHINES_URL; without them, this host is examined"
        return [Check("server", "error", str(error), hint)]
    except ClientError as error:
        return [Check("server", "error", str(error))]


def _server(url: str, health: Health) -> Iterator[Check]:
    is_ready = health.status == "ok"
    finding = f"{url}, version {health.version}: {health.message or health.status}"
    hint = "run `machines-server doctor` on its host, without --server and MACHINES_URL"
    yield Check("server", "ok" if is_ready else "error", finding, None if is_ready else hint)
    for warning in health.warnings:
        yield Check("exposure", "warning", warning)
    poller, store = health.poller, health.store
    verdict: Verdict = "ok" if poller.state == "running" and not poller.message else "error"
    yield Check("poller", verdict, poller.message or poller.state)
    yield Check("store", "ok" if store.state == "ok" else "error", store.message or store.state)


def _fleet(fleet: Infrastructure) -> Iterator[Check]:
    for problem in fleet.errors:
        verdict: Verdict = "error" if problem.severity == "error" else "warning"
        where = Problem(problem.file, problem.message, problem.line, problem.column, problem.key)
        yield Check("machine files", verdict, str(where))
    if not fleet.machines:
        yield Check("machine files", "warning", "there are no machines", "add a file to its MACHINES_DIR")
    yield from map(_machine, fleet.machines)


def _machine(machine: MachineState) -> Check:
    reason, hint = reason_and_hint(machine.body)
    verdict = _VERDICTS.get(machine.status, "error")
    if verdict == "ok" and reason:
        verdict = "warning"
    finding = f"{machine.status}: {reason}" if reason else machine.status
    return Check(machine.name, verdict, finding, hint or None)
