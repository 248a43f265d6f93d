"""What this process asks of the system, as reported to the interpreter's audit hooks."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def audited(event: str) -> Iterator[list[str]]:
    """The first argument of each such event while the block runs, as text: a path, or the name of a host."""
    heard: list[str] = []
    is_over = False

    def hear(name: str, args: tuple[object, ...]) -> None:
        if name == event and not is_over:
            heard.append(str(args[0]))

    sys.addaudithook(hear)  # it cannot be taken away
    yield heard
    is_over = True
