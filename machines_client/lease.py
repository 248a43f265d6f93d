"""A lease that a thread renews."""

import logging
import threading
from types import TracebackType
from typing import TYPE_CHECKING, Self

from machines_client.keeping import LeaseState, LostCallback
from machines_client.routing import Reserved

if TYPE_CHECKING:
    from machines_client.client import Client

log = logging.getLogger("machines_client")


class Lease(LeaseState):
    """A leased machine, renewed in the background until `release()` or the end of a `with` block.

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
        threading.Thread(target=self._keep, name=f"lease {self.id}", daemon=True).start()

    def check(self, *, ask: bool = False) -> None:
        """Raise LeaseLost if the lease no longer holds; `ask` asks the server now, which renews the lease."""
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
        self._is_released = True
        self._ended.set()
        self._client.run(self._releasing())
        self._tell()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None
    ) -> None:
        self.release()
        self._end_of_block(error)

    def _keep(self) -> None:
        self._client.run(self._keeping(), pause=self._ended.wait)
        self._tell()

    def _tell(self) -> None:
        with self._telling:
            lost = self._untold()
        if lost is not None and self._on_lost is not None:
            try:
                self._on_lost(lost)
            except Exception:
                log.exception("the callback for the lost lease %s failed", self.id)
