"""Whether two names mean the same model, by its digest together with its size on disk.

A digest alone proves nothing: bridges to other services reuse the digest of a local model, and some servers
that imitate Ollama give all models the same digest.
"""

from collections.abc import Iterator, Sequence
from typing import NamedTuple

from machines_server.core.model_names import model_key
from machines_server.core.sample import Library, LoadedModel


class Version(NamedTuple):
    """One version of a model; `size_bytes` is its size on disk, 0 where no disk lists the digest."""

    digest: str
    size_bytes: int = 0


def version_of(digest: str | None, library: Library | None) -> Version | None:
    """The version that a digest identifies on the machine with that library; None if it proves nothing."""
    if not digest:
        return None
    size_bytes = library.size_of.get(digest, 0) if library else 0
    return None if size_bytes is None else Version(digest, size_bytes)


def loaded_versions(
    models: Sequence[LoadedModel], library: Library | None
) -> Iterator[tuple[LoadedModel, Version]]:
    """The loaded models of one machine with their versions, except where the digest proves nothing.

    Models with the same digest but different or unknown sizes in memory are not known to be the same.
    """
    for model in models:
        version = version_of(model.digest, library)
        if version is None or not (version.size_bytes or model.size_bytes):
            continue
        if all(other.size_bytes == model.size_bytes for other in models if other.digest == model.digest):
            yield model, version


def name_to_request(
    name: str, key: str, held: LoadedModel, since: float | None, library: Library | None
) -> str | None:
    """The name to send to an Ollama that holds the model `name` as `held`; None if it was deleted.

    Ollama still lists a deleted model in /api/ps, but answers requests for it with 404. A library shows a
    deletion only if it was read after the model was loaded (`since`, epoch seconds) and ever listed models.
    """
    if library and key in library.by_key:
        return name
    held_key = model_key(held.model)
    shows_deletions = (
        library and since is not None and library.at >= since and (library.has_listed or library.models)
    )
    if not library or not shows_deletions or held_key in library.by_key:
        return name if key == held_key else held.model
    version = version_of(held.digest, library)
    return next((model.model for model in library.models if version and model.digest == version.digest), None)
