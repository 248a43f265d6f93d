"""One poll cycle: every endpoint of every machine is asked, and each answer or reason becomes a result."""

import logging
import time
from collections.abc import Container, Iterable, Iterator
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from functools import lru_cache

from machines_server.core.registry import Endpoint, Machine
from machines_server.core.sample import Answer, PollResult, Sample, State
from machines_server.errors import BadAnswerError
from machines_server.poll.fetch import Failure, Fetched, Fetcher
from machines_server.poll.parse import parse_ollama, parse_sidecar

log = logging.getLogger(__name__)

_SAME_CLOCK_S = 3.0
_REMEMBERED_BYTES = 2**16
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


class Answers:
    """Reads what hosts answer; what an Ollama says again, byte for byte, is the very same answer."""

    def __init__(self) -> None:
        self._known: dict[str, tuple[bytes, Answer]] = {}

    def read(self, endpoint: Endpoint, url: str, body: bytes) -> Answer:
        """The answer of an endpoint; raises BadAnswerError."""
        if endpoint is Endpoint.SIDECAR:  # which never says the same again
            return parse_sidecar(body)
        known, answer = self._known.get(url, (b"", None))
        if answer is None or known != body:
            answer = parse_ollama(body)
            if len(body) <= _REMEMBERED_BYTES:
                self._known[url] = body, answer
        return answer

    def keep_only(self, urls: Container[str]) -> None:
        """Forget what others answered."""
        if any(url not in urls for url in self._known):
            self._known = {url: known for url, known in self._known.items() if url in urls}


def poll_all(
    machines: Iterable[Machine], fetcher: Fetcher, answers: Answers | None = None
) -> Iterator[PollResult | Sample | OwnFault | None]:
    """Results as they come, a Sample when all of a machine's endpoints have ended, None while waiting.

    `answers` is what was read in the cycles before.
    """
    answers = answers or Answers()
    asked: dict[str, list[tuple[Machine, Endpoint]]] = {}
    for machine in machines:
        for endpoint, url in machine.endpoints.items():
            asked.setdefault(url, []).append((machine, endpoint))
    answers.keep_only(asked)
    done: dict[str, dict[Endpoint, PollResult]] = {}
    for fetched in fetcher.fetch(asked):
        if fetched is None:
            yield None
            continue
        for machine, endpoint in asked[fetched.url]:
            result = _result(machine, endpoint, fetched, answers)
            yield result
            if isinstance(result, PollResult):
                results = done.setdefault(machine.name, {})
                results[endpoint] = result
                if len(results) == len(machine.endpoints):
                    yield Sample(machine.name, done.pop(machine.name))


def _result(
    machine: Machine, endpoint: Endpoint, fetched: Fetched, answers: Answers
) -> PollResult | OwnFault:
    reason = fetched.reason
    if fetched.failure is Failure.OWN:
        return OwnFault(machine.name, endpoint, reason or "")
    state, answer = State.OK, None
    if fetched.failure is not None:
        state = _STATES[fetched.failure]
    else:
        try:
            answer = answers.read(endpoint, fetched.url, fetched.body)
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
