"""Ports for servers of a test, which nobody else on this machine gets meanwhile."""

import atexit
import socket


def hold_port(address: str = "127.0.0.1") -> socket.socket:
    """A socket that holds a port on all addresses of the family of `address` until it is closed.

    It is bound and does not listen: connections are refused, the kernel gives the port to nobody who
    asks for any, and a server that sets SO_REUSEADDR, as all do, can listen on it, also more than once.
    """
    family, everywhere = (socket.AF_INET6, "::") if ":" in address else (socket.AF_INET, "0.0.0.0")
    holder = socket.socket(family)
    holder.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    holder.bind((everywhere, 0))
    return holder


def free_port() -> int:
    """A port for a server, held until the tests end."""
    holder = hold_port()
    atexit.register(holder.close)
    port: int = holder.getsockname()[1]
    return port
