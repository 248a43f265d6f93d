"""Host names to addresses, without one slow name holding up another.

libcurl's own resolver is a pool of 20 threads: measured with 200 names whose look-up hangs, no other name
was ever resolved again. Here every name has a thread of its own while it is looked up, and what is known is
used while it is looked up again.
"""

import socket
import threading
import time
from dataclasses import dataclass

KEEP_S = 60.0
"""How long an address is used before its name is looked up again."""
MAX_LOOKUPS = 256
"""How many names are looked up at one time."""


@dataclass(slots=True)
class _Name:
    addresses: tuple[str, ...] = ()
    error: str | None = None
    own_fault: str | None = None
    looked_up_at: float = float("-inf")
    pending: bool = False


class Resolver:
    """Remembers addresses for a minute; a look-up that fails for want of an answer leaves the old one."""

    def __init__(self) -> None:
        self._names: dict[str, _Name] = {}
        self._slots = threading.BoundedSemaphore(MAX_LOOKUPS)

    def ask(self, host: str) -> None:
        """Look `host` up in the background unless that is under way or was done within the last minute."""
        name = self._names.setdefault(host, _Name())
        fresh = name.addresses and time.monotonic() - name.looked_up_at < KEEP_S
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

    def addresses(self, host: str) -> tuple[str, ...]:
        """The addresses of `host` as last looked up; empty when there are none yet."""
        return self._names[host].addresses

    def error(self, host: str) -> str | None:
        """Why the last look-up of `host` gave nothing, once it has ended."""
        return self._names[host].error

    def own_fault(self, host: str) -> str | None:
        """Why we could not look `host` up, which says nothing of the host."""
        return self._names[host].own_fault

    def looks_up(self, host: str) -> bool:
        """Whether a look-up of `host` is under way."""
        return self._names[host].pending

    def forget_all_but(self, hosts: set[str]) -> None:
        """Forget the names of machines that are no longer declared."""
        for host in self._names.keys() - hosts:
            if not self._names[host].pending:
                del self._names[host]

    def _look_up(self, host: str, name: _Name) -> None:
        try:
            found = socket.getaddrinfo(host, None, type=socket.SOCK_STREAM)
            # One with a zone (fe80::1%eth0), which mDNS adds, has no form in libcurl's option.
            usable = (address for *_, address in found if len(address) < 4 or not address[3])
            name.addresses = tuple(dict.fromkeys(str(address[0]) for address in usable))
            if not name.addresses:
                name.error = "name not resolved: it has none but link-local addresses"
        except socket.gaierror as error:
            if error.errno == socket.EAI_AGAIN:
                name.error = "name not resolved: no name server answered"
            else:
                name.addresses, name.error = (), "name not found"
        except UnicodeError as error:
            name.addresses, name.error = (), f"name not resolved: {error}"
        except OSError as error:  # no more file descriptors, or memory
            name.own_fault = f"this server could not look up names: {error.strerror}"
        finally:
            name.looked_up_at = time.monotonic()
            name.pending = False
            self._slots.release()
