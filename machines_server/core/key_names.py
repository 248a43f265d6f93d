"""What the name of a key in a machine file reveals: a spelling mistake, or a secret."""

import re
from collections.abc import Iterable, Mapping
from typing import Any

_WORDS = re.compile(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+|[0-9]+")
_FULL_WORDS = {"host": "hostname"}

_MAY_BE_SECRET = re.compile(r"pass|pwd|secret|token|key", re.IGNORECASE)
_SECRET = re.compile(
    r"password(?!less)|passwd|pass ?(?:phrase|code)|\bpwds?\b|\bpass$|secrets?\b|(?:api|private) ?keys?\b"
    r"|(?:api|access|auth|bearer|refresh|session) tokens\b"
)
_TOKEN = re.compile(r"token\b")
_TOKEN_COUNT_WORDS = re.compile(
    r"\b(?:max|min|limits?|counts?|per|rate|budget|size|length|window|ids?|eos|bos|pad|unk|sep|cls|mask|stop"
    r"|special|context|prompt|completion|input|output|cost|price|usage|speed|throughput)\b"
)
"""Words that, next to `token`, refer to the tokens of language models."""


def closest_key(key: str, known: Iterable[str]) -> str | None:
    """The known key that `key` was probably meant to be; None if it is known, or resembles none."""
    if key in known:
        return None
    words = _words(key)
    full_words = [_FULL_WORDS.get(word, word) for word in words]
    close = [name for name in known if full_words == _words(name)]
    close = close or [name for name in known if _is_similar(words, _words(name))]
    return min(close, key=lambda name: abs(len(name) - len(key)), default=None)


def is_secret(key: str) -> bool:
    """Return whether a word of the key says that its value is a secret: `apiKey`, `API_KEY`, `api-key`."""
    if not _MAY_BE_SECRET.search(key):
        return False
    spellings = f"{key} {' '.join(_WORDS.findall(key))}"
    text = re.sub(r"[^a-z]+", " ", spellings.lower()).strip()
    return bool(_SECRET.search(text) or (_TOKEN.search(text) and not _TOKEN_COUNT_WORDS.search(text)))


def without_secrets(value: Any) -> Any:
    """A JSON value without the secret keys in it."""
    if isinstance(value, Mapping):
        return {key: without_secrets(item) for key, item in value.items() if not is_secret(key)}
    return [without_secrets(item) for item in value] if isinstance(value, list) else value


def _words(key: str) -> list[str]:
    return [word.lower() for word in _WORDS.findall(key)]


def _is_similar(words: list[str], ours: list[str]) -> bool:
    """Return whether the words are the same in any order, a subset, or differ by at most two typos."""
    if sorted(words) == sorted(ours) or (len(words) > 1 and set(words) <= set(ours)):
        return True
    text, name = "".join(words), "".join(ours)
    if len(name) < 4:
        return text == name
    if len(name) < 6 and text[:1] != name[0] and text[1::-1] != name[:2]:
        return False
    return _is_within(text, name, 1 if len(name) < 8 else 2)


def _is_within(text: str, name: str, edits: int) -> bool:
    """Return whether at most `edits` missing, added, replaced or swapped letters turn one into the other."""
    if abs(len(text) - len(name)) > edits:
        return False
    while text and name and text[0] == name[0]:
        text, name = text[1:], name[1:]
    if not (text and name):
        return True
    if not edits:
        return False
    return (
        _is_within(text[1:], name[1:], edits - 1)
        or _is_within(text[1:], name, edits - 1)
        or _is_within(text, name[1:], edits - 1)
        or (text[1::-1] == name[:2] and _is_within(text[2:], name[2:], edits - 1))
    )
