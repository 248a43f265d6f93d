"""The interfaces of a store; `store.sqlite` and `store.postgres` implement them.

These rules hold for every protocol below:

- Machines are identified by name, regardless of case. Times are epoch seconds by the wall clock of the server
  that wrote them, durations are in seconds, sizes in bytes.
- Making an object opens nothing; the first call does. An object may be shared by the threads of one process,
  unless its docstring says otherwise, and must not be used on both sides of a fork.
- A store that cannot be read or written raises StoreError, or a subclass that says why: DamagedStoreError,
  LockedError, MigrationError, UnsupportedError, UnreachableStoreError. A database library's own exceptions
  never escape. The next call tries again, with a new connection if the old one has failed.
- Each call sees the content of one moment, and writes everything or nothing.
- `close` releases open resources and may be called repeatedly; the next call reopens them.
"""

from collections.abc import Callable, Collection, Hashable, Iterable, Iterator, Mapping, Sequence
from typing import Protocol

from machines_server.core.past.rollup import Fold
from machines_server.core.poller_counts import Backlog, PollerCounts
from machines_server.core.routing.advised import Advice
from machines_server.core.routing.answer import Candidate
from machines_server.core.routing.fleet import Fleet
from machines_server.core.routing.leases import Lease
from machines_server.core.sample import Cycle
from machines_server.core.snapshot import Snapshot
from machines_server.store.values import (
    EventsPage,
    KnownMachine,
    Leader,
    LeaseRequest,
    LeaseSnapshot,
    Requested,
    Residency,
    SeriesKey,
    StatusChange,
    StoreSizes,
    Update,
)


class Present(Protocol):
    """The latest poll of every endpoint, and what follows from it."""

    def version(self) -> Hashable:
        """A value that changes whenever a snapshot would; compare it only with values of the same object."""

    def version_nowait(self) -> Hashable:
        """The current version, or None if reading it would block; never raises."""

    def catch_up(self) -> None:
        """Make the next `version` current, where it could be a moment old; may wait briefly."""

    def snapshot(self) -> Snapshot:
        """Everything known about the present; parts that did not change may be the same objects as before."""

    def cycle(self) -> Cycle | None:
        """The latest finished cycle."""

    def last_good(self, file: str | None) -> Mapping[str, str]:
        """The last valid version of a machine file, or of all files if None, as JSON texts by file name."""

    def close(self) -> None:
        """Release open resources."""


class Past(Protocol):
    """Measurements and events of the past, which are kept when a machine's file is removed.

    A query that would read too much raises TooMuchError. Calls may run in parallel.
    """

    def machine(self, name: str) -> KnownMachine | None:
        """A machine that is or was declared."""

    def machine_names(self, from_s: float, to_s: float) -> list[str]:
        """The machines that were declared at some time in [from_s, to_s), sorted by name."""

    def series(
        self, wanted: Sequence[SeriesKey], from_s: int, to_s: int, step_s: int
    ) -> list[list[tuple[int, Fold]]]:
        """For each key, the start and the exact fold of each bucket that has values, oldest first.

        `from_s` and `to_s` are multiples of `step_s`; the range is half-open.
        """

    def events(
        self,
        machines: Sequence[str],
        types: Sequence[str],
        from_s: float,
        to_s: float,
        limit: int,
        *,
        after: int | None = None,
        before: int | None = None,
    ) -> EventsPage:
        """The newest `limit` events in [from_s, to_s), newest first; without machines or types, of all.

        The newest is the one with the latest time and, of several with that time, the one written last. With
        `before`, the id of an event, the page begins after that event. With `after`, the id of an event, the
        page has the first `limit` events written after it instead, also newest first.
        """

    def statuses(self, machine: str | None, from_s: float, to_s: float) -> Iterator[StatusChange]:
        """The changes of status of a machine, or of all machines, one after the other, if it is None.

        Changes of a machine come oldest first, beginning with the status it had at `from_s`. Rows are read
        lazily, so iterating may raise errors.
        """

    def poll_spans(self, from_s: float, to_s: float) -> list[tuple[float, float]]:
        """The periods of uninterrupted polling, by any server of the site, oldest first."""

    def residency(self, from_s: float, to_s: float) -> list[Residency]:
        """The models that are or were in memory, and how long within [from_s, to_s).

        Beyond 10,000, a store may leave out those seen least recently.
        """

    def fault(self) -> str | None:
        """Why the last call failed, if it did so within the last minute; reads nothing."""

    def close(self) -> None:
        """Release open resources."""


