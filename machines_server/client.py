"""The client for agents: which machine to send a job to, and a promise that it stays free meanwhile.

Needs requests and nothing else of machines-server.

    with Client().lease("llama3.1:70b", min_free_vram_gb=4) as machine:
        requests.post(f"{machine.url}/api/generate", json={"model": machine.model, "prompt": "Hello"})
"""

import logging
import os
import socket
import threading
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, fields
from types import TracebackType
from typing import Any, Self, TypedDict, TypeVar, Unpack
from uuid import uuid4

import requests

DEFAULT_URL = "http://127.0.0.1:3038"
CONNECT_TIMEOUT_S = 1.0
"""How long it may take to connect to a machine before the next is tried."""
_RENEWALS = 3
"""A lease is renewed so often in the time that it has."""
_RETRY_S = 0.5

T = TypeVar("T")

log = logging.getLogger(__name__)


class ClientError(RuntimeError):
    """Base of all: there was no answer, or not the one that was asked for."""


class ServerUnreachable(ClientError):  # noqa: N818  named for what happened, as those below
    """The machines-server could not be asked."""


class BadRequest(ClientError):  # noqa: N818  named for what happened
    """The server refused the question; `parameter` is what it could not use."""

    def __init__(self, message: str, parameter: str | None = None) -> None:
        super().__init__(message)
        self.parameter = parameter


class LeaseLost(ClientError):  # noqa: N818  named for what happened
    """A lease does not hold any more: it expired, was released by another, or its machine went away."""


@dataclass(frozen=True)
class Rejection:
    """Why a machine is not fit: a code for programs, a sentence for people."""

    name: str
    code: str
    reason: str


class NoMachine(ClientError):  # noqa: N818  named for what happened
    """No machine is fit: `rejected` says why for each, nearest miss first.

    `retry_after_s` is None when waiting cannot help. `body` is what the server answered.
    """

    def __init__(self, message: str, rejected: Iterable[Rejection], body: Mapping[str, Any]) -> None:
        super().__init__(message)
        self.rejected, self.body = tuple(rejected), body
        self.retry_after_s: float | None = body.get("retry_after_s")


class Constraints(TypedDict, total=False):
    """What a machine must offer: GiB free on one GPU, tokens of context, and what its file says.

    `where` is a mapping of paths to values, or texts `key.path:value`. `cold` allows a machine that would
    have to load the model.
    """

    min_free_vram_gb: float
    min_context: int
    role: str
    tags: Iterable[str]
    exclude: Iterable[str]
    where: Mapping[str, object] | Iterable[str]
    cold: bool


@dataclass(frozen=True)
class Machine:
    """Where to send a request: what its Ollama calls the model, and whether it has it in memory."""

    name: str
    hostname: str
    port: int
    url: str
    model: str
    warm: bool


@dataclass(frozen=True)
class Candidate(Machine):
    """A machine that is fit; `free_vram_gb` is in GiB on one GPU, less what is leased, None if unknown."""

    reason: str
    free_vram_gb: float | None
    leases: int
    sampled_at: str | None


@dataclass(frozen=True)
class Pick(Machine):
    """The machine to use, all candidates in their order, and why not the others."""

    candidates: tuple[Candidate, ...] = field(repr=False)
    rejected: tuple[Rejection, ...] = field(repr=False)


