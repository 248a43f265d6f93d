"""What an operator usually has to do when an endpoint does not answer."""

from machines_server.core.registry import Endpoint, Machine
from machines_server.core.sample import State


def hint(machine: Machine, endpoint: Endpoint, state: State, reason: str) -> str | None:
    """One sentence that mends the usual cause, or None where there is no usual cause."""
    if state is State.UNREACHABLE and reason.startswith("name not"):
        return f"check network.hostname in {machine.file}, or the name service of this server"
    if state is State.UNREACHABLE:
        if endpoint is Endpoint.OLLAMA and machine.hostname in _LOOPBACK:
            return "start Ollama, or set network.ollama: false"
        return _UNREACHABLE[endpoint].format(port=machine.port)
    if state is State.BUSY and endpoint is Endpoint.OLLAMA:
        return "it is usually loading a model"
    if reason == "HTTP status 403" and endpoint is Endpoint.OLLAMA:
        return "a proxy or OLLAMA_ORIGINS on that host refuses this server"
    if reason.startswith("HTTP status 5"):
        return "its own log says why"
    if reason == "HTTP status 401":
        return "something before it asks for a password, and this server has none"
    if state is State.ERROR:
        key = "network.port" if endpoint is Endpoint.OLLAMA else "network.sidecar_port"
        return f"check that {key} in {machine.file} is the port of its {_NAMES[endpoint]}"
    return None


_NAMES = {Endpoint.SIDECAR: "sidecar", Endpoint.OLLAMA: "Ollama"}
_LOOPBACK = frozenset({"localhost", "127.0.0.1", "::1"})
_UNREACHABLE = {
    Endpoint.SIDECAR: "run `make run-sidecar` on that host, or set network.sidecar: false",
    Endpoint.OLLAMA: "start Ollama there with OLLAMA_HOST=0.0.0.0:{port}; by itself it serves 127.0.0.1",
}
