"""All that a store knows of the present, at one moment."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from machines_server.core.live import Latest
from machines_server.core.registry import Endpoint
from machines_server.core.sample import Cycle, Library, ModelSize


@dataclass(frozen=True, slots=True, eq=False)
class Snapshot:
    """The latest of every endpoint and the latest finished cycle; what is on disks, and what models took.

    Mappings have the case-folded names of machines. `held_since`: since when (epoch seconds) each model that
    a machine holds has been listed.
    """

    latest: Mapping[str, Mapping[Endpoint, Latest]] = field(default_factory=dict)
    cycle: Cycle | None = None
    libraries: Mapping[str, Library] = field(default_factory=dict)
    sizes: tuple[ModelSize, ...] = ()
    held_since: Mapping[str, Mapping[str, float]] = field(default_factory=dict)
