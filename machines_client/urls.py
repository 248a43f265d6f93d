"""The URL of a server."""

import os
import socket
from ipaddress import IPv4Address, ip_address
from urllib.parse import urlsplit

DEFAULT_URL = "http://127.0.0.1:3038"


def server_url(text: str | None = None) -> str:
    """The URL of a server from a URL or `host:port`, by default from MACHINES_URL.

    Raises ValueError if it is not a URL, TypeError if it is not a string.
    """
    if text is not None and not isinstance(text, str):
        raise TypeError(f"url must be a string such as {DEFAULT_URL} or host:port, not {text!r}")
    origin = "" if text else "MACHINES_URL: "
    text = text or os.environ.get("MACHINES_URL") or DEFAULT_URL
    url = text if "://" in text else f"http://{text}"
    try:
        parts = urlsplit(url)
        is_valid = parts.scheme in ("http", "https") and parts.hostname and parts.port != 0
        # A name alone is more likely a mistake than a server at port 80.
        is_valid = is_valid and (url == text or parts.port is not None)
    except ValueError:
        is_valid = False
    if not is_valid:
        raise ValueError(
            f"{origin}{text} is not the URL of a server; give one such as {DEFAULT_URL}, or host:port"
        ) from None
    return url.rstrip("/")


def is_loopback(host: str) -> bool:
    """Return whether the host of a URL is this machine, which no proxy can reach; 127.1 means 127.0.0.1."""
    host = host.rstrip(".")
    if host == "localhost" or host.endswith(".localhost"):
        return True
    try:
        address = ip_address(host)
    except ValueError:
        try:
            address = IPv4Address(socket.inet_aton(host))
        except (OSError, UnicodeError):
            return False
    return (getattr(address, "ipv4_mapped", None) or address).is_loopback
