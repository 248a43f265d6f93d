"""A lease that a thread renews."""

import atexit
import logging
import os
import signal
import sys
import threading
import time
import weakref
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from functools import cache
from types import TracebackType
from typing import TYPE_CHECKING, Self

from machines_client.keeping import LeaseState, LostCallback
from machines_client.routing import Reserved

if TYPE_CHECKING:
    from machines_client.client import Client

_AT_EXIT_S = 2.0
"""How long a program waits at most, when it ends, for its leases to be released."""

log = logging.getLogger("machines_client")


class Lease(LeaseState):
    """A leased machine, renewed in the background until `release()` or the end of a `with` block.

    Once nothing refers to the object, it is no longer renewed; when the program ends, it is released.

    The block raises LeaseLost at its end if the lease was lost meanwhile, unless the lease was taken with
    `raise_if_lost=False`.

    >>> with client.lease("llama3.1:70b") as lease:
    ...     print(lease.name, lease.model, lease.warm, lease.lost)
    workstation llama3.1:70b True None
    """

    def __init__(
        self, client: "Client", reserved: Reserved, *, on_lost: LostCallback | None, raise_if_lost: bool
    ) -> None:
        super().__init__(client.session, reserved, on_lost=on_lost, raise_if_lost=raise_if_lost)
        self._client = client
        self._ended = threading.Event()
        self._telling = threading.Lock()
        # The thread must not keep a lease alive that its owner has dropped.
        keeper = weakref.WeakMethod(self._keep)
        thread = threading.Thread(
            target=_renew,
            args=(keeper, self._ended, self._usual_pause_s),
            name=f"lease {self.id}",
            daemon=True,
        )
        with _signals_blocked():
            thread.start()
        _held().add(self)

    def check(self, *, ask: bool = False) -> None:
        """Raise LeaseLost if the lease no longer holds, even if you released it.

        `ask` asks the server now, which renews the lease.
        """
        try:
            self._raise_if_known_lost()
            if ask:
                self._client.run(self._renewing())
        finally:
            self._tell()

    def release(self) -> None:
        """End the lease; if the server cannot be reached, it expires by itself."""
        if self._is_released:
            return
        self.stop_renewing()
        self._client.run(self._releasing(self._session))
        self._tell()

    def release_at_exit(self, timeout_s: float) -> None:
        """End the lease if it still holds and was taken in this process, which is ending."""
        if not self._is_released and self._lost is None and self._process == os.getpid():
            self.stop_renewing()
            self._client.run(self._releasing(replace(self._session, timeout_s=timeout_s)))

    def stop_renewing(self) -> None:
        """Stop renewing the lease, so that it ends by itself after `ttl_s` at the latest."""
        super().stop_renewing()
        self._ended.set()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None
    ) -> None:
        self.release()
        self._end_of_block(error)

    def _keep(self) -> float | None:
        pause_s = self._client.run(self._keeping())
        self._tell()
        return pause_s

    def _tell(self) -> None:
        with self._telling:
            lost = self._untold()
        if lost is not None and self._on_lost is not None:
            try:
                self._on_lost(lost)
            except Exception:
                log.exception("the callback for the lost lease %s failed", self.id)


def _renew(
    keeper: weakref.WeakMethod[Callable[[], float | None]], ended: threading.Event, pause_s: float | None
) -> None:
    """Renew a lease until it has ended or nothing refers to it."""
    while pause_s is not None and not ended.wait(pause_s):
        keep = keeper()
        pause_s = keep() if keep else None
        del keep


@contextmanager
def _signals_blocked() -> Iterator[None]:
    """Keep signals from threads that are started meanwhile.

    A program that blocks a signal in its own threads, to wait for it, would otherwise be interrupted or ended
    by it, since the kernel chooses any thread that takes it.
    """
    if sys.platform == "win32":
        yield
        return
    before = signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


@cache
def _held() -> weakref.WeakSet[Lease]:
    """The leases of this program, which are released when it ends."""
    held = weakref.WeakSet[Lease]()
    atexit.register(_release_all, held)
    return held


def _release_all(held: weakref.WeakSet[Lease]) -> None:
    """Release the remaining leases when the program ends, or let them expire if that takes too long."""
    ends = time.monotonic() + _AT_EXIT_S
    for lease in list(held):
        if (left_s := ends - time.monotonic()) > 0:
            lease.release_at_exit(left_s)
