"""The endpoints that the key `network` of a machine file declares."""

from collections.abc import Iterator

from machines_server.core.hosts import is_loopback
from machines_server.core.machine import Endpoint
from machines_server.inventory.schema import Network


def endpoints(network: Network) -> Iterator[Endpoint]:
    """The endpoints of a machine.

    The credential is for its Ollama alone, unless a proxy has both at the same scheme, host and port.
    """
    sidecar_host = network.sidecar_hostname or network.hostname
    of_sidecar = network.sidecar_scheme, sidecar_host, network.sidecar_port
    of_ollama = network.scheme, network.hostname, network.port
    credential = network.credential or None
    if network.sidecar:
        yield Endpoint(
            "sidecar",
            sidecar_host,
            network.sidecar_port,
            reports_host=True,
            scheme=network.sidecar_scheme,
            ca=_authorities(network, network.sidecar_scheme),
            credential=credential if of_sidecar == of_ollama else None,
        )
    if network.ollama:
        yield Endpoint(
            "ollama",
            network.hostname,
            network.port,
            scheme=network.scheme,
            prefix=network.path.rstrip("/"),
            ca=_authorities(network, network.scheme),
            credential=credential,
        )


def sends_openly(network: Network) -> bool:
    """Return whether a credential is sent unencrypted to another computer."""
    is_remote = network.scheme == "http" and not is_loopback(network.hostname)
    return bool(network.credential) and network.ollama and is_remote


def _authorities(network: Network, scheme: str) -> str | None:
    return network.ca if network.ca and scheme == "https" else None
