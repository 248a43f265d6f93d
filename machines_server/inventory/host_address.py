"""The address of a host in a machine file: a host name or an IP address."""

import re
import socket
from contextlib import suppress
from ipaddress import IPv6Address, ip_address
from typing import Annotated

from pydantic import AfterValidator, Field, JsonValue

from machines_server.core.hosts import HOST_LABEL

_HOST_NAME = rf"(?:{HOST_LABEL}\.)*{HOST_LABEL}\.?"
_ENDS_IN_A_NUMBER = r"(?:.*\.)?(?:[0-9]+|0[xX][0-9A-Fa-f]*)\.?"
_HINTS = (
    (r"://", "remove the scheme"),
    (r"[\[\]]", "write an IPv6 address without brackets"),
    (r"^[^:]*:[0-9]+(/|$)|://.*:[0-9]+|\]:[0-9]+", "put the port under network.port"),
    (r"(?<![:/])/(?!/)|[?#]", "remove the path"),
    (r"@", "remove the user"),
    (r"\s", "remove the space"),
    (r"%", "remove the zone"),
    (r"[^\x00-\x7f]", "write the name in its ASCII form, xn--..."),
    (rf"^{_ENDS_IN_A_NUMBER}$", "this is not a complete IPv4 address"),
)
_NOT_A_HOST = "this is not the address of one host but means every address of the machine that reads it"


def _host(value: str) -> str:
    """Return an IP address or a host name; refuse names that resolvers read as IPv4, such as 127.1."""
    if _is_unspecified(value):
        raise ValueError(_NOT_A_HOST)
    with suppress(ValueError):
        if "%" not in str(ip_address(value)):
            return value
    if len(value) <= 253 and re.fullmatch(_HOST_NAME, value) and not re.fullmatch(_ENDS_IN_A_NUMBER, value):
        return value
    raise ValueError("; ".join(hint for pattern, hint in _HINTS if re.search(pattern, value[:300])))


def _is_unspecified(value: str) -> bool:
    """Return whether it is 0.0.0.0 or :: in any spelling: 0, 000.0.0.0, 0x0, [::], ::ffff:0.0.0.0."""
    with suppress(ValueError):
        address = ip_address(value.removeprefix("[").removesuffix("]"))
        mapped = address.ipv4_mapped if isinstance(address, IPv6Address) else None
        return (mapped or address).is_unspecified
    if not re.fullmatch(_ENDS_IN_A_NUMBER, value):
        return False
    with suppress(ValueError, OSError):
        return not any(socket.inet_aton(value.removesuffix(".")))
    return False


_SCHEMA: dict[str, JsonValue] = {
    "pattern": rf"^(?:{_HOST_NAME}|[0-9A-Fa-f.]*:[0-9A-Fa-f.]*:[0-9A-Fa-f:.]*)$",
    "maxLength": 253,
    "not": {"enum": ["0.0.0.0", "::"]},  # noqa: S104  nothing listens on it
}
Host = Annotated[str, AfterValidator(_host), Field(json_schema_extra=_SCHEMA)]
"""A string that is a host name or an IP address."""
