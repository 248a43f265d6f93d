"""The questions about where to send work, and the promises that are made with the answers."""

import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import orjson

from machines_server.core.advice import Advice, Ask, Candidate, as_gb
from machines_server.core.fleet import Fleet
from machines_server.core.leases import Lease, promises
from machines_server.core.live import Live
from machines_server.core.memory import RAM, RECLAIMABLE, Share
from machines_server.core.router import advise
from machines_server.core.sample import State
from machines_server.core.status import Status
from machines_server.core.times import rfc3339
from machines_server.errors import BadParameterError, ConflictError, NoMachineError
from machines_server.route_parameters import LeaseParameters, RenewParameters, checked, from_query
from machines_server.store.leases import Book, LeaseBook, Request

MAX_KEY = 200
"""Characters of an Idempotency-Key."""
MAX_GIVEN = 1000
"""So many different questions are remembered while nothing changes."""
NEAR_MISSES = 3
"""So many stand in the message when no machine is fit."""


class Routing:
    """Advice and leases, by what stands of the fleet and by the leases of all processes."""

    def __init__(
        self, fleet: Callable[[], Fleet], recent_fleet: Callable[[], Fleet], leases: LeaseBook
    ) -> None:
        """`recent_fleet` may be a moment behind: enough for advice, which promises nothing."""
        self._fleet, self._recent_fleet, self._leases = fleet, recent_fleet, leases
        self._given = _Given()

    def route(self, query: Mapping[str, list[str]]) -> bytes:
        """The machine to use, the other candidates, and why not the rest, as JSON; or NoMachineError."""
        ask, fleet, book = from_query(query).ask(), self._recent_fleet(), self._leases.read()
        given = self._given
        if not given.stands(fleet, book):
            given = self._given = _Given(fleet, book)
        answer = given.answers.get(ask)
        if answer is None:
            try:
                answer = orjson.dumps(_answer(_advised(ask, fleet, book)))
            except NoMachineError as error:
                answer = error
            if len(given.answers) < MAX_GIVEN:
                given.answers[ask] = answer
        if isinstance(answer, NoMachineError):
            raise answer.with_traceback(None)
        return answer

    def lease(self, body: object, key: str | None) -> dict[str, Any]:
        """The same with a promise; `key` makes a repetition of the same request the same lease."""
        parameters = checked(LeaseParameters, body)
        if key is not None and not 1 <= len(key) <= MAX_KEY:
            raise BadParameterError("Idempotency-Key", f"must have 1 to {MAX_KEY} characters")
        ask, fleet = parameters.ask(), self._fleet()
        advice: Advice | None = None

        def choose(book: Book) -> Candidate:
            nonlocal advice
            advice = _advised(ask, fleet, book)
            return advice.candidates[0]

        request = Request(parameters.holder, parameters.ttl_s, parameters.text(), key)
        lease = self._leases.reserve(fleet, request, choose)
        chosen = {"candidates": [], "rejected": []} if advice is None else _answer(advice)
        return chosen | self._as_json(lease, fleet)

    def renew(self, lease: str, body: object) -> dict[str, Any]:
        """Let a lease begin its time anew; ConflictError when its machine cannot be used any more."""
        parameters, fleet = checked(RenewParameters, body), self._fleet()

        def check(found: Lease) -> None:
            if reason := broken(found, fleet):
                message = f"The lease on {found.machine} is broken: {reason}. Release it and ask for another."
                raise ConflictError("lease_broken", message)

        return self._as_json(self._leases.renew(fleet, lease, parameters.ttl_s, check), fleet)

    def release(self, lease: str) -> dict[str, Any]:
        """End a lease."""
        fleet = self._fleet()
        return self._as_json(self._leases.release(fleet, lease), fleet)

    def leases(self) -> dict[str, Any]:
        """All that hold, the one that ends first before the others."""
        fleet = self._fleet()
        leases = self._leases.read().leases
        shares = _promised(leases, fleet)
        found = sorted(leases, key=lambda lease: (lease.ends_in_s, lease.id))
        return {
            "leases": [_lease_as_json(lease, shares[lease.id], fleet) for lease in found],
            "total": len(found),
            "expired_10m": self._leases.expired(),
        }

    def _as_json(self, lease: Lease, fleet: Fleet) -> dict[str, Any]:
        """A lease with what it promises beside the others; nothing once it has ended."""
        shares = _promised(self._leases.read().leases, fleet)
        return _lease_as_json(lease, shares.get(lease.id, ()), fleet)


