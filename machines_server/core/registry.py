"""The machines an operator declared: one Machine per file, together a Registry."""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, Literal

from machines_server.core.model_names import model_key


class Endpoint(StrEnum):
    """What a host can be asked on: its sidecar's /metrics and its Ollama's /api/ps."""

    SIDECAR = "sidecar"
    OLLAMA = "ollama"


@dataclass(frozen=True, slots=True)
class Problem:
    """What is wrong in one machine file, and where; `line` and `column` count from 1."""

    file: str
    message: str
    line: int | None = None
    column: int | None = None
    key: str | None = None
    severity: Literal["error", "warning"] = "error"

    def __str__(self) -> str:
        where = ":".join(str(part) for part in (self.file, self.line, self.column) if part is not None)
        return f"{where}: {self.key}: {self.message}" if self.key else f"{where}: {self.message}"


@dataclass(frozen=True, slots=True, eq=False)
class Machine:
    """One machine file, read and checked.

    `declared` is the file as JSON can hold it: same keys, same order, same values. `declared_json` is
    the JSON text of each top-level value, made once so that answers need not be serialised again.
    """

    name: str
    file: str
    role: str
    hostname: str
    port: int
    sidecar_port: int
    has_ollama: bool
    has_sidecar: bool
    models: tuple[str, ...]
    declared: Mapping[str, Any]
    declared_json: Mapping[str, str]
    endpoints: Mapping[Endpoint, str] = field(init=False, repr=False)
    """The URL of each endpoint that the machine has."""
    url: str = field(init=False, repr=False)
    """Where its Ollama is asked to work."""
    tags_url: str | None = field(init=False, repr=False)
    """Where its Ollama lists what is on its disk."""
    model_keys: frozenset[str] = field(init=False, repr=False)
    """The keys of the models that are declared."""

    def __post_init__(self) -> None:
        host = f"[{self.hostname}]" if ":" in self.hostname else self.hostname
        url = f"http://{host}:{self.port}"
        endpoints = {}
        if self.has_sidecar:
            endpoints[Endpoint.SIDECAR] = f"http://{host}:{self.sidecar_port}/metrics"
        if self.has_ollama:
            endpoints[Endpoint.OLLAMA] = f"{url}/api/ps"
        object.__setattr__(self, "endpoints", endpoints)
        object.__setattr__(self, "url", url)
        object.__setattr__(self, "tags_url", f"{url}/api/tags" if self.has_ollama else None)
        object.__setattr__(self, "model_keys", frozenset(map(model_key, self.models)))


@dataclass(frozen=True, slots=True, eq=False)
class Registry:
    """All machines, sorted by name, and the problems of all files; compared by identity.

    Unless it `is_whole`, the folder could not be read: a machine that is missing was not removed.
    """

    machines: tuple[Machine, ...] = ()
    problems: tuple[Problem, ...] = ()
    loaded_at: float = 0.0
    is_whole: bool = True
    _by_name: dict[str, Machine] = field(init=False, repr=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "_by_name", {machine.name.casefold(): machine for machine in self.machines})

    def __iter__(self) -> Iterator[Machine]:
        return iter(self.machines)

    def __len__(self) -> int:
        return len(self.machines)

    def get(self, name: str) -> Machine | None:
        """The machine of that name, compared without case."""
        return self._by_name.get(name.casefold())


def to_poll_at_once(old: Registry, new: Registry) -> Iterable[Machine]:
    """Machines of `new` that `old` does not have, or has at another address."""
    for machine in new:
        known = old.get(machine.name)
        if known is None or known.endpoints != machine.endpoints:
            yield machine
