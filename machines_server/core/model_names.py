"""Ollama's names of models: what they are short for, and when two mean the same model.

The grammar is Ollama's own (`types/model/name.go`): `[host/][namespace/]model[:tag]`.
"""

import re
from collections.abc import Iterable
from functools import lru_cache

_NAME = re.compile(
    r"""(?:(?:(?P<host>[a-z0-9_][a-z0-9_.:-]{0,349})/)?
            (?P<namespace>[a-z0-9_][a-z0-9_-]{0,79})/)?
        (?P<model>[a-z0-9_][a-z0-9_.-]{0,79})
        (?::(?P<tag>[a-z0-9_][a-z0-9_.-]{0,79}))?""",
    re.VERBOSE,
)
_MAX_LENGTH = 700


@lru_cache(maxsize=8192)
def canonical(name: str) -> str | None:
    """The full lower-case form `host/namespace/model:tag`, or None if Ollama would not accept the name."""
    if len(name) > _MAX_LENGTH or not name.isascii():  # lower() makes a k of the Kelvin sign
        return None
    bare = name.lower().rpartition("://")[2]
    match = _NAME.fullmatch(bare.removesuffix(":local"))
    if match is None or match["tag"] == "local":  # a second source, which Ollama refuses
        return None
    host, namespace, model, tag = match.group("host", "namespace", "model", "tag")
    return f"{host or 'registry.ollama.ai'}/{namespace or 'library'}/{model}:{tag or 'latest'}"


def same_model(one: str, other: str) -> bool:
    """Whether two names mean the same model; names that Ollama would not accept match only themselves."""
    return model_key(one) == model_key(other)


def spelled_as(name: str, declared: Iterable[str]) -> str:
    """`name` as the machine's file spells it, else as it is."""
    key = model_key(name)
    return next((spelling for spelling in declared if model_key(spelling) == key), name)


def model_key(name: str) -> str:
    """What two names of one model have in common: the canonical name, or itself if there is none."""
    return canonical(name) or name
