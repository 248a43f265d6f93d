"""A question for a machine, and which machine files meet it."""

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from machines_server.core.key_names import is_secret, without_secrets
from machines_server.core.machine import Machine
from machines_server.core.memory import Headroom
from machines_server.core.routing.answer import Rejection, RejectionCode
from machines_server.core.text import clip, clip_list


@dataclass(frozen=True, slots=True)
class Question:
    """The wanted model, "" for none, and what a machine must offer to be fit for it.

    `min_free_vram_gb` (GiB on one GPU) and `min_free_ram_gb` must be free besides the model and all leases;
    `min_context` is in tokens. `exclude` has case-folded names of machines, `where` pairs of a dotted path
    into the machine's file and its value. `cold` allows machines that would have to load the model first.
    `exclusive` asks for a host without leases.
    """

    model: str
    min_free_vram_gb: float = 0.0
    min_free_ram_gb: float = 0.0
    min_context: int = 0
    role: str | None = None
    tags: tuple[str, ...] = ()
    exclude: frozenset[str] = frozenset()
    where: tuple[tuple[str, str], ...] = ()
    cold: bool = False
    exclusive: bool = False

    @property
    def headroom(self) -> Headroom:
        """What must be free in addition to the model and all leases."""
        return Headroom(self.min_free_vram_gb, self.min_free_ram_gb)


def mismatch(question: Question, machine: Machine) -> Rejection | None:
    """Why the machine's file does not meet the question, or None if it does."""
    if question.exclude and machine.name.casefold() in question.exclude:
        return Rejection(machine.name, RejectionCode.EXCLUDED, "the request excludes it")
    if question.role is not None and machine.role != question.role:
        reason = f"its role is {clip(machine.role)}, not {clip(question.role)}"
        return Rejection(machine.name, RejectionCode.ROLE, reason)
    if question.tags:
        tags = {text_of(tag) for tag in values_at(machine.declared, "tags")}
        if missing := [tag for tag in question.tags if tag not in tags]:
            return Rejection(machine.name, RejectionCode.TAG, f"it is not tagged {clip_list(missing)}")
    for path, wanted in question.where:
        values = list(values_at(machine.declared, path))
        if any(_is_wanted(value, wanted) for value in values):
            continue
        key, texts = clip(path), [text_of(value) for value in values]
        problem = f"its {key} is {clip_list(texts)}, not" if values else f"it has no {key}, which should be"
        return Rejection(machine.name, RejectionCode.WHERE, f"{problem} {clip(wanted)}")
    return None


def values_at(declared: Any, path: str) -> Iterator[Any]:
    """The values at a dotted path of a machine's file, in every entry of lists, without secrets."""
    if isinstance(declared, list):
        for entry in declared:
            yield from values_at(entry, path)
    elif not path:
        yield without_secrets(declared)
    elif isinstance(declared, Mapping):
        for key, value in declared.items():
            if (path == key or path.startswith(f"{key}.")) and not is_secret(key):
                yield from values_at(value, path[len(key) + 1 :])


def text_of(value: Any) -> str:
    """A value of a machine's file as a query writes it: true, 128, warsaw."""
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def _is_wanted(value: Any, wanted: str) -> bool:
    """Whether a value is the wanted one; numbers are equal however they are written: 24, 24.0."""
    if text_of(value) == wanted:
        return True
    if isinstance(value, bool) or not isinstance(value, int | float):
        return False
    try:
        return float(wanted) == value
    except ValueError:
        return False
