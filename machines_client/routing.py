"""The questions about where to send a job: advice and leases.

Each function is a flow and, under the same name, a method of both clients.
"""

import os
import socket
import time
from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import fields, replace
from typing import Any, NamedTuple, Protocol, Unpack, runtime_checkable
from urllib.parse import quote
from uuid import uuid4

from machines_client import parameters as p
from machines_client.answers import GrantedLease, HeldLease, Leases, Machine, Pick
from machines_client.arguments import checked_timeout_s
from machines_client.errors import BadRequest, ClientError, NoMachine, Rejection
from machines_client.flows import Connect, Flow, Session, answer, get, wait_for_machine
from machines_client.messages import Request

CONNECT_TIMEOUT_S = 1.0
"""How long to wait for a connection to a machine before trying the next."""


@runtime_checkable
class KeptLease(Protocol):
    """A Lease or an AsyncLease."""

    id: str

    def stop_renewing(self) -> None:
        """Stop renewing it, since somebody has released it or is about to."""


AnyLease = str | HeldLease | KeptLease
"""A lease, or its id."""


class Reserved(NamedTuple):
    """A new lease, and when it was granted on the monotonic clock."""

    granted: GrantedLease
    granted_at: float


def route(session: Session, model: str | None = None, **options: Unpack[p.RouteOptions]) -> Flow[Pick]:
    """The server's own advice, for a model or by the constraints alone; raises NoMachine.

    >>> [candidate.name for candidate in client.route(min_free_vram_gb=8).candidates]
    ['workstation', 'laptop']
    """
    return _route(session, p.parameters(p.ROUTE, {"model": model, **options}))


def pick(
    session: Session,
    model: str | None = None,
    *,
    connect_timeout_s: float | None = CONNECT_TIMEOUT_S,
    **options: Unpack[p.RouteOptions],
) -> Flow[Pick]:
    """The best machine that this host can connect to; raises NoMachine.

    With `wait_s` it waits for one to be fit. If `connect_timeout_s` is None no connection is tried.

    >>> client.pick("llama3.1:70b", min_free_vram_gb=4).name
    'workstation'
    """
    question = p.parameters(p.ROUTE, {"model": model, **options}, beside=["connect_timeout_s"])
    _check_connect_timeout_s(connect_timeout_s)
    return _pick(session, question, connect_timeout_s)


def reserve(session: Session, model: str, **options: Unpack[p.LeaseOptions]) -> Flow[GrantedLease]:
    """A lease that the caller renews and releases by its id; raises NoMachine. Mostly, `lease` is simpler.

    >>> reserved = client.reserve("llama3.1:70b", holder="night watch")
    >>> client.release(reserved.lease).holder
    'night watch'
    """
    question = _lease_question(model, options)
    question.setdefault("holder", f"{socket.gethostname()}:{os.getpid()}")
    wait_s = p.take_wait_s(question)
    # The key lets the server recognise a repeated request.
    key = {"Idempotency-Key": str(uuid4())}
    request = Request("POST", "/api/leases", body=question, headers=key, is_repeatable=True)
    return wait_for_machine(session, request, wait_s, GrantedLease)


def leases(session: Session) -> Flow[Leases]:
    """All leases in force.

    >>> client.leases().total
    0
    """
    return answer(session, get("/api/leases", is_kept=False), Leases)


def held_lease(session: Session, lease: AnyLease) -> Flow[HeldLease]:
    """A lease in force, by its id or itself; raises LeaseLost if it has ended."""
    return answer(session, get(_lease_path(lease), is_kept=False), HeldLease)


def renew(session: Session, lease: AnyLease, *, ttl_s: float | None = None) -> Flow[HeldLease]:
    """Restart the time of a lease; raises LeaseLost if it has ended or its machine cannot be used."""
    body = p.parameters(p.RENEW, {"ttl_s": ttl_s})
    return answer(session, Request("POST", f"{_lease_path(lease)}/renew", body=body), HeldLease)


def release(session: Session, lease: AnyLease) -> Flow[HeldLease]:
    """End a lease, by its id or itself; raises LeaseLost if it has ended."""
    path = _lease_path(lease)
    if isinstance(lease, KeptLease):
        lease.stop_renewing()
    return answer(session, Request("DELETE", path), HeldLease)


