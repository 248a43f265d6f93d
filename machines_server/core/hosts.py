"""Which host names a request may use, and other questions about names and addresses.

A web page can point its own public name at our address (DNS rebinding) and then read whatever we answer to
that name. So requests with a public name are answered only if the operator has listed the name.
"""

import re
from collections.abc import Iterable
from ipaddress import IPv4Network, IPv6Address, IPv6Network, ip_address

PRIVATE_DOMAINS = (".localhost", ".local", ".lan", ".internal", ".home.arpa")
"""Domains that are never in public DNS: RFC 6761, 6762 and 8375, .internal as reserved by ICANN, and .lan."""
HOST_LABEL = "[A-Za-z0-9_](?:[A-Za-z0-9_-]{0,61}[A-Za-z0-9_])?"
"""A pattern for the part of a host name between dots."""
_NAME = re.compile(rf"{HOST_LABEL}(?:\.{HOST_LABEL})*")
_PORT = re.compile(r":[0-9]{0,5}\Z")
_MAPPED_PREFIX = "::ffff:"
Network = IPv4Network | IPv6Network


def host_name(host: str) -> str | None:
    """The name or address in a Host header, in lower case and without port; None if it is invalid."""
    name = _PORT.sub("", host.lower(), count=1)
    if name.startswith("[") and name.endswith("]"):
        return name[1:-1] if is_address(name[1:-1]) else None
    name = name.removesuffix(".")
    if is_address(name) and ":" not in name:
        return name
    return name if len(name) <= 253 and _NAME.fullmatch(name) else None


def is_allowed_host(name: str, own: Iterable[str] = (), allowed: Iterable[str] = ()) -> bool:
    """Return whether a request may use a name, as `host_name` returns it.

    `own` has the names of this machine; `allowed` has names, and domains such as `.example.com`.
    """
    if "." not in name or is_address(name) or name.endswith(PRIVATE_DOMAINS):
        return True
    dotted = f".{name}"
    return name in own or any(
        dotted.endswith(entry) if entry.startswith(".") else name == entry for entry in allowed
    )


def unmapped_address(address: str) -> str:
    """The address of a peer, without the ::ffff: that IPv6 sockets put before IPv4 addresses."""
    ipv4 = address.removeprefix(_MAPPED_PREFIX)
    return ipv4 if "." in ipv4 else address


def is_in_networks(address: str, networks: Iterable[Network]) -> bool:
    """Return whether a text is an address in one of the networks."""
    try:
        parsed = ip_address(address)
    except ValueError:
        return False
    return any(parsed in network for network in networks)


def parse_allowed_hosts(text: str) -> tuple[str, ...]:
    """Names and domains separated by commas; raises ValueError for anything else."""
    hosts = []
    for name in filter(None, (part.strip().lower().rstrip(".") for part in text.split(","))):
        if not _NAME.fullmatch(name.removeprefix(".")):
            raise ValueError("names separated by commas, such as example.com, or .example.com for a domain")
        hosts.append(name)
    return tuple(hosts)


def is_address(text: str) -> bool:
    """Return whether a text is an IPv4 or IPv6 address."""
    try:
        ip_address(text)
    except ValueError:
        return False
    return True


def is_loopback(host: str) -> bool:
    """Return whether a host name or address always means the local machine, as localhost does."""
    name = host.lower().rstrip(".")
    if name == "localhost" or name.endswith(".localhost"):
        return True
    if not (name.startswith("127.") or ":" in name):
        return False
    try:
        address = ip_address(name)
    except ValueError:
        return False
    mapped = address.ipv4_mapped if isinstance(address, IPv6Address) else None
    return (mapped or address).is_loopback