class Sink(Protocol):
    """Writes the poller's updates in the order they are put; only one process may have one open.

    Others see an update within a second. While the store cannot be written, updates are kept and written
    later. Since each cycle reports the whole present, a store may drop updates that have waited too long,
    oldest first, and logs how many.
    """

    def put(self, item: Update) -> None:
        """Queue an update for writing; never blocks, never raises."""

    def backlog(self) -> Backlog:
        """The updates that wait to be written."""

    def close(self) -> bool:
        """Write what is left and stop; returns False if that takes too long, and may then be called again."""


OpenSink = Callable[[Callable[[str | None], None]], Sink]
"""Opens a sink; its argument is called with each fault of the store, and with None once that is over."""


class PollerRequests(Protocol):
    """Requests of any process to the one that polls; failed writes are dropped, and nothing raises."""

    def look_for(self, model: str) -> None:
        """Request a search for a model on disks; repetitions are ignored until the request is taken."""

    def poll_soon(self, machines: Iterable[str]) -> None:
        """Request early polls of machines; repetitions are ignored until the request is taken."""

    def is_empty(self) -> bool:
        """Return whether there are no requests; cheap enough to call several times a second."""

    def take(self) -> Requested:
        """Remove and return the requests; models by `core.model_names.canonical`."""


class Opinions(Protocol):
    """Questions among the pollers of several servers, by the case-folded names of machines."""

    def ask(self, machines: Sequence[str]) -> int | None:
        """Ask the other pollers whether they reach machines; None if there are no others."""

    def answer_to(self, question: int) -> Collection[str] | None:
        """The machines that another poller has reached; None while none has answered."""

    def take_questions(self) -> Sequence[tuple[int, Sequence[str]]]:
        """The questions of others, with their machines; each is taken by one poller that does not rest."""

    def answer(self, question: int, reached: Sequence[str]) -> None:
        """Answer a question that was taken with the machines that this process reaches."""


class PollerCountsBoard(Protocol):
    """Shares the counts of the process that polls; nothing raises."""

    def read(self) -> PollerCounts | None:
        """The latest counts, or None if there are none."""

    def write(self, counts: PollerCounts) -> None:
        """Replace the counts; only the process that polls may call this."""


class StoreMeter(Protocol):
    """Measures the store."""

    def sizes(self) -> StoreSizes:
        """The sizes of its files; never raises."""

    def due_rollups(self, now: float) -> int:
        """How many rollups are due at `now` and not computed yet; raises StoreError."""


class AdviceBoard(Protocol):
    """Shares advice among processes; losing some does no harm, and nothing raises."""

    def add(self, advice: Advice) -> None:
        """Tell the other processes; those on this host know within milliseconds."""

    def news(self) -> Sequence[Advice]:
        """What other processes have told since the last call; cheap enough for each question."""


class PollerWatch(Protocol):
    """Finds the process that polls, even while the rest of the store is unusable; never raises."""

    def leader(self) -> Leader | None:
        """The process that polls, or None."""

    def obstacle(self) -> str | None:
        """What keeps every process from polling, in a sentence; None if nothing is known to."""

    def write_fault(self) -> str | None:
        """Why the store cannot be written, in a sentence, as far as it is known without writing."""


