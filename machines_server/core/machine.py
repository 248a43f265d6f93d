"""The machines an operator declared: one Machine per file, together a Registry."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from machines_server.core.model_names import model_key
from machines_server.core.text import printable


@dataclass(frozen=True, slots=True)
class Endpoint:
    """A polled server of a machine, which either reports on its host or serves models."""

    kind: str
    """The protocol, such as "ollama"; also its name in JSON and in the database."""
    hostname: str
    port: int
    reports_host: bool = False
    scheme: str = "http"
    prefix: str = ""
    """What a proxy puts before the paths of the kind: empty, or `/` and more without a `/` at its end."""
    ca: str | None = None
    """The file of MACHINES_CA_DIR with the authorities to trust; None for the system's."""
    credential: str | None = None
    """The file of MACHINES_CREDENTIALS_DIR to send with requests; None for none."""
    url: str = field(init=False, compare=False)
    """With the prefix, without the path, which depends on the kind."""
    needs_access: bool = field(init=False, compare=False, repr=False)
    """Whether requests need what a file contains."""

    def __post_init__(self) -> None:
        object.__setattr__(self, "url", endpoint_url(self.hostname, self.port, self.scheme, self.prefix))
        object.__setattr__(self, "needs_access", self.ca is not None or self.credential is not None)


@dataclass(frozen=True, slots=True)
class HostService:
    """Another HTTP service on a host; `name` is unique there, `url` is what is polled."""

    name: str
    port: int
    path: str
    description: str
    url: str


def endpoint_url(hostname: str, port: int, scheme: str = "http", prefix: str = "") -> str:
    """The URL of a server, with the port always in it."""
    host = f"[{hostname}]" if ":" in hostname else hostname
    return f"{scheme}://{host}:{port}{prefix}"


@dataclass(frozen=True, slots=True)
class Problem:
    """What is wrong in one machine file, and where; `line` and `column` count from 1."""

    file: str
    message: str
    line: int | None = None
    column: int | None = None
    key: str | None = None
    severity: Literal["error", "warning"] = "error"

    def __post_init__(self) -> None:
        """Escape control characters, since messages quote the names of files and keys."""
        object.__setattr__(self, "file", printable(self.file))
        object.__setattr__(self, "message", printable(self.message))
        object.__setattr__(self, "key", self.key and printable(self.key))

    def __str__(self) -> str:
        where = ":".join(str(part) for part in (self.file, self.line, self.column) if part is not None)
        return f"{where}: {self.key}: {self.message}" if self.key else f"{where}: {self.message}"


@dataclass(frozen=True, slots=True, eq=False)
class Machine:
    """One valid machine file.

    `declared` has the keys and values of the file, in its order, as JSON values. `declared_json` is the JSON
    text of each top-level value, serialised only once.
    """

    name: str
    file: str
    role: str
    hostname: str
    port: int
    """The port of its model server, or the one that is declared for it."""
    endpoints: Mapping[str, Endpoint]
    """The polled servers by kind, in the order of reports."""
    models: tuple[str, ...]
    declared: Mapping[str, Any]
    declared_json: Mapping[str, str]
    gpus: tuple[int | str, ...] | None = None
    """The cards that its Ollama uses, by index or UUID; None means all."""
    reserve_vram_bytes: int = 0
    """The memory to keep free on each card for its owner."""
    max_loaded_models: int | None = None
    """How many models its Ollama holds at a time; None if unknown."""
    max_leases: int | None = None
    """How many leases it may have at a time; None means any number."""
    services: tuple[HostService, ...] = ()
    """Other services polled on its host."""
    sidecar: Endpoint | None = field(init=False, repr=False)
    """The endpoint that reports on its host."""
    model_server: Endpoint | None = field(init=False, repr=False)
    """The endpoint that serves models."""
    url: str = field(init=False, repr=False)
    """The URL of its model server, or the one it would have."""
    needs_access: bool = field(init=False, repr=False)
    """Whether requests to any endpoint need what a file contains."""
    declares_gpus: bool = field(init=False, repr=False)
    """Whether `hardware.gpu` lists any GPU."""
    model_keys: frozenset[str] = field(init=False, repr=False)
    """The keys of the declared models."""

    def __post_init__(self) -> None:
        endpoints = self.endpoints.values()
        sidecar = next((endpoint for endpoint in endpoints if endpoint.reports_host), None)
        model_server = next((endpoint for endpoint in endpoints if not endpoint.reports_host), None)
        object.__setattr__(self, "sidecar", sidecar)
        object.__setattr__(self, "model_server", model_server)
        if model_server:
            object.__setattr__(self, "port", model_server.port)
        url = model_server.url if model_server else endpoint_url(self.hostname, self.port)
        object.__setattr__(self, "url", url)
        object.__setattr__(self, "needs_access", any(endpoint.needs_access for endpoint in endpoints))
        object.__setattr__(self, "declares_gpus", _names_gpus(self.declared.get("hardware")))
        object.__setattr__(self, "model_keys", frozenset(map(model_key, self.models)))

    @property
    def credential(self) -> str | None:
        """The name of the credential that requests to its model server need, or None."""
        return self.model_server.credential if self.model_server else None


def _names_gpus(hardware: Any) -> bool:
    gpus = hardware.get("gpu") if isinstance(hardware, Mapping) else None
    if isinstance(gpus, str):
        return gpus.strip().lower() not in ("", "none", "no", "n/a", "-", "0")
    return any(gpus) if isinstance(gpus, list) else bool(gpus)


@dataclass(frozen=True, slots=True, eq=False)
class Registry:
    """All machines, sorted by name, and the problems of all files; compared by identity.

    If not `is_whole`, the folder could not be read, and missing machines have not been removed. A registry
    with `shards` has only their machines, each shard with the epoch in which this process holds it.
    """

    machines: tuple[Machine, ...] = ()
    problems: tuple[Problem, ...] = ()
    loaded_at: float = 0.0
    is_whole: bool = True
    shards: Mapping[int, int] | None = None
    _by_name: dict[str, Machine] = field(init=False, repr=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "_by_name", {machine.name.casefold(): machine for machine in self.machines})

    def __iter__(self) -> Iterator[Machine]:
        return iter(self.machines)

    def __len__(self) -> int:
        return len(self.machines)

    def first_problems(self, most: int, more: Sequence[Problem] = ()) -> list[Problem]:
        """At most `most` problems, errors first if some are left out; the last one then says how many.

        `more` are problems that the files alone do not show.
        """
        problems = [*self.problems, *more]
        if len(problems) <= most:
            return problems
        by_severity = sorted(problems, key=lambda problem: problem.severity == "warning")
        listed, omitted = by_severity[: most - 1], by_severity[most - 1 :]
        errors = sum(problem.severity == "error" for problem in omitted)
        message = f"there are {len(omitted):,} more problems, {errors:,} of them errors"
        message += "; `machines-server validate` prints them all"
        return [*listed, Problem("*.yaml", message, severity="error" if errors else "warning")]

    def get(self, name: str) -> Machine | None:
        """The machine of that name, compared without case."""
        return self._by_name.get(name.casefold())


def to_poll_at_once(old: Registry, new: Registry) -> Iterable[Machine]:
    """Machines of `new` that `old` lacks, or has at another address or with another credential."""
    for machine in new:
        known = old.get(machine.name)
        if known is None or known.endpoints != machine.endpoints:
            yield machine
