"""The state of all machines as routing sees it."""

from collections.abc import Mapping, Sequence, Set
from dataclasses import dataclass, field
from functools import cached_property
from itertools import chain

from machines_server.core.model_names import is_cloud_key, model_key, spelled_as
from machines_server.core.routing.leases import Lease, listed_name
from machines_server.core.routing.versions import Version, loaded_versions, version_of
from machines_server.core.sample import Library, LoadedModel, ModelSize, StoredModel
from machines_server.core.state import MachineState
from machines_server.core.status import Status

MAX_KNOWN_VERSIONS = 100
"""The models whose versions are kept, since many callers ask for the same ones."""


@dataclass(frozen=True)
class Fleet:
    """The state of every machine, the models on its disk, and the memory that models took before.

    Mappings by machine use its case-folded name. `held_since` has the epoch seconds at which each loaded
    model was first listed, `absent_at` the last ones before at which it was not, if known. Unless
    `is_polled`, what is unknown stays unknown.
    """

    states: tuple[MachineState, ...] = ()
    libraries: Mapping[str, Library] = field(default_factory=dict)
    sizes: tuple[ModelSize, ...] = ()
    held_since: Mapping[str, Mapping[str, float]] = field(default_factory=dict)
    absent_at: Mapping[str, Mapping[str, float]] = field(default_factory=dict)
    interval_s: float = 5.0
    is_polled: bool = True

    def state_of(self, name: str) -> MachineState | None:
        """The state of the machine with that name."""
        return self._by_name.get(name.casefold())

    def held_since_on(self, state: MachineState) -> Mapping[str, float]:
        """When each model in that machine's memory was first listed, in epoch seconds."""
        return self.held_since.get(state.machine.name.casefold(), {})

    def others_on_host(self, state: MachineState) -> Sequence[MachineState]:
        """The other machines on the same host: those with a GPU or an endpoint in common."""
        if not self._by_shared_part:
            return ()
        sharing = (other for part in state.parts for other in self._by_shared_part.get(part, ()))
        return [other for other in dict.fromkeys(sharing) if other is not state]

    def library_of(self, state: MachineState) -> Library | None:
        """The models on that machine's disk; None if unknown."""
        library = self.libraries.get(state.machine.name.casefold())
        return library if library and library.url == state.machine.url else None

    def stored_model(self, state: MachineState, key: str) -> StoredModel | None:
        """The model with that key on that machine's disk, if it is there."""
        library = self.library_of(state)
        model = library.by_key.get(key) if library else None
        return None if model is None or model.is_remote else model

    def cloud_proxies(self, key: str) -> set[str]:
        """The names of the machines whose Ollama forwards requests for that model to a cloud."""
        if key not in self._cloud_keys and not is_cloud_key(key):
            return set()
        return {state.machine.name for state in self.states if self._is_cloud_proxy(state, key)}

    def _is_cloud_proxy(self, state: MachineState, key: str) -> bool:
        library = self.library_of(state)
        if library is None:  # then trust what the file declares
            return is_cloud_key(key) and key in state.machine.model_keys
        return key in library.remote

    def stored_model_names(self, state: MachineState) -> list[str]:
        """The names of the models on that machine's disk, as its file spells them, sorted."""
        library = self.library_of(state)
        stored = library.models if library else ()
        return sorted(
            {spelled_as(model.model, state.machine.models) for model in stored if not model.is_remote}
        )

    def version_on(self, state: MachineState, digest: str | None) -> Version | None:
        """The version that a digest identifies on that machine; None if it proves nothing there."""
        return version_of(digest, self.library_of(state))

    def versions(self, key: str) -> Set[Version]:
        """All versions of a model: those on disks, and those in memory that no disk of the machine lists."""
        known = self._known_versions.get(key)
        if known is None:
            known = self._found_versions(key)
            if len(self._known_versions) < MAX_KNOWN_VERSIONS:
                self._known_versions[key] = known
        return known

    def _found_versions(self, key: str) -> Set[Version]:
        versions = {
            version_of(library.by_key[key].digest, library)
            for library in self.libraries.values()
            if key in library.by_key
        }
        for name, model in self._holders_by_key.get(key, {}).items():
            state = self._by_name[name.casefold()]
            library = self.library_of(state)
            if library is None or key not in library.by_key:
                loaded = loaded_versions(state.models, library)
                versions |= {version for other, version in loaded if other is model}
        return {version for version in versions if version}

    def sizes_of(self, key: str, versions: Set[Version]) -> list[ModelSize]:
        """The known sizes of a model, under its own name or another name of one of its `versions`."""
        digests = {version.digest for version in versions}
        return [
            size
            for size in self.sizes
            if size.key == key
            or (
                size.digest in digests
                and size.machine
                and self._version_at(size.machine, size.digest) in versions
            )
        ]

    def _version_at(self, machine: str, digest: str | None) -> Version | None:
        return version_of(digest, self.libraries.get(machine.casefold()))

    def has_model(self, key: str) -> bool:
        """Return whether a machine holds the model or has it on disk, or declares it with an unknown disk."""
        return key in self._holders_by_key or any(
            key in library.by_key if (library := self.library_of(state)) else key in state.machine.model_keys
            for state in self.states
        )

    def declares_model(self, key: str) -> bool:
        """Return whether any machine file lists the model."""
        return any(key in state.machine.model_keys for state in self.states)

    @cached_property
    def model_names(self) -> tuple[str, ...]:
        """The names of all models: first in memory, then on disks, then declared."""
        libraries = (self.library_of(state) for state in self.states)
        return tuple(
            dict.fromkeys(
                chain(
                    (model.model for state in self.states for model in state.models),
                    (model.model for library in libraries if library for model in library.models),
                    (model for state in self.states for model in state.machine.models),
                )
            )
        )

    def held_model(self, state: MachineState, key: str, versions: Set[Version]) -> LoadedModel | None:
        """The model as that machine lists it in memory.

        It may be listed under its own name or another name of one of its `versions`.
        """
        name = state.machine.name
        if found := self._holders_by_key.get(key, {}).get(name):
            return found
        listed = (self._by_version.get(version, {}).get(name) for version in versions)
        return next((model for model in listed if model), None)

    @property
    def next_poll_s(self) -> float | None:
        """How many seconds until the next poll may resolve what is unknown; None while no process polls."""
        return self.interval_s if self.is_polled else None

    @cached_property
    def has_unknown(self) -> bool:
        """Whether the status of any machine is unknown."""
        return any(state.verdict.status is Status.UNKNOWN for state in self.states)

    @cached_property
    def reserved_bytes(self) -> Mapping[str, int]:
        """The bytes that owners keep free on each GPU, by UUID; the largest if files differ."""
        reserved: dict[str, int] = {}
        for state in self.states:
            if (size_bytes := state.machine.reserve_vram_bytes) and state.ollama_host:
                for gpu in state.ollama_host.gpu:
                    reserved[gpu.uuid] = max(reserved.get(gpu.uuid, 0), size_bytes)
        return reserved

    @cached_property
    def _known_versions(self) -> dict[str, Set[Version]]:
        return {}

    @cached_property
    def _cloud_keys(self) -> set[str]:
        return {key for library in self.libraries.values() for key in library.remote}

    @cached_property
    def _by_name(self) -> dict[str, MachineState]:
        return {state.machine.name.casefold(): state for state in self.states}

    @cached_property
    def _by_shared_part(self) -> dict[str, list[MachineState]]:
        """The machines that share a part of a host, by that part."""
        seen, shared = set[str](), set[str]()
        for state in self.states:
            for part in state.parts:
                (shared if part in seen else seen).add(part)
        by_part: dict[str, list[MachineState]] = {part: [] for part in shared}
        for state in self.states if shared else ():
            for part in shared.intersection(state.parts):
                by_part[part].append(state)
        return by_part

    @cached_property
    def _holders_by_key(self) -> dict[str, dict[str, LoadedModel]]:
        """Each model by its key and by the name of the machine that has it in memory."""
        holders: dict[str, dict[str, LoadedModel]] = {}
        for state in self.states:
            for model in state.models:
                holders.setdefault(model_key(model.model), {})[state.machine.name] = model
        return holders

    @cached_property
    def _by_version(self) -> dict[Version, dict[str, LoadedModel]]:
        holders: dict[Version, dict[str, LoadedModel]] = {}
        for state in self.states:
            for model, version in loaded_versions(state.models, self.library_of(state)):
                holders.setdefault(version, {})[state.machine.name] = model
        return holders


def loaded_in_s(lease: Lease, fleet: Fleet) -> float | None:
    """The seconds from the grant of a lease until its model was listed.

    None if it is not yet listed, or if it was not seen to be absent after the grant: then it may have been
    loaded, at least in part, before. None also if the clock was set back so far that it was listed earlier.
    """
    state = fleet.state_of(lease.machine)
    name = listed_name(lease.model, lease.digest, state.models) if state else None
    if state is None or name is None:
        return None
    since = fleet.held_since_on(state).get(name)
    absent_at = fleet.absent_at.get(state.machine.name.casefold(), {}).get(name)
    if since is None or absent_at is None or absent_at < lease.created_at or since <= lease.created_at:
        return None
    return since - lease.created_at
