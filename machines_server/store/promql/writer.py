"""Sends the samples of a poller to an engine through Prometheus remote write."""

import random
import threading
import time
from collections.abc import Callable, Mapping
from typing import NamedTuple

from machines_server.core.access import Access
from machines_server.core.sample import Sample
from machines_server.errors import NoAccessError
from machines_server.failure_log import logger_of_failures
from machines_server.store.promql.batches import BATCH_SAMPLES, Batch, Batches, Halvings, QueueLimits
from machines_server.store.promql.engine import Answer, Engine, EngineUnreachableError, GetAccess, redacted
from machines_server.store.promql.sample_series import SampleSeries
from machines_server.store.promql.verdict import Fate, Verdict, verdict_of

LINGER_S = 0.3
"""How long a batch waits to be filled while the engine takes everything."""
WRITE_TIMEOUT_S = 15.0
FIRST_PAUSE_S, MAX_PAUSE_S, MAX_RETRY_AFTER_S = 0.5, 30.0, 120.0
SUSPECT_AFTER_S = 60.0
"""After this long of errors from the engine, a later batch is tried: the first one may be the cause."""
KEEP_FAULT_S = 60.0
_MAX_ANSWER_BYTES = 2**16
WRITE_HEADERS = (
    "Content-Type: application/x-protobuf",
    "Content-Encoding: snappy",
    "X-Prometheus-Remote-Write-Version: 0.1.0",
)

_UNANSWERED = Verdict(Fate.SEND_AGAIN, "no_answer")

log = logger_of_failures(__name__)


class WriterCounts(NamedTuple):
    """Samples that wait, with their bytes, those sent, and those dropped, by reason."""

    waiting: int
    waiting_bytes: int
    sent: int
    dropped: Mapping[str, int]
    left_out: int
    """Series that were left out because a machine added too many within an hour."""


