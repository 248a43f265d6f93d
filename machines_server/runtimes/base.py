"""The interface of the kinds of server that are polled."""

from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import ClassVar, NamedTuple

from machines_server.core.sample import RuntimeState, StoredModel
from machines_server.runtimes.fields import Oddities


class Reading(NamedTuple):
    """The contents of an answer, and the impossible values that were dropped."""

    state: RuntimeState
    oddities: Oddities


class Stored(NamedTuple):
    """The models that a server can load from disk, sorted by name, and the values that were left out."""

    models: tuple[StoredModel, ...]
    oddities: Oddities


class Runtime(ABC):
    """One kind of server: the paths to poll, how to read answers, and hints for failures.

    Whether it reports on its host or serves models is up to the Endpoint. An instance reads the answers
    of one URL, one at a time, and may compare an answer with the previous one.

    Hints are templates: `{what}` is `title`, `{key}` is `port_key`, `{scheme_key}` itself, `{port}`,
    `{hostname}`, `{ca}` and `{credential}` are those of the endpoint, `{file}` is the machine file.
    """

    kind: ClassVar[str]
    """Its name in JSON, in the database and in machine files."""
    title: ClassVar[str]
    """Its name in a sentence."""
    port_key: ClassVar[str]
    """The key of its port in a machine file."""
    scheme_key: ClassVar[str] = "network.scheme"
    """The key of its scheme in a machine file."""
    path: ClassVar[str]
    """The path that is polled in each cycle."""
    library_path: ClassVar[str | None] = None
    """The path that lists the models on disk; None if there is none."""
    is_signed: ClassVar[bool] = False
    """Whether it may require signed requests."""
    needs_date: ClassVar[bool] = False
    """Whether its Date header is needed, because its answers have times by its own clock."""
    start_hint: ClassVar[str]
    """How to start it if nothing listens at its port."""
    local_start_hint: ClassVar[str | None] = None
    """How to start it on this server's own host, if that is simpler."""
    busy_hint: ClassVar[str | None] = None
    """Why it may accept a connection but not answer."""
    hints: ClassVar[Mapping[str, str]] = {}
    """Hints for wrong answers by the code of their reason; they override the common ones."""

    @abstractmethod
    def read(self, body: bytes) -> Reading:
        """Read the answer of `path`; raises BadAnswerError."""

    def read_library(self, body: bytes) -> Stored:
        """Read the answer of `library_path`; raises BadAnswerError."""
        raise NotImplementedError


Kinds = Mapping[str, type[Runtime]]
"""The kinds of server that are known, by `Runtime.kind`."""
