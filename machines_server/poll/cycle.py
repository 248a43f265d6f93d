"""One poll cycle: poll every endpoint of every machine, and turn each answer or failure into a result."""

import threading
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from functools import lru_cache

from machines_server.core.host_services import OWN_HOST, ServiceResult
from machines_server.core.machine import Endpoint, HostService, Machine
from machines_server.core.reasons import Reason
from machines_server.core.sample import PollResult, Sample, State
from machines_server.errors import BadAnswerError, NoAccessError
from machines_server.failure_log import logger_of_failures
from machines_server.poll.failures import UNREADABLE, Failure
from machines_server.poll.fetch import Fetched, Fetcher
from machines_server.poll.host_services import service_result
from machines_server.poll.targets import AccessOf, Target, no_access
from machines_server.runtimes.base import Kinds, Reading, Runtime
from machines_server.runtimes.hints import hint
from machines_server.runtimes.kinds import KINDS
from machines_server.store.api import Sink

log = logger_of_failures(__name__)

_SAME_CLOCK_S = 3.0
_NO_CLOCK_S = 100 * 365 * 86_400.0
"""A clock further off is ignored: without a battery, clocks start in 1970."""
_STATE_AFTER = {
    Failure.UNREACHABLE: State.UNREACHABLE,
    Failure.SILENT: State.BUSY,
    Failure.BAD_ANSWER: State.ERROR,
    Failure.UNEQUIPPED: State.UNASKED,
}


@dataclass(frozen=True, slots=True)
class OwnFault:
    """This server could not poll an endpoint, through no fault of the host."""

    machine: str
    endpoint: Endpoint
    reason: str


Polled = PollResult | Sample | ServiceResult | OwnFault


class AnswerReader:
    """Reads the answers of all endpoints by kind, one at a time; keep one instance for all polls.

    Threads share it, since an answer is compared with the previous one, whichever thread received that.
    """

    def __init__(self, kinds: Kinds = KINDS) -> None:
        self._kinds, self._lock = kinds, threading.Lock()
        self._runtimes: dict[str | tuple[str, str], Runtime] = {}
        """By URL, and credential if there is one: a proxy may choose the server by it."""
        self._logged: dict[tuple[str, str], set[str]] = {}

    def url(self, endpoint: Endpoint) -> str:
        """Where an endpoint is polled."""
        return endpoint.url + self._kinds[endpoint.kind].path

    def needs_date(self, endpoint: Endpoint) -> bool:
        """Return whether the Date header of its answers is needed."""
        return self._kinds[endpoint.kind].needs_date

    def is_signed(self, endpoint: Endpoint) -> bool:
        """Return whether it may require signed requests."""
        return self._kinds[endpoint.kind].is_signed

    def read(self, endpoint: Endpoint, url: str, body: bytes) -> Reading:
        """Read the answer of an endpoint; raises BadAnswerError."""
        key = url if endpoint.credential is None else (url, endpoint.credential)
        with self._lock:
            runtime = self._runtimes.get(key)
            if runtime is None:
                runtime = self._runtimes[key] = self._kinds[endpoint.kind]()
            return runtime.read(body)

    def remark(self, machine: str, endpoint: Endpoint, url: str, reading: Reading) -> str | None:
        """What is odd about an answer, or None; logged when the set of odd fields changes."""
        odd, key = reading.oddities, (url, machine)
        if not odd:
            if key in self._logged:
                with self._lock:
                    self._logged.pop(key, None)
            return None
        with self._lock:
            is_new = self._logged.get(key) != odd.kinds
            self._logged[key] = odd.kinds
        if is_new:
            log.warning("machine %s: %s: %s", machine, endpoint.kind, odd)
        return str(odd)

    def hint(self, machine: Machine, endpoint: Endpoint, state: State, reason: Reason) -> str | None:
        """How to fix a failure."""
        is_elsewhere = endpoint.reports_host and endpoint.hostname != machine.hostname
        host_key = "network.sidecar_hostname" if is_elsewhere else "network.hostname"
        kind = self._kinds[endpoint.kind]
        return hint(kind, endpoint, machine.file, state, reason.code, host_key=host_key)

    def forget_removed(self, machines: Iterable[Machine]) -> None:
        """Forget what was read at URLs that none of these machines has."""
        urls = {self.url(endpoint) for machine in machines for endpoint in machine.endpoints.values()}
        with self._lock:
            self._runtimes = {
                key: runtime
                for key, runtime in self._runtimes.items()
                if (key if isinstance(key, str) else key[0]) in urls
            }
            self._logged = {key: kinds for key, kinds in self._logged.items() if key[0] in urls}


def poll_all(
    machines: Iterable[Machine],
    fetcher: Fetcher,
    answers: AnswerReader,
    access: AccessOf = no_access,
    own_services: Iterable[HostService] = (),
    *,
    needs_clocks: bool = False,
) -> Iterator[Polled | None]:
    """Yield results as they arrive, a Sample when a machine is complete, and None while waiting.

    An endpoint whose credential cannot be used is not polled. If nothing else of its machine answers, there
    is no Sample: nothing is known about the machine. `needs_clocks` reads the clocks of all endpoints, not
    only of those whose answers depend on it.
    """
    machines = tuple(machines)
    services = _services(machines, own_services)
    asked: dict[Target, list[tuple[Machine, Endpoint]]] = {}
    dated = set()
    ended: dict[str, dict[str, PollResult]] = {}
    for machine in machines:
        for endpoint in machine.endpoints.values():
            url = answers.url(endpoint)
            try:
                needed = access(endpoint) if endpoint.needs_access else None
                target = Target(url, needed, answers.is_signed(endpoint))
            except NoAccessError as error:
                result = _unasked(machine, endpoint, error)
                yield result
                yield from _completed(machine, result, ended)
                continue
            asked.setdefault(target, []).append((machine, endpoint))
            if needs_clocks or answers.needs_date(endpoint):
                dated.add(url)
    for fetched in fetcher.fetch([*asked, *services] if services else asked, dated):
        if fetched is None:
            yield None
            continue
        for name, service in services.get(fetched.target, ()):
            yield service_result(name, service, fetched, time.time())
        for machine, endpoint in asked.get(fetched.target, ()):
            polled = _result(machine, endpoint, fetched, answers)
            yield polled
            if isinstance(polled, PollResult):
                yield from _completed(machine, polled, ended)