class Client:
    """Asks one machines-server; may be shared by threads."""

    def __init__(self, url: str | None = None, *, timeout_s: float = 10.0) -> None:
        """`url` is MACHINES_URL or http://127.0.0.1:3038 unless given; `timeout_s` is for each question."""
        self.url = (url or os.environ.get("MACHINES_URL") or DEFAULT_URL).rstrip("/")
        self._timeout_s = timeout_s

    def pick(
        self,
        model: str,
        *,
        connect_timeout_s: float | None = CONNECT_TIMEOUT_S,
        **constraints: Unpack[Constraints],
    ) -> Pick:
        """The best machine that can be connected to from here; raises NoMachine.

        With a `connect_timeout_s` of None no connection is tried.
        """
        body = self.route(model, **constraints)
        candidates = tuple(_made(Candidate, one) for one in body["candidates"])
        unconnected: list[Rejection] = []
        for candidate in candidates:
            if fault := _cannot_connect(candidate, connect_timeout_s):
                unconnected.append(Rejection(candidate.name, "connection_failed", fault))
                continue
            machine = {one.name: getattr(candidate, one.name) for one in fields(Machine)}
            return Pick(**machine, candidates=candidates, rejected=(*unconnected, *_rejections(body)))
        raise _unconnected(model, unconnected, body)

    def lease(
        self,
        model: str,
        *,
        ttl_s: float = 60,
        holder: str | None = None,
        connect_timeout_s: float | None = CONNECT_TIMEOUT_S,
        **constraints: Unpack[Constraints],
    ) -> "Lease":
        """The best machine that can be connected to from here, promised to this caller; raises NoMachine.

        It holds from now on and is renewed in the background until it is released, as `with` does at its end.
        """
        excluded, unconnected = _many(constraints.get("exclude", ())), list[Rejection]()
        while True:
            began = time.monotonic()
            constraints["exclude"] = excluded
            try:
                body = self.reserve(model, ttl_s=ttl_s, holder=holder, **constraints)
            except NoMachine as error:
                if unconnected:
                    raise _unconnected(model, unconnected, error.body) from None
                raise
            lease = Lease(self, body, began)
            fault = _cannot_connect(lease.machine, connect_timeout_s)
            if not fault:
                return lease
            lease.release()
            unconnected.append(Rejection(lease.name, "connection_failed", fault))
            excluded.append(lease.name)

    def leases(self) -> list[dict[str, Any]]:
        """All leases that hold, whosever they are, as the server tells them."""
        return list(_value(self.ask("GET", "/api/leases"), "leases"))

    def route(self, model: str, **constraints: Unpack[Constraints]) -> dict[str, Any]:
        """The answer of `GET /api/route` as it is; raises NoMachine."""
        question = _question(model, constraints)
        question["cold"] = "true" if question["cold"] else "false"
        body = self.ask("GET", "/api/route", params=question)
        _value(body, "candidates")
        return body

    def reserve(
        self, model: str, *, ttl_s: float = 60, holder: str | None = None, **constraints: Unpack[Constraints]
    ) -> dict[str, Any]:
        """The answer of `POST /api/leases` as it is: a lease that nobody renews. Raises NoMachine."""
        question = _question(model, constraints)
        question |= {"ttl_s": ttl_s, "holder": holder or f"{socket.gethostname()}:{os.getpid()}"}
        key = {"Idempotency-Key": str(uuid4())}  # by which the server knows a request again
        try:
            return self.ask("POST", "/api/leases", json=question, headers=key)
        except ServerUnreachable:
            return self.ask("POST", "/api/leases", json=question, headers=key)

    def ask(self, method: str, path: str, **options: Any) -> dict[str, Any]:
        """The JSON object that the server answers; raises what `fetch` raises."""
        body = _json(self.fetch(method, path, **options), self.url)
        if not isinstance(body, dict):
            raise ClientError(f"{self.url} is not a machines-server: {path} is no JSON object")
        return body

    def fetch(self, method: str, path: str, **options: Any) -> requests.Response:
        """What the server answers; `options` are those of requests.

        Raises ServerUnreachable when there is no answer, and what fits the server's refusal.
        """
        try:
            response = requests.request(method, self.url + path, timeout=self._timeout_s, **options)
        except requests.RequestException as error:
            reason = "it is not there" if isinstance(error, requests.ConnectionError) else str(error)
            raise ServerUnreachable(f"{self.url} cannot be asked: {reason}") from error
        if not response.ok:
            raise _refusal(response.status_code, _json(response, self.url))
        return response