class LeaderElection(PollerWatch, Protocol):
    """Elects the one process that polls; for use by one thread, except for `report_faults`.

    Leadership ends with the process, however it ends.
    """

    def acquire(self) -> bool:
        """Become the leader if there is none; raises OSError or UnsupportedError if it cannot."""

    def is_leader(self) -> bool:
        """Return whether this object still leads; another may take over once this is False."""

    def report_faults(self, faults: Mapping[str, str]) -> None:
        """Replace the faults that others see; does nothing unless this object leads, and never raises."""

    def other_folder(self) -> str | None:
        """The leader's folder of machine files, if it is not the one given to this process."""

    def release(self) -> None:
        """Give up leadership."""


class Chooser(Protocol):
    """Chooses the machine of a new lease, given the known leases."""

    def candidates(self, known: LeaseSnapshot) -> Sequence[Candidate]:
        """The fit machines given all leases, the best first; raises if there is none."""

    def again(self, candidate: Candidate, on_host: LeaseSnapshot) -> Candidate | None:
        """One of them given the leases on its host; None if it is no longer fit."""


class Leases(Protocol):
    """The leases of all processes; each is granted with regard to all earlier ones on its host.

    Neither setting the wall clock nor restarting this server changes how long a lease lasts. Calls that write
    take the `fleet`, from which they learn how long finished loads took.
    """

    def read(self) -> LeaseSnapshot:
        """The leases active now; `ends_in_s` may be a second out of date, but no ended lease is returned.

        What others wrote a moment ago may be missing.
        """

    def read_nowait(self) -> LeaseSnapshot | None:
        """The same, or None if reading them would block; never raises."""

    def newest(self) -> LeaseSnapshot:
        """The leases active now, with all that others have written before the call; may wait for a moment."""

    def expired(self) -> int:
        """How many leases expired in the last ten minutes without being released."""

    def fault(self) -> str | None:
        """Why leases could not be read or changed lately, or None; never waits."""

    def expire(self, fleet: Fleet) -> None:
        """End the leases whose time is up; every other writing call does so as well."""

    def reserve(self, fleet: Fleet, request: LeaseRequest, chooser: Chooser) -> Lease:
        """Grant a lease on the best candidate; no lease on its host changes in between.

        The `chooser` is asked as often as it takes. If it raises, nothing is granted. Raises TooManyError if
        the holder, or all holders together, have reached the limit, and ConflictError if the key was used
        with another digest.
        """

    def renew(self, fleet: Fleet, lease: str, ttl_s: float | None, check: Callable[[Lease], None]) -> Lease:
        """Restart a lease's duration, with a new `ttl_s` if given; `check` may refuse by raising.

        Raises UnknownLeaseError if the lease has ended.
        """

    def release(self, fleet: Fleet, lease: str, check: Callable[[Lease], object] = bool) -> Lease:
        """End a lease and return it; `check` may refuse by raising.

        Raises UnknownLeaseError if it has already ended.
        """

    def close(self) -> None:
        """Release open resources."""


class Nonces(Protocol):
    """The nonces of signed requests, each of which all processes together accept once.

    A nonce is remembered for longer than a signature is valid. Calls take some 30 us unless the store
    `blocks`; they raise StoreError.
    """

    blocks: bool
    """Whether calls take so long that an event loop must not wait for them; then threads may share it."""

    def use(self, nonce: bytes) -> bool:
        """Record a nonce; returns False if it has been recorded before."""

    def since(self) -> float:
        """When recording began, in epoch seconds: older signatures may have been used before."""

    def close(self) -> None:
        """Release open resources."""


class SessionSecret(Protocol):
    """The key that signs links and browser sessions: 32 bytes, the same for all processes."""

    def current(self) -> bytes:
        """The secret, created if there is none; raises StoreError."""

    def get_nowait(self) -> bytes | None:
        """The secret if it is known without blocking; else None. Never raises."""

    def replace(self) -> None:
        """Create a new secret; raises StoreError."""
