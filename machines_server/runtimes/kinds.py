"""All kinds of server that are polled; CONTRIBUTING.md lists what a new kind needs."""

from machines_server.runtimes.base import Kinds
from machines_server.runtimes.ollama import Ollama
from machines_server.runtimes.sidecar import Sidecar

KINDS: Kinds = {kind.kind: kind for kind in (Sidecar, Ollama)}
