"""What an agent may do: take leases, and end or renew its own."""

from collections.abc import Callable, Collection
from dataclasses import dataclass
from typing import Literal, NamedTuple

from machines_server.core.routing.leases import Lease
from machines_server.core.text import quoted
from machines_server.errors import ForbiddenError


class Caller(NamedTuple):
    """Who sent a request: the agent that signed it, if one did, and the address; and what was requested."""

    agent: str | None = None
    address: str = ""
    method: str = ""
    path: str = ""


def _ignore(_caller: Caller) -> None:
    """Do nothing."""


@dataclass(frozen=True, slots=True)
class Permissions:
    """The rules; where requests are not signed, everybody may do everything."""

    mode: Literal["off", "observe", "enforce"] = "off"
    writers: Collection[str] | None = None
    """Who may take leases; None for everybody."""
    admins: Collection[str] = ()
    """Who may renew and end the leases of others."""
    on_breach: Callable[[Caller], None] = _ignore
    """Called for each breach, whether it is refused or only observed."""

    def check_taking(self, caller: Caller) -> None:
        """Raise ForbiddenError unless the caller may take leases."""
        if self.writers is not None and caller.agent not in self.writers:
            self._refuse(caller, "may not take leases; AUTH_WRITERS names who may")

    def check_ending(self, caller: Caller, lease: Lease) -> None:
        """Raise ForbiddenError unless the caller may renew and end a lease."""
        if lease.agent != caller.agent and caller.agent not in self.admins:
            self._refuse(caller, "may not change a lease that it has not taken; AUTH_ADMINS names who may")

    def _refuse(self, caller: Caller, why: str) -> None:
        if self.mode == "enforce":
            self.on_breach(caller)
            who = f"The agent {quoted(caller.agent)}" if caller.agent else "A client that does not sign"
            raise ForbiddenError(f"{who} {why}.")
        if self.mode == "observe" and caller.agent:  # the others are reported already
            self.on_breach(caller)