def check_lease(model: str, options: p.LeaseOptions) -> dict[str, p.Value]:
    """Check the question for a kept lease; raises TypeError or BadRequest if it cannot be asked."""
    return _lease_question(model, options, beside=("connect_timeout_s", "on_lost", "raise_if_lost"))


def reserve_reachable(
    session: Session, model: str, connect_timeout_s: float | None, options: p.LeaseOptions
) -> Flow[Reserved]:
    """A lease on the best machine that this host can connect to; raises NoMachine."""
    given = check_lease(model, options)
    _check_connect_timeout_s(connect_timeout_s)
    excluded, unconnected = _texts(given.get("exclude")), list[Rejection]()
    ends = time.monotonic() + p.take_wait_s(given)
    while True:
        options = {**options, "exclude": excluded, "wait_s": max(ends - time.monotonic(), 0.0)}
        try:
            granted = yield from reserve(session, model, **options)
        except NoMachine as error:
            if unconnected:
                raise _none_connected(unconnected, error.rejected, error.body) from None
            raise
        granted_at = time.monotonic()
        fault = yield from _fault(granted.hostname, granted.port, connect_timeout_s)
        if not fault:
            return Reserved(granted, granted_at)
        with suppress(ClientError):  # it expires by itself
            yield from release(session, granted.lease)
        unconnected.append(Rejection(granted.machine, "connection_failed", fault))
        excluded = [*excluded, granted.machine]


def _lease_question(
    model: str | None, options: p.LeaseOptions, beside: Iterable[str] = ()
) -> dict[str, p.Value]:
    if model is None:
        raise TypeError(p.NEEDS_MODEL)
    return p.parameters(p.LEASE, {"model": model, **options}, beside=beside)


def _pick(session: Session, question: dict[str, p.Value], connect_timeout_s: float | None) -> Flow[Pick]:
    advice = yield from _route(session, question)
    unconnected: list[Rejection] = []
    for candidate in advice.candidates:
        if fault := (yield from _fault(candidate.hostname, candidate.port, connect_timeout_s)):
            unconnected.append(Rejection(candidate.name, "connection_failed", fault))
            continue
        chosen = {one.name: getattr(candidate, one.name) for one in fields(Machine)}
        return replace(advice, **chosen, rejected=(*unconnected, *advice.rejected))
    raise _none_connected(unconnected, advice.rejected, advice.body)


def _route(session: Session, question: dict[str, p.Value]) -> Flow[Pick]:
    wait_s = p.take_wait_s(question)
    return wait_for_machine(session, get("/api/route", question), wait_s, Pick)


def _check_connect_timeout_s(value: float | None) -> None:
    if value is not None:
        checked_timeout_s("connect_timeout_s", value)


def _fault(hostname: str, port: int, timeout_s: float | None) -> Flow[str | None]:
    """Why this host cannot connect to a machine's model server, or None if it can."""
    if timeout_s is None:
        return None
    fault: str | None = yield Connect(hostname, port, timeout_s)
    return fault and f"no connection from here to {hostname}:{port}: {fault}"


def _none_connected(
    unconnected: list[Rejection], rejected: tuple[Rejection, ...], body: Mapping[str, Any]
) -> NoMachine:
    failed = {one.name for one in unconnected}
    others = [one for one in rejected if one.name not in failed]
    reasons = "; ".join(f"{one.name}: {one.reason}" for one in unconnected)
    return NoMachine(f"No suitable machine can be reached: {reasons}.", [*unconnected, *others], body)


def _texts(value: p.Value | None) -> list[str]:
    return list(value) if isinstance(value, list) else []


def _lease_path(lease: AnyLease) -> str:
    name = (
        lease.lease if isinstance(lease, HeldLease) else lease.id if isinstance(lease, KeptLease) else lease
    )
    if not isinstance(name, str):
        raise TypeError(f"lease takes a lease or its id, not {name!r}")
    if not name:
        raise BadRequest("The id of the lease is empty.", "lease")
    return f"/api/leases/{quote(name, safe='')}"