class HistoryWriter:
    """Queues samples and sends them in one thread, each machine's in order; thread-safe.

    While the engine is away or overloaded, samples wait within `limits`; the oldest are dropped first. What
    it refuses is dropped and counted.
    """

    def __init__(
        self,
        url: str,
        access: GetAccess = Access,
        *,
        limits: QueueLimits = QueueLimits(),  # noqa: B008  a NamedTuple never changes
        batch_samples: int = BATCH_SAMPLES,
        timeout_s: float = WRITE_TIMEOUT_S,
        max_pause_s: float = MAX_PAUSE_S,
        suspect_after_s: float = SUSPECT_AFTER_S,
    ) -> None:
        """`url` is where the engine takes remote write, such as http://127.0.0.1:8428/api/v1/write."""
        self._url, self._access, self._where = url, access, redacted(url)
        self._timeout_s, self._max_pause_s, self._suspect_after_s = timeout_s, max_pause_s, suspect_after_s
        self._changed = threading.Condition()
        self._series, self._batches = SampleSeries(), Batches(limits, batch_samples)
        self._halvings, self._in_flight, self._sent = Halvings(), 0, 0
        self._thread: threading.Thread | None = None
        self._stop_at = float("inf")
        self._failure: str | None = None
        self._failing_since = self._refused_at = float("-inf")
        self._failed_times, self._refused = 0, ""

    def put(self, sample: Sample, site: str = "") -> None:
        """Queue the series of a sample; never blocks for long, never raises."""
        self._add(lambda parts: self._series.add(parts, sample, site))

    def remove(self, machine: str, at: float) -> None:
        """End the series of a machine that is no longer declared."""
        self._add(lambda parts: self._series.remove(parts, machine, at))

    def forget(self, machine: str) -> None:
        """Forget a machine that another poller now polls, without ending its series."""
        with self._changed:
            self._series.forget(machine)

    def counts(self) -> WriterCounts:
        """The samples that wait, and what has become of the rest."""
        with self._changed:
            batches = self._batches
            waiting = batches.samples + self._in_flight
            return WriterCounts(waiting, batches.bytes, self._sent, batches.dropped, self._series.left_out)

    def fault(self) -> str | None:
        """What is wrong with writing the history, in a sentence; None if nothing is wrong."""
        with self._changed:
            if self._failure is not None:
                waiting = self._batches.samples + self._in_flight
                why = f"{self._failure}; {waiting} samples wait"
                return f"The history cannot be written to {self._where}: {why}."
            if time.monotonic() - self._refused_at < KEEP_FAULT_S:
                return f"The history engine at {self._where} refuses samples: {self._refused}."
            return None

    def close(self, within_s: float = 4.0) -> bool:
        """Send waiting samples and stop; returns False if some are left, which are lost."""
        deadline = time.monotonic() + within_s
        with self._changed:
            self._stop_at = deadline
            self._batches.close_batch()
            self._changed.notify_all()
            thread = self._thread
        if thread is not None:
            thread.join(within_s + 2)
        with self._changed:
            return not self._batches.samples and not self._in_flight

    def _add(self, append: Callable[[list[bytes]], int]) -> None:
        """Queue the samples that `append` appends; it returns their number."""
        with self._changed:
            if self._is_closing:
                return
            parts = self._batches.parts
            number = len(parts)
            try:
                samples = append(parts)
            except Exception:
                log.exception("a sample could not be added to the history")
                del parts[number:]
                return
            if samples:
                self._added(samples)

    def _added(self, samples: int) -> None:
        was_empty = not self._batches.samples
        before = len(self._batches)
        self._batches.added(samples)
        if self._thread is None:
            self._thread = threading.Thread(target=self._run, name="history-writer", daemon=True)
            self._thread.start()
        elif was_empty or len(self._batches) > before:
            self._changed.notify_all()

    @property
    def _is_closing(self) -> bool:
        return self._stop_at != float("inf")

    def _is_too_late(self) -> bool:
        return time.monotonic() >= self._stop_at

    def _run(self) -> None:
        engine = Engine(self._url, WRITE_HEADERS, self._access, _MAX_ANSWER_BYTES, self._is_too_late)
        try:
            while (batch := self._next()) is not None:
                try:
                    self._send(engine, batch)
                except Exception:
                    log.exception("samples for the history could not be sent")
                    self._settle(batch, Verdict(Fate.REFUSED, "own_fault"), "this server's log says why")
        finally:
            engine.close()

    def _next(self) -> Batch | None:
        """Wait for a batch; None when it is time to end."""
        with self._changed:
            while True:
                if self._is_too_late() or (self._is_closing and not self._batches.samples):
                    return None
                if len(self._batches):
                    return self._take()
                if self._batches.samples:
                    self._changed.wait(0 if self._is_closing else LINGER_S)
                    if not len(self._batches):
                        self._batches.close_batch()
                else:
                    self._changed.wait()

    def _take(self, place: int = 0) -> Batch:
        batch = self._batches.take(place)
        self._in_flight = batch.samples
        return batch

    def _send(self, engine: Engine, batch: Batch) -> None:
        verdict, text, pause_s = self._try(engine, batch)
        self._settle(batch, verdict, text)
        if verdict.fate is not Fate.SEND_AGAIN:
            return
        self._pause(pause_s)
        if self._is_suspect():
            self._try_later_one(engine)

    def _try(self, engine: Engine, batch: Batch) -> tuple[Verdict, str, float | None]:
        """Send a batch once; returns what becomes of it, why, and for how long the engine wants a rest."""
        try:
            answer: Answer = engine.post(batch.body, self._timeout_s)
        except EngineUnreachableError as error:
            return _UNANSWERED, str(error), None
        except NoAccessError as error:
            return _UNANSWERED, f"its credential is {error.reason.text}", None
        return (
            verdict_of(answer.status, answer.body),
            f"it answers with HTTP status {answer.status}",
            answer.retry_after_s,
        )

    def _settle(self, batch: Batch, verdict: Verdict, text: str) -> None:
        """Record what has become of a batch."""
        halves = batch.halves(self._halvings) if verdict.fate is Fate.REFUSED else None
        with self._changed:
            self._in_flight = 0
            if verdict.fate is Fate.SEND_AGAIN:
                if self._failure is None:
                    self._failing_since = time.monotonic()
                    log.warning("the history cannot be written to %s: %s", self._where, text)
                self._failure, self._failed_times = text, self._failed_times + 1
                self._batches.put_back(batch)
                return
            if self._failure is not None:
                log.info("the history can be written again")
            self._failure, self._failed_times = None, 0
            if verdict.fate is Fate.ACCEPTED:
                self._sent += batch.samples
                self._halvings.was_accepted()
            elif halves is not None:
                self._batches.put_back(*halves)
            else:
                self._drop(batch, verdict.reason, text)

    def _drop(self, batch: Batch, reason: str, text: str) -> None:
        self._batches.drop(batch, reason)
        if time.monotonic() - self._refused_at >= KEEP_FAULT_S:
            log.warning("%d samples for the history were refused: %s (%s)", batch.samples, text, reason)
        self._refused, self._refused_at = f"{text} ({reason})", time.monotonic()

    def _is_suspect(self) -> bool:
        """Return whether the first batch has failed for so long that it may be the cause."""
        return len(self._batches) > 1 and time.monotonic() - self._failing_since >= self._suspect_after_s

    def _try_later_one(self, engine: Engine) -> None:
        """Send the second batch; if the engine takes it, the first one has a last chance.

        It could not be sent later anyway: some engines refuse samples older than those they have.
        """
        with self._changed:
            second = self._take(1)
        verdict, text, _ = self._try(engine, second)
        if verdict.fate is not Fate.ACCEPTED:
            with self._changed:
                first = self._batches.take()
                self._batches.put_back(first, second)
                self._in_flight = 0
            return
        self._settle(second, verdict, text)
        with self._changed:
            first = self._take()
        verdict, text, _ = self._try(engine, first)
        if verdict.fate is Fate.SEND_AGAIN and verdict is not _UNANSWERED:
            verdict = Verdict(Fate.REFUSED, "refused")
        self._settle(first, verdict, text)

    def _pause(self, wanted_s: float | None) -> None:
        """Wait before the next try, longer each time, with jitter."""
        longest_s = min(FIRST_PAUSE_S * 2 ** min(self._failed_times - 1, 20), self._max_pause_s)
        pause_s = longest_s * random.uniform(0.5, 1)  # noqa: S311  nothing depends on nobody guessing it
        if wanted_s is not None:
            pause_s = max(pause_s, min(wanted_s, MAX_RETRY_AFTER_S))
        until = time.monotonic() + pause_s
        with self._changed:
            while not self._is_closing and (left_s := until - time.monotonic()) > 0:
                self._changed.wait(left_s)
            if self._is_closing and not self._is_too_late():
                self._changed.wait(min(0.1, max(0.0, self._stop_at - time.monotonic())))
