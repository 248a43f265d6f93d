"""Runs the benchmarks and prints one table; they write only into a temporary folder."""

import os
import platform
import sqlite3
import sys
import time
import traceback
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Protocol

import click

from bench import (
    cluster,
    cluster_history,
    dispatch,
    exposition,
    grants,
    history,
    large,
    outage,
    page,
    poll,
    route,
    scrape,
    serving,
    signed,
    tools,
)
from bench.table import Line, note, show


class Bench(Protocol):
    """A benchmark; it may write into `folder`, and takes far less time if `quick`."""

    def __call__(self, folder: Path, *, quick: bool) -> list[Line]:
        """Run it, and return its lines of the table."""


BENCHES: dict[str, Bench] = {
    "poll": poll.bench,
    "large": large.bench,
    "outage": outage.bench,
    "serving": serving.bench,
    "signed": signed.bench,
    "route": route.bench,
    "grants": grants.bench,
    "tools": tools.bench,
    "dispatch": dispatch.bench,
    "page": page.bench,
    "history": history.bench,
    "cluster": cluster.bench,
    "cluster-history": cluster_history.bench,
    "exposition": exposition.bench,
    "scrape": scrape.bench,
}


@click.command()
@click.argument("names", nargs=-1, type=click.Choice(list(BENCHES)))
@click.option("--quick", is_flag=True, help="Smaller fleets, one round: for a first look, not for figures.")
def main(names: tuple[str, ...], *, quick: bool) -> None:
    """Run the benchmarks NAMES, or all."""
    lines, failed, began = list[Line](), False, time.monotonic()
    for name in names or BENCHES:
        since = time.monotonic()
        with TemporaryDirectory(prefix="machines-bench-") as folder:
            try:
                lines += BENCHES[name](Path(folder), quick=quick)
            except Exception as error:  # noqa: BLE001  one failure must not stop the others
                traceback.print_exc()
                lines.append(Line(name, f"failed: {error}"))
                failed = True
        note(f"{name}: {time.monotonic() - since:.0f} s")
    show(lines)
    click.echo(
        f"{time.monotonic() - began:.0f} s on {os.cpu_count()} cores, {_processor()}; Linux"
        f" {platform.release()}, Python {platform.python_version()}, SQLite {sqlite3.sqlite_version}"
    )
    sys.exit(1 if failed else 0)


def _processor() -> str:
    """The name of the processor."""
    lines = Path("/proc/cpuinfo").read_text().splitlines()
    return next((line.partition(": ")[2] for line in lines if line.startswith("model name")), "unknown")


if __name__ == "__main__":
    main()
