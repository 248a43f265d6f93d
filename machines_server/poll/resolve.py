"""Resolves host names so that no slow name delays another.

libcurl's own resolver has 20 threads: when the look-ups of 200 names hung, no other name was resolved any
more. Here each look-up has a thread of its own. Known addresses stay in use meanwhile, unless they are old or
in doubt: getaddrinfo does not report how long a record is valid.
"""

import socket
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from machines_server.failure_log import logger_of_failures

log = logger_of_failures(__name__)

LOOKUP_INTERVAL_S, ADDRESS_LIFETIME_S = 20.0, 40.0
"""How often a name in use is looked up, and how long its addresses are valid if that fails."""
MAX_LOOKUPS = 256
"""How many names are looked up at the same time."""


@dataclass(slots=True)
class _Name:
    addresses: tuple[str, ...] = ()
    error: str | None = None
    own_fault: str | None = None
    looked_up_at: float = float("-inf")
    pending: bool = False
    doubtful: bool = False


class Resolver:
    """Remembers addresses for a while; if a look-up gets no answer, the old ones stay valid."""

    def __init__(
        self,
        look_up: Callable[..., list[Any]] = socket.getaddrinfo,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """`look_up` has the signature of `socket.getaddrinfo`."""
        self._getaddrinfo, self._clock = look_up, clock
        self._names: dict[str, _Name] = {}
        self._slots = threading.BoundedSemaphore(MAX_LOOKUPS)

    def ask(self, host: str) -> None:
        """Look `host` up in the background, unless that is under way or its address is fresh and certain."""
        name = self._names.setdefault(host, _Name())
        fresh = name.addresses and self._clock() - name.looked_up_at < LOOKUP_INTERVAL_S and not name.doubtful
        if fresh or name.pending or not self._slots.acquire(blocking=False):
            return
        name.pending, name.error, name.own_fault = True, None, None
        try:
            threading.Thread(
                target=self._look_up, args=(host, name), name=f"resolve {host}", daemon=True
            ).start()
        except RuntimeError as error:  # the process may have no more threads
            name.own_fault, name.pending = f"this server could not look up names: {error}", False
            self._slots.release()

    def doubt(self, host: str) -> None:
        """Look `host` up again: a request to its address failed, and the host may have moved."""
        if name := self._names.get(host):
            name.doubtful = True
            self.ask(host)

    def is_sure(self, host: str) -> bool:
        """Return whether the addresses of `host` may be used without waiting for a look-up."""
        name = self._names[host]
        is_old = self._clock() - name.looked_up_at >= ADDRESS_LIFETIME_S
        return bool(name.addresses) and not is_old and not name.doubtful

    def addresses(self, host: str) -> tuple[str, ...]:
        """The addresses of `host` from its last look-up; empty if there was none yet."""
        return self._names[host].addresses

    def error(self, host: str) -> str | None:
        """Why the last look-up of `host` failed, once it has ended."""
        return self._names[host].error

    def own_fault(self, host: str) -> str | None:
        """Why this server could not look `host` up, through no fault of the host."""
        return self._names[host].own_fault

    def looks_up(self, host: str) -> bool:
        """Return whether a look-up of `host` is under way."""
        return self._names[host].pending

    def forget_all_but(self, hosts: set[str]) -> None:
        """Forget the names of machines that are no longer declared."""
        for host in self._names.keys() - hosts:
            if not self._names[host].pending:
                del self._names[host]

    def _look_up(self, host: str, name: _Name) -> None:
        try:
            found = self._getaddrinfo(host, None, type=socket.SOCK_STREAM)
            # libcurl's option cannot express the zone of an address (fe80::1%eth0), which mDNS adds.
            usable = (address for *_, address in found if len(address) < 4 or not address[3])
            name.addresses = tuple(dict.fromkeys(str(address[0]) for address in usable))
            if not name.addresses:
                name.error = "name not resolved: it has only link-local addresses"
        except socket.gaierror as error:
            if error.errno == socket.EAI_AGAIN:
                name.error = "name not resolved: no name server answered"
            else:
                name.addresses, name.error = (), "name not found"
        except UnicodeError as error:
            name.addresses, name.error = (), f"name not resolved: {error}"
        except OSError as error:  # no more file descriptors, or memory
            name.own_fault = f"this server could not look up names: {error.strerror}"
        except Exception:  # an unexpected error must affect only this name
            log.exception("the name %s could not be looked up", host)
            name.addresses, name.error = (), "name not resolved: the log of this server says why"
        finally:
            name.looked_up_at = self._clock()
            name.doubtful = name.pending = False
            self._slots.release()
