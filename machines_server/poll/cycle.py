"""One poll cycle: every endpoint of every machine is asked, and each answer or reason becomes a result."""

import logging
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from functools import lru_cache

from machines_server.core.registry import Endpoint, Machine
from machines_server.core.sample import PollResult, Sample, State
from machines_server.errors import BadAnswerError
from machines_server.poll.fetch import Failure, Fetched, Fetcher
from machines_server.poll.parse import parse_ollama, parse_sidecar

log = logging.getLogger(__name__)

_SAME_CLOCK_S = 3.0
_STATES = {
    Failure.UNREACHABLE: State.UNREACHABLE,
    Failure.SILENT: State.BUSY,
    Failure.BAD_ANSWER: State.ERROR,
}


@dataclass(frozen=True, slots=True)
class OwnFault:
    """An endpoint that we could not ask: of the host nothing is known."""

    machine: str
    endpoint: Endpoint
    reason: str


def poll_all(
    machines: Iterable[Machine], fetcher: Fetcher
) -> Iterator[PollResult | Sample | OwnFault | None]:
    """Results as they come, a Sample when all of a machine's endpoints have ended, None while waiting."""
    asked: dict[str, list[tuple[Machine, Endpoint]]] = {}
    for machine in machines:
        for endpoint, url in machine.endpoints.items():
            asked.setdefault(url, []).append((machine, endpoint))
    done: dict[str, dict[Endpoint, PollResult]] = {}
    for fetched in fetcher.fetch(asked):
        if fetched is None:
            yield None
            continue
        for machine, endpoint in asked[fetched.url]:
            result = _result(machine, endpoint, fetched)
            yield result
            if isinstance(result, PollResult):
                results = done.setdefault(machine.name, {})
                results[endpoint] = result
                if len(results) == len(machine.endpoints):
                    yield Sample(machine.name, done.pop(machine.name))


def _result(machine: Machine, endpoint: Endpoint, fetched: Fetched) -> PollResult | OwnFault:
    reason = fetched.reason
    if fetched.failure is Failure.OWN:
        return OwnFault(machine.name, endpoint, reason or "")
    state, answer = State.OK, None
    if fetched.failure is not None:
        state = _STATES[fetched.failure]
    else:
        try:
            parse = parse_sidecar if endpoint is Endpoint.SIDECAR else parse_ollama
            answer = parse(fetched.body)
        except BadAnswerError as error:
            state, reason = State.ERROR, str(error)
        except Exception:  # an answer that nobody foresaw must not end the cycle of all others
            log.exception("an answer of %s could not be read", fetched.url)
            return OwnFault(machine.name, endpoint, "this server failed to read its answer; its log says why")
    at = time.time()
    return PollResult(
        machine=machine.name,
        endpoint=endpoint,
        url=fetched.url,
        state=state,
        at=at,
        took_s=fetched.took_s,
        reason=reason,
        answer=answer,
        clock_ahead_s=_clock_ahead_s(fetched.date, at),
    )


def _clock_ahead_s(date: bytes | None, at: float) -> float | None:
    """How far the clock of a host is before ours; its Date header has whole seconds."""
    told = None if date is None else _told(date)
    if told is None:
        return None
    ahead_s = told - at
    return 0.0 if abs(ahead_s) < _SAME_CLOCK_S else ahead_s


@lru_cache(maxsize=64)
def _told(date: bytes) -> float | None:
    """A Date header as epoch seconds, None if it is none; most hosts of a cycle say the same."""
    try:
        return parsedate_to_datetime(date.decode("ascii").strip()).timestamp()
    except (ValueError, OverflowError):
        return None
