"""What both kinds of leases share: what is known about a lease, and how it is kept."""

import logging
import os
import time
import warnings
from collections.abc import Callable
from typing import Protocol

from machines_client.answers import HeldLease, Machine, PromisedGpu
from machines_client.errors import ClientError, LeaseLost
from machines_client.flows import Flow, Session
from machines_client.routing import Reserved, release, renew

_RENEWALS = 3
"""How many times a lease is renewed within its duration."""
_RENEW_AT_LEAST_EVERY_S = 10.0
"""The longest time between renewals, so that a loss is known soon."""
_RENEW_RETRY_S = 0.5

log = logging.getLogger("machines_client")


class LostCallback(Protocol):
    """Called once, with the reason, when a lease turns out to be lost."""

    def __call__(self, lost: LeaseLost, /) -> object: ...


class LeaseState:
    """A leased machine: what the server has said about the lease, and whether it still holds.

    If it is dropped without being released, it is no longer renewed and ends by itself.
    """

    def __init__(
        self,
        session: Session,
        reserved: Reserved,
        *,
        on_lost: LostCallback | None,
        raise_if_lost: bool,
    ) -> None:
        granted, granted_at = reserved
        self.id = granted.lease
        """The server's id of the lease."""
        self.machine = Machine(
            name=granted.machine,
            hostname=granted.hostname,
            port=granted.port,
            url=granted.url,
            model=granted.model,
            warm=granted.warm,
            credential=granted.credential,
        )
        self.name, self.hostname, self.port = granted.machine, granted.hostname, granted.port
        self.url, self.model, self.warm = granted.url, granted.model, granted.warm
        self.credential = granted.credential
        self.load_s = granted.load_s
        """How many seconds loading the model takes; None if it is in memory, or unknown."""
        self.holder, self.exclusive, self.ttl_s = granted.holder, granted.exclusive, granted.ttl_s
        self._usual_pause_s = min(granted.ttl_s / _RENEWALS, _RENEW_AT_LEAST_EVERY_S)
        self._session, self._process = session, os.getpid()
        self._held: HeldLease = granted
        self._until = granted_at + granted.ttl_s
        self._lost: LeaseLost | None = None
        self._is_released = self._is_told = False
        self._on_lost, self._raise_if_lost = on_lost, raise_if_lost

    @property
    def expires_at(self) -> str:
        """When the lease ends unless it is renewed (RFC 3339)."""
        return self._held.expires_at

    @property
    def gpus(self) -> tuple[PromisedGpu, ...]:
        """What the lease promises of which GPU, as of the latest renewal."""
        return self._held.gpus

    @property
    def lost(self) -> LeaseLost | None:
        """Why the lease was lost; None while it holds, as far as is known without asking, or if released."""
        if time.monotonic() > self._until:
            self._lose(LeaseLost(f"the lease on {self.name} was not renewed in time"))
        return self._lost

    def __repr__(self) -> str:
        state = "lost" if self._lost else "released" if self._is_released else f"until {self.expires_at}"
        return f"<{type(self).__name__} {self.id} of {self.model} on {self.name} at {self.url}, {state}>"

    def stop_renewing(self) -> None:
        """Stop renewing the lease, so that it ends by itself after `ttl_s` at the latest."""
        self._is_released = True

    def __del__(self, _warn: Callable[..., None] = warnings.warn) -> None:
        # A child of this process has a copy of the lease; and there is none if the constructor failed.
        if getattr(self, "_is_released", True) or self._lost or self._process != os.getpid():
            return
        self.stop_renewing()
        said = f"the lease {self.id} on {self.name} was dropped without release(): it is no longer renewed"
        _warn(said, ResourceWarning, source=self, stacklevel=2)

    def _lose(self, lost: LeaseLost, *, at_release: bool = False) -> None:
        # A renewal under way at the time fails because of the release.
        if self._lost is None and (at_release or not self._is_released):
            self._lost = lost
            log.warning("%s", lost)

    def _raise_if_known_lost(self) -> None:
        if lost := self.lost:
            raise LeaseLost(str(lost))
        if self._is_released:
            raise LeaseLost(f"the lease on {self.name} was released here")

    def _untold(self) -> LeaseLost | None:
        """The loss, if the callback has not been called for it."""
        if self._is_told:
            return None
        self._is_told = self._lost is not None
        return self._lost

    def _end_of_block(self, error: BaseException | None) -> None:
        """Raise LeaseLost at the end of a `with` block, or note it on the error that ends the block."""
        if self._lost is None or not self._raise_if_lost:
            return
        if error is None:
            raise LeaseLost(str(self._lost))
        error.add_note(str(self._lost))

    def _renewing(self) -> Flow[None]:
        began = time.monotonic()
        try:
            held = yield from renew(self._session, self.id)
        except LeaseLost as error:
            self._lose(error)
            raise
        self._held, self._until = held, max(self._until, began + self.ttl_s)

    def _keeping(self) -> Flow[float | None]:
        """Renew the lease; results in the seconds to pause before the next time, None if it has ended."""
        if self._is_released or self.lost:
            return None
        try:
            yield from self._renewing()
        except LeaseLost:
            return None
        except ClientError as error:
            pause_s = min(_RENEW_RETRY_S, self._usual_pause_s)
            if time.monotonic() + pause_s < self._until:
                return pause_s
            self._lose(LeaseLost(f"the lease on {self.name} could not be renewed in time: {error}"))
            return None
        return self._usual_pause_s

    def _releasing(self, session: Session) -> Flow[None]:
        """End the lease; if the server cannot be reached, it expires by itself."""
        is_overdue = time.monotonic() > self._until
        try:
            yield from release(session, self.id)
        except LeaseLost as error:
            self._lose(error, at_release=True)
        except ClientError as error:
            if is_overdue:
                lost = LeaseLost(f"the lease on {self.name} could not be renewed in time: {error}")
                self._lose(lost, at_release=True)
            log.debug("lease %s is left to expire: %s", self.id, error)
