"""Ollama's names of models: their full forms, and whether two names mean the same model.

The grammar is that of Ollama (`types/model/name.go`): `[host/][namespace/]model[:tag]`.
"""

import re
from collections.abc import Iterable
from functools import lru_cache

_MODEL_NAME = re.compile(
    r"""(?:(?:(?P<host>[a-z0-9_][a-z0-9_.:-]{0,349})/)?
            (?P<namespace>[a-z0-9_][a-z0-9_-]{0,79})/)?
        (?P<model>[a-z0-9_][a-z0-9_.-]{0,79})
        (?::(?P<tag>[a-z0-9_][a-z0-9_.-]{0,79}))?""",
    re.VERBOSE,
)
_MAX_LENGTH = 700


def canonical(name: str) -> str | None:
    """The full lower-case form `host/namespace/model:tag`, or None if Ollama would not accept the name."""
    return _canonical(name) if len(name) <= _MAX_LENGTH else None  # longer names are not cached


@lru_cache(maxsize=4096)
def _canonical(name: str) -> str | None:
    if not name.isascii():  # lower() would turn the Kelvin sign into a k
        return None
    bare = name.lower().rpartition("://")[2]
    match = _MODEL_NAME.fullmatch(bare.removesuffix(":local"))
    if match is None or match["tag"] == "local":  # given twice, which Ollama refuses
        return None
    host, namespace, model, tag = match.group("host", "namespace", "model", "tag")
    return f"{host or 'registry.ollama.ai'}/{namespace or 'library'}/{model}:{tag or 'latest'}"


def same_model(one: str, other: str) -> bool:
    """Return whether two names mean the same model; invalid names match only themselves."""
    return model_key(one) == model_key(other)


def spelled_as(name: str, declared: Iterable[str]) -> str:
    """A name as the machine's file spells it, or unchanged if the file does not list it."""
    key = model_key(name)
    return next((spelling for spelling in declared if model_key(spelling) == key), name)


def is_cloud_key(key: str) -> bool:
    """Return whether Ollama forwards requests for the model to its cloud, which reserves such tags."""
    return key.endswith((":cloud", "-cloud"))


def model_key(name: str) -> str:
    """A key that is the same for all names of a model: the canonical name, or the name itself if invalid."""
    return canonical(name) or name
