"""Asks another poller before reporting machines as offline that this one suddenly cannot reach."""

import threading
import time
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, field

from machines_server.core.machine import Machine, Registry
from machines_server.core.poller_counts import Backlog
from machines_server.core.sample import Cycle, PollResult, Sample, State
from machines_server.core.shards import CHECK_INTERVALS, shard_of
from machines_server.errors import StoreError
from machines_server.failure_log import logger_of_failures
from machines_server.poll.cycle import AnswerReader, poll_all
from machines_server.poll.fetch import Fetcher
from machines_server.poll.targets import AccessOf, Sign
from machines_server.store.api import Opinions, Sink
from machines_server.store.values import Update

MAX_WAIT_INTERVALS = 0.95
"""The longest wait for another poller's opinion, in poll intervals: after a whole one, the samples before the
doubt are too old."""
REST_S = 60.0
"""How long a poller leaves its machines to others that reach them."""
_MISSED = State.UNREACHABLE, State.BUSY

log = logger_of_failures(__name__)


@dataclass(slots=True)
class _Doubt:
    """The updates held back, by name of the machine, until when, and the question about these machines."""

    updates: dict[str, list[Update]] = field(default_factory=dict)
    until: float = 0.0
    question: int | None = None


class DoubtingSink:
    """Holds back updates if most machines of a shard are gone, until another poller agrees; implements Sink.

    If the other one reaches them, this poller's network is at fault: nothing is written, and it rests.
    """

    def __init__(
        self,
        sink: Sink,
        opinions: Opinions,
        interval_s: float,
        timeout_s: float,
        reaches: Callable[[Collection[str]], Collection[str]],
        on_own_fault: Callable[[str | None], None],
    ) -> None:
        """`reaches` polls machines, for up to `timeout_s`, and returns those that answer.

        `on_own_fault` is called when others reach what this poller does not, and with None once that is over.
        """
        self._sink, self._opinions, self._interval_s = sink, opinions, interval_s
        self._reaches, self._on_own_fault = reaches, on_own_fault
        # The other poller sees the question at its next look, and this one the answer at its own.
        self._wait_s = min(timeout_s + 3 * CHECK_INTERVALS * interval_s, MAX_WAIT_INTERVALS * interval_s)
        self._lock = threading.Lock()
        self._missed: dict[str, list[Update]] = {}
        """Updates since the last sample of machines with an endpoint that did not answer."""
        self._gone: dict[str, list[Update]] = {}
        """Updates of machines of which no endpoint answers any more."""
        self._polled: set[str] = set()
        self._down: set[str] = set()
        """The machines that are known to be gone."""
        self._doubt = _Doubt()
        self._fault_until: float | None = None
        self._stop, self._wake = threading.Event(), threading.Event()
        self._thread = threading.Thread(target=self._run, name="second opinions", daemon=True)
        self._thread.start()

    def put(self, item: Update) -> None:
        """Queue an update for writing, or hold it back."""
        with self._lock:
            match item:
                case PollResult():
                    self._put_result(item)
                case Sample():
                    self._put_sample(item)
                case Cycle():
                    self._end_cycle()
                    self._sink.put(item)
                case Registry():
                    self._forget_others(item)
                    self._sink.put(item)
                case _:
                    self._sink.put(item)

    def backlog(self) -> Backlog:
        """The updates that wait to be written."""
        return self._sink.backlog()

    def close(self) -> bool:
        """Write what is left and stop; doubtful updates are not written."""
        self._stop.set()
        self._wake.set()
        self._thread.join(1.0)
        return self._sink.close()

    def _put_result(self, result: PollResult) -> None:
        name = result.machine.casefold()
        if name in self._missed or (result.state in _MISSED and name not in self._down):
            self._missed.setdefault(name, []).append(result)
        else:
            self._sink.put(result)

    def _put_sample(self, sample: Sample) -> None:
        name = sample.machine.casefold()
        self._polled.add(name)
        held = [*self._missed.pop(name, ()), sample]
        is_gone = all(result.state in _MISSED for result in sample.results.values())
        if is_gone and name not in self._down:
            # Without those of an earlier cycle: doubts last while no database answers.
            self._gone[name] = held
            return
        if not is_gone:
            self._down.discard(name)
            self._doubt.updates.pop(name, None)
            held = [*self._gone.pop(name, ()), *held]
        for update in held:
            self._sink.put(update)

    def _end_cycle(self) -> None:
        polled, self._polled = self._polled, set()
        for update in (update for updates in self._missed.values() for update in updates):
            self._sink.put(update)
        self._missed = {}
        by_shard: dict[int, set[str]] = {}
        for name in polled:
            by_shard.setdefault(shard_of(name), set()).add(name)
        doubtful = {
            name
            for names in by_shard.values()
            if 2 * len(gone := names & self._gone.keys()) > len(names)
            for name in gone
        }
        for name in self._gone.keys() - doubtful - self._doubt.updates.keys():
            self._release(name, self._gone.pop(name))
        if doubtful and not self._doubt.updates:
            held = {name: self._gone.pop(name) for name in doubtful}
            self._doubt = _Doubt(held, time.monotonic() + self._wait_s)
            self._wake.set()
        if self._fault_until is not None and time.monotonic() > self._fault_until:
            self._fault_until = None
            self._on_own_fault(None)

    def _settle(self, held: Mapping[str, list[Update]], reached: Collection[str]) -> None:
        """Write updates of machines that others do not reach either; drop the rest."""
        for name, updates in held.items():
            if name in reached:
                self._gone.pop(name, None)
            else:
                self._release(name, [*updates, *self._gone.pop(name, ())])
        if reached:
            fault = (
                f"{len(reached)} machines do not answer this server, but answer another one:"
                " the network here is at fault"
            )
            log.error("%s; others poll for %g s", fault, REST_S)
            self._fault_until = time.monotonic() + REST_S
            self._on_own_fault(fault)

    def _release(self, name: str, updates: Iterable[Update]) -> None:
        self._down.add(name)
        for update in updates:
            self._sink.put(update)

    def _forget_others(self, registry: Registry) -> None:
        """Forget the machines that this process no longer polls."""
        ours = {machine.name.casefold() for machine in registry}
        self._down &= ours
        for held in self._missed, self._gone, self._doubt.updates:
            for name in held.keys() - ours:
                del held[name]

    def _run(self) -> None:
        pause_s = max(CHECK_INTERVALS * self._interval_s, 0.05)
        while not self._stop.is_set():
            self._wake.wait(pause_s)
            self._wake.clear()
            for look in self._answer_others, self._read_answer:
                try:
                    look()
                except StoreError as error:
                    log.debug("second opinions: %s", error)
                except Exception:
                    log.exception("asking for second opinions failed")

    def _answer_others(self) -> None:
        for question, machines in self._opinions.take_questions():
            self._opinions.answer(question, sorted(self._reaches(machines)))

    def _read_answer(self) -> None:
        """Ask about doubtful machines, or settle the doubt if there is an answer or no time left."""
        doubt = self._doubt
        if not doubt.updates:
            return
        is_settled, reached = time.monotonic() > doubt.until, set[str]()
        try:
            if doubt.question is None:
                doubt.question = self._opinions.ask(sorted(doubt.updates))
            answer = () if doubt.question is None else self._opinions.answer_to(doubt.question)
            if answer is not None:
                is_settled, reached = True, set(answer)
        finally:
            if is_settled:
                with self._lock:
                    self._doubt = _Doubt()
                    self._settle(doubt.updates, reached)


def machines_that_answer(
    machines: Sequence[Machine], timeout_s: float, access: AccessOf, sign: Sign | None
) -> set[str]:
    """Poll machines once, on new connections; returns the case-folded names of those that answer."""
    with closing(Fetcher(timeout_s, sign=sign)) as fetcher:
        return {
            one.machine.casefold()
            for one in poll_all(machines, fetcher, AnswerReader(), access)
            if isinstance(one, PollResult) and one.state is State.OK
        }
