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
        name.pending, name.error = True, None
        threading.Thread(target=self._look_up, args=(host, name), name=f"resolve {host}", daemon=True).start()

    def addresses(self, host: str) -> tuple[str, ...]:
        """The addresses of `host` as last looked up; empty when there are none yet."""
        return self._names[host].addresses

    def error(self, host: str) -> str | None:
        """Why the last look-up of `host` gave nothing, once it has ended."""
        return self._names[host].error

    def forget_all_but(self, hosts: set[str]) -> None:
        """Forget the names of machines that are no longer declared."""
        for host in self._names.keys() - hosts:
            if not self._names[host].pending:
                del self._names[host]

    def _look_up(self, host: str, name: _Name) -> None:
        try:
            found = socket.getaddrinfo(host, None, type=socket.SOCK_STREAM)
            name.addresses = tuple(dict.fromkeys(str(entry[4][0]) for entry in found))
        except socket.gaierror as error:
            if error.errno != socket.EAI_AGAIN:  # the name servers said no; else they said nothing
                name.addresses = ()
            name.error = "name not found"
        except (OSError, UnicodeError) as error:
            name.addresses, name.error = (), f"name not resolved: {error}"
        finally:
            name.looked_up_at = time.monotonic()
            name.pending = False
            self._slots.release()
