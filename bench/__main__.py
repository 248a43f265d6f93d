"""Runs the benchmarks and prints one table; all that they write is in a temporary folder."""

from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory

import click

from bench import history, poll, route
from bench.table import Line, show

BENCHES: dict[str, Callable[[Path], list[Line]]] = {
    "history": history.bench,
    "poll": poll.bench,
    "route": route.bench,
}


@click.command()
@click.argument("names", nargs=-1, type=click.Choice(list(BENCHES)))
def main(names: tuple[str, ...]) -> None:
    """Run the benchmarks NAMES, or all."""
    lines = []
    for name in names or BENCHES:
        with TemporaryDirectory(prefix="machines-bench-") as folder:
            lines += BENCHES[name](Path(folder))
    show(lines)


if __name__ == "__main__":
    main()
