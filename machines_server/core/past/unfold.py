"""Values that have a given fold, for a store that keeps only values."""

from collections.abc import Sequence

from machines_server.core.past.rollup import Fold

Runs = Sequence[tuple[int, int]]
"""Values, each with how many times it occurs."""


def unfolded(known: Fold) -> Runs | None:
    """As many values as were folded, with the same sum, minimum and maximum; None if that is impossible.

    Merged with other values they give exactly what the original ones would have given.
    """
    count, total, least, most = known
    if count < 0 or (count and (total is None or least is None or most is None)):
        return None
    if count == 0 or total is None or least is None or most is None:
        return ()
    if count == 1 or least == most:
        return ((least, count),) if least == most and total == least * count else None
    inner, left = count - 2, total - least - most
    if not inner:
        return None if left or least > most else ((least, 1), (most, 1))
    value, larger = divmod(left, inner)
    if value < least or value + bool(larger) > most:
        return None
    runs = (least, 1), (value, inner - larger), (value + 1, larger), (most, 1)
    return tuple(run for run in runs if run[1])
