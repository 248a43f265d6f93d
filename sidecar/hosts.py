"""Which Host headers are accepted: a defence against DNS rebinding."""

import re
import socket
import threading
from collections.abc import Iterable, Mapping
from ipaddress import ip_address

CLIENT_HEADER = "sec-machines-client"
"""Scripts in a browser cannot set headers that begin with Sec-, so the sender of this one is not a page."""
PRIVATE_DOMAINS = (".localhost", ".local", ".lan", ".internal", ".home.arpa")

_LOWER_CASE_NAME = re.compile(r"[a-z0-9_-]+(\.[a-z0-9_-]+)*")
_HOST_HEADER = re.compile(
    rf"(?:\[(?P<v6>[0-9a-f:.]+)(?:%[\w.-]+)?\]|(?P<name>{_LOWER_CASE_NAME.pattern})\.?)(?::[0-9]*)?",
    re.ASCII | re.IGNORECASE,
)
MAX_HOST_CHARACTERS = 260

Refusal = tuple[int, str, str]


class HostRule:
    """Decides which requests are for this host; `allowed` has names, or `.example.com` for a whole domain."""

    def __init__(self, allowed: Iterable[str]) -> None:
        self._names: set[str] = set()
        self._domains = [*PRIVATE_DOMAINS]
        for name in allowed:
            self._names.add(name.removeprefix("."))
            if name.startswith("."):
                self._domains.append(name)

    def learn_own_name(self) -> None:
        """Allow this host's fully qualified name as well, as soon as a thread has resolved it."""
        threading.Thread(
            target=lambda: self._names.add(_normalised(socket.getfqdn())), name="own-name", daemon=True
        ).start()

    def refusal(self, target: str, headers: Mapping[str, str], version: str) -> Refusal | None:
        """Status, code and message of the error for a request that is refused; None if it is allowed."""
        host = _authority(target)
        if host is None:
            host = headers.get("host")
        if host is None and version == "1.0":
            return None
        name = host_name(host or "")
        if name is None:
            return 400, "bad_request", "The Host header must be a name or an address, optionally with a port."
        if headers.get(CLIENT_HEADER) or self.allows(name):
            return None
        message = (
            f"This sidecar does not answer to the name {name}: "
            "use its address, or add the name to its setting SIDECAR_ALLOWED_HOSTS."
        )
        return 421, "misdirected_request", message

    def allows(self, name: str) -> bool:
        """Return whether `name`, in lower case and without a port, is a name of this host."""
        return (
            "." not in name
            or _is_address(name)
            or name in self._names
            or name.endswith(tuple(self._domains))
            or name == _normalised(socket.gethostname())
        )


def host_name(host: str) -> str | None:
    """The name or address in a Host header, in lower case and without its port; None if it is malformed."""
    found = _HOST_HEADER.fullmatch(host)
    if found is None or len(host) > MAX_HOST_CHARACTERS:
        return None
    name = found["name"]
    if name is not None:
        return name.lower()
    return found["v6"].lower() if _is_address(found["v6"]) else None


def is_allowed_host(text: str) -> bool:
    """Return whether `text` is a host name in lower case, or a domain after a dot."""
    return _LOWER_CASE_NAME.fullmatch(text.removeprefix(".")) is not None


def _authority(target: str) -> str | None:
    """The host of a target in absolute form, which overrides the header; None for any other form."""
    _, found, rest = target.partition("://")
    return re.split("[/?#]", rest, maxsplit=1)[0] if found and not target.startswith("/") else None


def _is_address(name: str) -> bool:
    try:
        ip_address(name)
    except ValueError:
        return False
    return True


def _normalised(name: str) -> str:
    return name.lower().rstrip(".")
