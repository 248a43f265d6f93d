"""A thread that writes what the poller learned, in small batches; subclasses write to one database.

It is not the poller's thread, so that a slow disk or a locked database never makes a host look slow.
"""

import threading
import time
from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import replace

from machines_server.core.machine import Registry
from machines_server.core.poller_counts import Backlog
from machines_server.core.sample import Cycle, PollResult, Sample, State
from machines_server.errors import StoreError
from machines_server.failure_log import logger_of_failures
from machines_server.store.values import Update

BATCH_PAUSE_S, MAX_BATCH_DELAY_S = 0.03, 0.15
"""A batch is written when nothing has arrived for BATCH_PAUSE_S, or when its first item has waited for
MAX_BATCH_DELAY_S: writing while answers arrive slows both down, by a tenth of the CPU that it takes to poll
1,000 hosts."""
WRITE_RETRY_S = 1.0
MAX_PENDING = 50_000
"""Items kept while the database cannot be written; beyond that the oldest are dropped and logged as lost."""

_LEAST_BATCH = 100
"""A batch that could not be written is tried again with half as many items, but not with fewer than this."""
_WRITE_FAILED = "this server failed to write its answer; its log says why"

log = logger_of_failures(__name__)


class BatchThread(ABC):
    """Writes items soon, and keeps and retries those that cannot be written; implements Sink."""

    def __init__(
        self,
        name: str,
        on_fault: Callable[[str | None], None],
        *,
        max_pending: int = MAX_PENDING,
        max_batch: int | None = None,
    ) -> None:
        """`name` is that of the database in messages; at most `max_batch` items are written at once.

        `on_fault` is called with the fault of the database, and with None once it can be written again.
        """
        self._name, self._on_fault, self._max_pending = name, on_fault, max_pending
        self._max_batch = self._batch_now = max_batch
        self._incoming: deque[Update] = deque()
        self._something, self._at_once, self._closing = (
            threading.Event(),
            threading.Event(),
            threading.Event(),
        )
        self._pending: list[Update] = []
        self._lost = self._dropped = 0
        self._waiting_since: float | None = None
        """When the oldest unwritten item arrived, by the monotonic clock."""
        self._waited_s = 0.0
        """How long the oldest item of the last batch had waited when it was written."""
        self._registry: Registry | None = None
        """The last registry that was written."""
        self._fault: str | None = None
        self._thread = threading.Thread(target=self._run, name="writer", daemon=True)

    def put(self, item: Update) -> None:
        """Queue an item to be written; never waits."""
        if len(self._incoming) >= self._max_pending and not isinstance(item, Registry):
            self._lost += 1  # a write has hung for a long time
            self._dropped += 1
            return
        if self._waiting_since is None:
            self._waiting_since = time.monotonic()
        self._incoming.append(item)
        if isinstance(item, Cycle):
            self._at_once.set()
        if not self._something.is_set():  # one wake-up for a batch, not one for each item
            self._something.set()

    @property
    def queued(self) -> int:
        """How many items the thread has not taken yet."""
        return len(self._incoming)

    @property
    def unwritten(self) -> int:
        """How many items the thread has taken but not yet written."""
        return len(self._pending)

    def backlog(self) -> Backlog:
        """The items that wait to be written, and for how long."""
        since = self._waiting_since
        waiting_s = 0.0 if since is None else time.monotonic() - since
        return Backlog(self.queued + self.unwritten, max(self._waited_s, waiting_s), self._dropped)

    def close(self, timeout_s: float = 5.0) -> bool:
        """Try once to write what is left, and close the database; returns False if that takes too long."""
        self._closing.set()
        self._at_once.set()
        self._something.set()
        self._thread.join(timeout_s)
        return not self._thread.is_alive()

    @abstractmethod
    def _write(self, items: Sequence[Update]) -> None:
        """Write all items or none."""

    @abstractmethod
    def _concerns_all(self, error: Exception) -> bool:
        """Return whether no item can be written after an error of `_write`; else one of them caused it."""

    @abstractmethod
    def _errors(self) -> AbstractContextManager[None]:
        """Turns errors of the database into StoreError."""

    def _arrange(self, items: list[Update]) -> None:  # noqa: B027  not every database needs it
        """Put items into an order in which they cost less; those of one machine keep theirs."""

    def _maintain(self) -> None:  # noqa: B027  not every database needs it
        """Do other work that is due, until an item arrives."""

    def _let_go(self) -> None:  # noqa: B027  not every database needs it
        """Close connections that may be broken: the next write reopens them."""

    def _has_written(self) -> None:  # noqa: B027  not every database needs it
        """Note that everything succeeded."""

    def _explained(self, error: StoreError) -> str:
        """A sentence for people about a fault."""
        return str(error)

    def _run(self) -> None:
        while not self._closing.is_set():
            self._something.wait()
            self._gather()
            self._something.clear()
            self._at_once.clear()
            self._guarded()
            if self._fault:
                self._closing.wait(WRITE_RETRY_S)
                self._something.set()  # try again, even if no more items have arrived
        self._guarded()
        if self._pending:
            log.error("%d polled items are lost: %s", len(self._pending), self._fault)
        self._let_go()

    def _gather(self) -> None:
        """Wait briefly for more items of one batch, at most until a cycle has ended."""
        until, count = time.monotonic() + MAX_BATCH_DELAY_S, 0
        while count < len(self._incoming) and time.monotonic() < until:
            count = len(self._incoming)
            if self._at_once.wait(BATCH_PAUSE_S):
                return

    def _guarded(self) -> None:
        """Do the work; report any failure, after which the thread continues with the unwritten items."""
        try:
            with self._errors():
                self._work()
        except StoreError as error:
            self._let_go()
            self._report(self._explained(error))
        except Exception as error:
            log.exception("the writer of %s failed", self._name)
            self._let_go()
            self._report(f"{self._name}: {error!r}")
        else:
            self._has_written()
            self._report(None)
            if self._lost:
                log.error("%d polled items are lost: there were too many to keep", self._lost)
                self._lost = 0
        self._drop_oldest()

    def _work(self) -> None:
        while self._incoming:
            self._pending.append(self._incoming.popleft())
        self._arrange(self._pending)
        self._prepare()
        if self._pending:
            self._write_pending()
        self._maintain()

    def _prepare(self) -> None:  # noqa: B027  not every database needs it
        """Open what is needed to write."""

    def _write_pending(self) -> None:
        while self._pending:
            batch = self._pending[: self._batch_now]
            try:
                self._write_halves(batch)
            except Exception:
                if self._batch_now is not None:  # a slow database may never finish as many in time
                    self._batch_now = max(self._batch_now // 2, _LEAST_BATCH)
                raise
            self._batch_now = self._max_batch and min(2 * (self._batch_now or 0), self._max_batch)
            registries = (item for item in reversed(batch) if isinstance(item, Registry))
            self._registry = next(registries, self._registry)
            del self._pending[: len(batch)]
        since, now = self._waiting_since, time.monotonic()
        self._waited_s = 0.0 if since is None else now - since
        self._waiting_since = now if self._incoming else None

    def _write_halves(self, items: Sequence[Update]) -> None:
        """Write all items; if one of them makes that fail, write each half by itself."""
        try:
            self._write(items)
        except Exception as error:
            if self._concerns_all(error):
                raise
            if len(items) > 1:
                half = len(items) // 2
                self._write_halves(items[:half])
                self._write_halves(items[half:])
            elif isinstance(items[0], PollResult | Sample):
                log.exception("a poll of machine %s cannot be written", items[0].machine)
                self._write([_without_answers(items[0])])
            else:
                log.exception("one %s cannot be written", type(items[0]).__name__)

    def _drop_oldest(self) -> None:
        lost = self._pending[: -self._max_pending]
        latest = [item for item in lost if isinstance(item, Registry)][-1:]
        self._pending[: len(lost)] = latest
        self._lost += len(lost) - len(latest)
        self._dropped += len(lost) - len(latest)

    def _report(self, fault: str | None) -> None:
        if fault == self._fault:
            return
        self._fault = fault
        if fault:
            log.error("%s; unwritten polls are kept and retried", fault)
        else:
            log.info("%s can be written again", self._name)
        self._on_fault(fault)


def _without_answers(item: PollResult | Sample) -> PollResult | Sample:
    """The item to write instead: a poll whose answer is unknown."""
    if isinstance(item, Sample):
        polls = {endpoint: _without_answer(result) for endpoint, result in item.results.items()}
        return Sample(item.machine, polls)
    return _without_answer(item)


def _without_answer(result: PollResult) -> PollResult:
    return replace(result, state=State.ERROR, reason=_WRITE_FAILED, answer=None, clock_ahead_s=None)