def _services(
    machines: Iterable[Machine], own_services: Iterable[HostService]
) -> dict[Target, list[tuple[str, HostService]]]:
    """The services to request, by target, with the names of their machines."""
    services: dict[Target, list[tuple[str, HostService]]] = {}
    found = [(machine.name, service) for machine in machines for service in machine.services]
    for name, service in [*found, *((OWN_HOST, service) for service in own_services)]:
        services.setdefault(Target(service.url), []).append((name, service))
    return services


def _completed(
    machine: Machine, result: PollResult, ended: dict[str, dict[str, PollResult]]
) -> Iterator[Sample]:
    """Note a result, and yield the Sample of a machine whose endpoints have all ended."""
    results = ended.setdefault(machine.name, {})
    results[result.endpoint.kind] = result
    if len(results) < len(machine.endpoints):
        return
    del ended[machine.name]
    states = {one.state for one in results.values()}
    if State.OK in states or State.UNASKED not in states:
        yield Sample(machine.name, {kind: results[kind] for kind in machine.endpoints})


def _unasked(machine: Machine, endpoint: Endpoint, error: NoAccessError) -> PollResult:
    return PollResult(
        machine=machine.name,
        endpoint=endpoint,
        state=State.UNASKED,
        at=time.time(),
        took_s=0.0,
        reason=error.reason.text,
        hint=error.hint or None,
        code=error.reason.code,
    )


def poll_into(
    sink: Sink,
    polled: Iterator[Polled | None],
    note: Callable[[PollResult], None],
    is_ending: Callable[[], bool],
) -> list[OwnFault] | None:
    """Put what `poll_all` yields into a sink; `note` sees each result first.

    Returns the endpoints that this server could not poll, or None if it was stopped before the end.
    """
    faults = []
    for one in polled:
        if is_ending():
            return None
        match one:
            case PollResult():
                note(one)
                sink.put(one)
            case Sample() | ServiceResult():
                sink.put(one)
            case OwnFault():
                faults.append(one)
    return faults


def _result(
    machine: Machine, endpoint: Endpoint, fetched: Fetched, answers: AnswerReader
) -> PollResult | OwnFault:
    if fetched.failure is Failure.OWN:
        return OwnFault(machine.name, endpoint, fetched.reason.text if fetched.reason else "")
    at = time.time()
    if fetched.failure is not None:
        reason = fetched.reason or UNREADABLE
        return _failed(machine, endpoint, fetched, answers, at, _STATE_AFTER[fetched.failure], reason)
    try:
        reading = answers.read(endpoint, fetched.url, fetched.body)
        odd = answers.remark(machine.name, endpoint, fetched.url, reading)
    except BadAnswerError as error:
        return _failed(machine, endpoint, fetched, answers, at, State.ERROR, error.reason)
    except Exception:  # a bug in reading one answer must not stop the cycle
        log.exception("an answer of %s could not be read", fetched.url)
        return _failed(machine, endpoint, fetched, answers, at, State.ERROR, UNREADABLE)
    return PollResult(
        machine=machine.name,
        endpoint=endpoint,
        state=State.OK,
        at=at,
        took_s=fetched.took_s,
        reason=f"{fetched.remark}; {odd}" if fetched.remark and odd else fetched.remark or odd,
        answer=reading.state,
        clock_ahead_s=_clock_ahead_s(fetched.date, at),
    )


def _failed(
    machine: Machine,
    endpoint: Endpoint,
    fetched: Fetched,
    answers: AnswerReader,
    at: float,
    state: State,
    reason: Reason,
) -> PollResult:
    return PollResult(
        machine=machine.name,
        endpoint=endpoint,
        state=state,
        at=at,
        took_s=fetched.took_s,
        reason=reason.text,
        clock_ahead_s=_clock_ahead_s(fetched.date, at),
        hint=answers.hint(machine, endpoint, state, reason),
        code=reason.code,
    )


def _clock_ahead_s(date: bytes | None, at: float) -> float | None:
    """How far a host's clock is ahead of ours, from its Date header in whole seconds; None if unknown."""
    host_time = None if date is None else _epoch_s(date)
    if host_time is None:
        return None
    ahead_s = host_time - at
    if abs(ahead_s) > _NO_CLOCK_S:
        return None
    return 0.0 if abs(ahead_s) < _SAME_CLOCK_S else ahead_s


@lru_cache(maxsize=64)
def _epoch_s(date: bytes) -> float | None:
    """A Date header as epoch seconds, or None if invalid; most hosts of a cycle send the same."""
    try:
        return parsedate_to_datetime(date.decode("ascii").strip()).timestamp()
    except (ValueError, OverflowError):
        return None
