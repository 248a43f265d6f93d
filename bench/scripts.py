"""Scripts of fake hosts: what each does when, so that observations can be compared with it."""

from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum
from itertools import pairwise
from random import Random

MODEL, OTHER_MODEL = "llama3.1:70b", "phi3:mini"


class Mode(StrEnum):
    """How a host treats connections."""

    UP = "up"
    DEAD = "dead"
    """Connections are reset and new ones refused, as when a process exits."""
    SILENT = "silent"
    """Nothing is sent any more, not even a reset, as when a cable is pulled."""


@dataclass(frozen=True, slots=True)
class Phase:
    """How a host behaves from `from_s` on, in seconds since its script began."""

    from_s: float = 0.0
    mode: Mode = Mode.UP
    models: tuple[str, ...] = (MODEL,)
    delay_s: float = 0.0
    """How long it takes to answer."""
    is_noisy: bool = True
    """Whether its readings differ from one response to the next."""
    clock_ahead_s: float = 0.0
    """How far its clock, as its Date header shows, is ahead of ours."""


Script = tuple[Phase, ...]
"""At least one phase, in order of time, the first from 0 on."""
NOISY: Script = (Phase(),)


class Kind(StrEnum):
    """The kinds of scripts in a fleet."""

    STEADY = "steady"
    NOISY = "noisy"
    LOADING = "loading and unloading models"
    SLOW = "slow"
    DYING = "dying"
    RETURNING = "coming back"
    HANGING = "falling silent and coming back"
    WRONG_CLOCK = "behind a clock that is off"


def kind_of(number: int) -> Kind:
    """The kind of a host, by its number."""
    return list(Kind)[number % len(Kind)]


def script_of(number: int, span_s: float) -> Script:
    """The script of a host over `span_s` seconds, the same each time."""
    chance = Random(number)
    match kind_of(number):
        case Kind.STEADY:
            return (Phase(is_noisy=False),)
        case Kind.NOISY:
            return NOISY
        case Kind.LOADING:
            sets = ((), (MODEL,), (MODEL, OTHER_MODEL), (OTHER_MODEL,))
            return tuple(
                Phase(at_s, models=sets[turn % len(sets)])
                for turn, at_s in enumerate(_random_times(chance, span_s, 8))
            )
        case Kind.SLOW:
            return (Phase(delay_s=chance.uniform(0.02, 0.08)),)
        case Kind.DYING:
            return (Phase(), Phase(span_s * chance.uniform(0.2, 0.8), Mode.DEAD))
        case Kind.RETURNING:
            return _alternating(chance, span_s, Mode.DEAD)
        case Kind.HANGING:
            return _alternating(chance, span_s, Mode.SILENT)
        case Kind.WRONG_CLOCK:
            return (Phase(clock_ahead_s=chance.choice((-86_400.0, -3600.0, 3600.0, 86_400.0))),)


def phase_at(script: Script, at_s: float) -> Phase:
    """The phase of a script `at_s` seconds after its beginning."""
    return next(phase for phase in reversed(script) if phase.from_s <= at_s or phase is script[0])


def spans(script: Script, until_s: float) -> Iterator[tuple[Phase, float, float]]:
    """Each phase with its beginning and end."""
    for phase, after in pairwise((*script, Phase(until_s))):
        yield phase, phase.from_s, after.from_s


def _alternating(chance: Random, span_s: float, mode: Mode) -> Script:
    return tuple(
        Phase(at_s, mode if turn % 2 else Mode.UP)
        for turn, at_s in enumerate(_random_times(chance, span_s, 6))
    )


def _random_times(chance: Random, span_s: float, count: int) -> list[float]:
    """Zero, and random times after it that are never close to each other."""
    part_s = span_s / count
    return [0.0] + [part_s * (turn + chance.uniform(-0.25, 0.25)) for turn in range(1, count)]