def _promised(leases: Sequence[Lease], fleet: Fleet) -> dict[str, tuple[Share, ...]]:
    """What each lease promises now, by its id."""
    by_machine: dict[str, list[Lease]] = {}
    for lease in leases:
        by_machine.setdefault(lease.machine.casefold(), []).append(lease)
    found = {}
    for name, here in by_machine.items():
        live = fleet.live(name)
        for lease, shares in promises(here, live, fleet.since(live) if live else {}):
            found[lease.id] = shares
    return found


class _Given:
    """Answers that were given and stand while fleet and leases are the same; many agents ask the same."""

    def __init__(self, fleet: Fleet | None = None, book: Book | None = None) -> None:
        self._fleet, self._leases = fleet, book and self._key(book)
        self.answers: dict[Ask, bytes | NoMachineError] = {}

    def stands(self, fleet: Fleet, book: Book) -> bool:
        """Whether what is known is still the same."""
        return fleet is self._fleet and self._key(book) == self._leases

    def _key(self, book: Book) -> tuple[Any, ...]:
        """While there are leases, how long they last is told anew each second."""
        leases = tuple((lease.id, lease.ends_at) for lease in book.leases)
        return (int(time.time()), leases) if leases else ()


def broken(lease: Lease, fleet: Fleet) -> str | None:
    """Why the machine of a lease cannot be used, or None; what we do not know is no reason."""
    live = fleet.live(lease.machine)
    if live is None:
        return "its machine file was removed"
    if live.verdict.status is Status.OFFLINE:
        return f"it is offline ({live.verdict.reason})"
    if (live.machine.hostname, live.machine.port) != (lease.hostname, lease.port):
        return "its address was changed"
    if live.ollama in (State.UNREACHABLE, State.ERROR):
        return f"its Ollama does not answer ({live.ollama_reason})"
    return None


def _advised(ask: Ask, fleet: Fleet, book: Book) -> Advice:
    advice = advise(ask, fleet, book.leases, book.load_times, time.time())
    if advice.candidates:
        return advice
    near = "; ".join(f"{one.name}: {one.reason}" for one in advice.rejected[:NEAR_MISSES])
    message = f"No machine is fit for {ask.model}: {near or 'there is none'}."
    rejected = orjson.dumps([one.as_json() for one in advice.rejected])
    raise NoMachineError(message, rejected, advice.retry_after_s)


def _answer(advice: Advice) -> dict[str, Any]:
    candidates = [one.as_json() for one in advice.candidates]
    best = candidates[0]
    return {
        "machine": best["name"],
        **{key: best[key] for key in ("hostname", "port", "url", "model", "warm")},
        "candidates": candidates,
        "rejected": [one.as_json() for one in advice.rejected],
    }


def _lease_as_json(lease: Lease, shares: tuple[Share, ...], fleet: Fleet) -> dict[str, Any]:
    live = fleet.live(lease.machine)
    host = f"[{lease.hostname}]" if ":" in lease.hostname else lease.hostname
    return {
        "lease": lease.id,
        "machine": lease.machine,
        "hostname": lease.hostname,
        "port": lease.port,
        "url": f"http://{host}:{lease.port}",
        "model": lease.model,
        "warm": lease.is_warm,
        "holder": lease.holder,
        "ttl_s": lease.ttl_s,
        "created_at": rfc3339(lease.created_at),
        "expires_at": rfc3339(lease.ends_at),
        "gpus": [_share_as_json(share, live) for share in shares if share.of not in (RAM, RECLAIMABLE)],
        **{f"{share.of}_gb": as_gb(share.size_bytes) for share in shares if share.of in (RAM, RECLAIMABLE)},
        "broken": broken(lease, fleet),
    }


def _share_as_json(share: Share, live: Live | None) -> dict[str, Any]:
    gpus = live.host.gpu if live and live.host else ()
    index = next((gpu.index for gpu in gpus if gpu.uuid == share.of), None)
    return {"uuid": share.of, "index": index, "vram_gb": as_gb(share.size_bytes)}
