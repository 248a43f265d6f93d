"""Everything that is known of all machines at one moment, as advice is made of it."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property

from machines_server.core.leases import Lease, listed_as
from machines_server.core.live import Live
from machines_server.core.model_names import model_key, spelled_as
from machines_server.core.sample import Library, LoadedModel, ModelSize, StoredModel
from machines_server.core.status import Status


@dataclass(frozen=True)
class Fleet:
    """What stands of every machine, what is on its disk, and what models took before.

    Mappings by machine have its case-folded name. `held_since` has the epoch seconds since when each model
    that a machine holds has been listed. Unless it `is_polled`, what is unknown will stay so.
    """

    lives: tuple[Live, ...] = ()
    libraries: Mapping[str, Library] = field(default_factory=dict)
    sizes: tuple[ModelSize, ...] = ()
    held_since: Mapping[str, Mapping[str, float]] = field(default_factory=dict)
    interval_s: float = 5.0
    is_polled: bool = True

    def live(self, name: str) -> Live | None:
        """What stands of the machine of that name."""
        return self._by_name.get(name.casefold())

    def since(self, live: Live) -> Mapping[str, float]:
        """Since when that machine has held each of its models."""
        return self.held_since.get(live.machine.name.casefold(), {})

    def library(self, live: Live) -> Library | None:
        """What is on the disk of that machine; None is unknown."""
        found = self.libraries.get(live.machine.name.casefold())
        return found if found and found.url == live.machine.tags_url else None

    def stored(self, live: Live, key: str) -> StoredModel | None:
        """A model, by its key, on the disk of that machine."""
        library = self.library(live)
        return library.by_key.get(key) if library else None

    def stored_models(self, live: Live) -> list[str]:
        """The names of what is on the disk of that machine, as its file spells them, sorted."""
        library = self.library(live)
        stored = library.models if library else ()
        return sorted({spelled_as(one.model, live.machine.models) for one in stored})

    def digests(self, key: str) -> set[str]:
        """What the model of that key is anywhere in the fleet; machines may have different versions of it."""
        found = {model.digest for _, model in self._holders.get(key, ())}
        found |= {library.by_key[key].digest for library in self.libraries.values() if key in library.by_key}
        return {digest for digest in found if digest}

    def holders(self, key: str) -> dict[str, LoadedModel]:
        """Who holds a model, under its own name or as an alias of the same digest, by name of machine."""
        digests = self.digests(key)
        found = {live.machine.name: model for one in digests for live, model in self._by_digest.get(one, ())}
        return found | {live.machine.name: model for live, model in self._holders.get(key, ())}

    @property
    def known_in_s(self) -> float | None:
        """How long it takes until more is known, if anybody polls."""
        return self.interval_s if self.is_polled else None

    @cached_property
    def has_unknown(self) -> bool:
        """Whether of any machine it is unknown how it is."""
        return any(live.verdict.status is Status.UNKNOWN for live in self.lives)

    @cached_property
    def _by_name(self) -> dict[str, Live]:
        return {live.machine.name.casefold(): live for live in self.lives}

    @cached_property
    def _holders(self) -> dict[str, list[tuple[Live, LoadedModel]]]:
        found: dict[str, list[tuple[Live, LoadedModel]]] = {}
        for live in self.lives:
            for model in live.models:
                found.setdefault(model_key(model.model), []).append((live, model))
        return found

    @cached_property
    def _by_digest(self) -> dict[str, list[tuple[Live, LoadedModel]]]:
        found: dict[str, list[tuple[Live, LoadedModel]]] = {}
        for live in self.lives:
            for model in live.models:
                if model.digest:
                    found.setdefault(model.digest, []).append((live, model))
        return found


def loaded_in_s(lease: Lease, fleet: Fleet) -> float | None:
    """How long after a lease was made the model that it had loaded appeared; None while it has not."""
    live = fleet.live(lease.machine)
    name = listed_as(lease.model, lease.digest, live.models) if live else None
    since = fleet.since(live).get(name) if live and name else None
    return since - lease.created_at if since is not None and since >= lease.created_at else None