class Lease:
    """A machine that is promised to us, renewed in the background until `release()` or the end of `with`."""

    def __init__(self, client: Client, body: Mapping[str, Any], began: float) -> None:
        """`body` is what the server answered to a question asked at `began`, on the monotonic clock."""
        self._client = client
        self.id = str(_value(body, "lease"))
        self.machine = _made(Machine, {**body, "name": _value(body, "machine")})
        self.name, self.hostname, self.port = self.machine.name, self.machine.hostname, self.machine.port
        self.url, self.model, self.warm = self.machine.url, self.machine.model, self.machine.warm
        self.expires_at = str(_value(body, "expires_at"))
        self.lost: LeaseLost | None = None
        """Why the lease does not hold any more; None while it does."""
        self._ttl_s = float(_value(body, "ttl_s"))
        self._until = began + self._ttl_s
        self._ended = threading.Event()
        threading.Thread(target=self._keep, name=f"lease {self.id}", daemon=True).start()

    def check(self) -> None:
        """Raise LeaseLost unless the lease holds."""
        if self.lost is not None:
            raise self.lost

    def release(self) -> None:
        """End the lease; if the server cannot be asked, it ends by itself when its time is over."""
        if self._ended.is_set():
            return
        self._ended.set()
        try:
            self._client.ask("DELETE", f"/api/leases/{self.id}")
        except ClientError as error:
            log.debug("lease %s is left to expire: %s", self.id, error)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None
    ) -> None:
        self.release()

    def _keep(self) -> None:
        wait_s = self._ttl_s / _RENEWALS
        while not self._ended.wait(wait_s):
            began = time.monotonic()
            try:
                body = self._client.ask("POST", f"/api/leases/{self.id}/renew")
                self.expires_at = str(_value(body, "expires_at"))
                self._until, wait_s = began + self._ttl_s, self._ttl_s / _RENEWALS
                continue
            except LeaseLost as error:
                lost = error
            except ClientError as error:
                wait_s = min(_RETRY_S, self._ttl_s / _RENEWALS)
                if time.monotonic() + wait_s < self._until:
                    continue
                lost = LeaseLost(f"the lease on {self.name} could not be renewed in time: {error}")
            if not self._ended.is_set():
                log.warning("%s", lost)
                self.lost = lost
            return


def pick_machine_for(model: str, min_free_vram_gb: float = 0) -> tuple[str, str]:
    """Name and host of the machine to use; raises RuntimeError when there is none."""
    pick = Client().pick(model, min_free_vram_gb=min_free_vram_gb)
    return pick.name, pick.hostname


def _question(model: str, constraints: Constraints) -> dict[str, Any]:
    """In the words of the API."""
    where = constraints.get("where", ())
    if isinstance(where, Mapping):
        where = [f"{path}:{_text(value)}" for path, value in where.items()]
    return {
        "model": model,
        "min_free_vram_gb": constraints.get("min_free_vram_gb", 0),
        "min_context": constraints.get("min_context", 0),
        "role": constraints.get("role") or "",
        "tag": _many(constraints.get("tags", ())),
        "exclude": _many(constraints.get("exclude", ())),
        "where": _many(where),
        "cold": bool(constraints.get("cold", False)),
    }


def _many(values: Iterable[str]) -> list[str]:
    return [values] if isinstance(values, str) else list(values)


def _text(value: object) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


def _made(kind: type[T], values: Mapping[str, Any]) -> T:
    """One of our types from an answer that may hold more."""
    return kind(**{one.name: _value(values, one.name) for one in fields(kind)})  # type: ignore[arg-type]  # _value sees to it


def _value(body: Mapping[str, Any], key: str) -> Any:
    try:
        return body[key]
    except (KeyError, TypeError):
        raise ClientError(f"the answer has no {key}: is this a machines-server?") from None


def _rejections(body: Mapping[str, Any]) -> list[Rejection]:
    return [_made(Rejection, one) for one in body.get("rejected", ())]


def _json(response: requests.Response, url: str) -> Any:
    try:
        return response.json()
    except requests.JSONDecodeError:
        raise ClientError(f"{url} is not a machines-server: it does not answer in JSON") from None


def _refusal(status: int, body: Any) -> ClientError:
    if not isinstance(body, dict):
        return ClientError(f"HTTP status {status}: is this a machines-server?")
    code, message = body.get("error"), str(body.get("message", f"HTTP status {status}"))
    if code == "no_machine":
        return NoMachine(message, _rejections(body), body)
    if code in ("unknown_lease", "lease_broken"):
        return LeaseLost(message)
    if status in (400, 409, 413):
        return BadRequest(message, body.get("parameter"))
    return ClientError(message)


def _cannot_connect(machine: Machine, timeout_s: float | None) -> str | None:
    """Why no connection to a machine's Ollama can be made from here, or None if it can."""
    if timeout_s is None:
        return None
    try:
        socket.create_connection((machine.hostname, machine.port), timeout_s).close()
    except (OSError, UnicodeError) as error:
        return f"no connection from here to {machine.hostname}:{machine.port}: {error}"
    return None


def _unconnected(model: str, unconnected: list[Rejection], body: Mapping[str, Any]) -> NoMachine:
    failed = {one.name for one in unconnected}
    others = [one for one in _rejections(body) if one.name not in failed]
    reasons = "; ".join(f"{one.name}: {one.reason}" for one in unconnected)
    return NoMachine(f"No machine with {model} can be reached: {reasons}.", [*unconnected, *others], body)
