"""How this process takes memory and gives it back."""

import ctypes
import gc

_M_ARENA_MAX = -8
"""From glibc's malloc.h."""
_YOUNG_OBJECTS = 20_000
"""So many new objects bring a look at the new ones; by default 700 do."""


def use_one_arena() -> None:
    """Have all threads allocate from one arena, called before there are any; glibc alone has more.

    With an arena for each thread, freed memory of one is of no use to another: polling 500 hosts twice a
    second while clients ask took 103 to 107 MB, rising and falling, and now 87.3 MB from the first minute on.
    """
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (OSError, AttributeError):
        return
    mallopt(_M_ARENA_MAX, 1)


def collect_seldom() -> None:
    """Look for cycles of objects seldom, and not among those that are there now; called once all is imported.

    Nearly all that polling and answering make is freed without it; looking was a twentieth of the CPU of
    polling 1,000 hosts.
    """
    gc.freeze()
    gc.set_threshold(_YOUNG_OBJECTS, 20, 50)
