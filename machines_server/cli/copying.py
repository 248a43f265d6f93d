"""The command that copies the history of a single server into a cluster: copy."""

import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

import click

from machines_server.cli.command import command, is_interrupt
from machines_server.cli.installation import read_settings
from machines_server.cli.moments import HELP, Moment
from machines_server.cli.output import as_json, echo, echo_json
from machines_server.core.text import printable
from machines_server.core.times import parse_time
from machines_server.errors import SettingsError, StoreError

if TYPE_CHECKING:  # it needs libraries that only servers of a cluster have
    from machines_server.copying.copy import Copied

_AGAIN = "What has been copied stays: run the same command again to continue."
_LINE_EVERY_S, _REDRAW_EVERY_S = 5.0, 0.2


@command(
    "copy",
    examples=[
        ("machines-server copy --to-cluster", "Copy this host's stopped server into a cluster"),
        (
            "machines-server copy --to-cluster --from /backup/telemetry.db",
            "Copy it from a backup, while the server runs",
        ),
    ],
)
@click.option(
    "--to-cluster",
    is_flag=True,
    help="Copy to where MACHINES_DATABASE_URL and MACHINES_REMOTE_WRITE_URL say.",
)
@click.option(
    "--from",
    "source",
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="The database to copy; telemetry.db in MACHINES_DATA_DIR by default.",
)
@click.option("--since", type=Moment(), help=f"Leave out measurements older than this time: {HELP}")
@as_json
def copy(*, to_cluster: bool, source: Path | None, since: str | None, as_json: bool) -> None:
    """Copy the history of one server into a cluster.

    Measurements, events, models in memory and the times of polls are copied; the database is only read. The
    command can be interrupted and repeated: nothing is copied twice. Start the servers of the cluster when it
    is done.
    """
    if not to_cluster:
        raise click.UsageError("--to-cluster is required")
    settings = read_settings()
    if settings.database_url is None or settings.remote_write_url is None:
        raise SettingsError(
            "copy --to-cluster needs MACHINES_DATABASE_URL, MACHINES_REMOTE_WRITE_URL and MACHINES_QUERY_URL"
        )
    from machines_server.copying.copy import Destination, copy_past
    from machines_server.process.cluster import credential_in
    from machines_server.store.postgres.database import Database
    from machines_server.store.promql.series import PromqlSeries

    path, shown = source or settings.telemetry_db, _ProgressLine()
    database = Database(settings.database_url, settings.database_password_file)
    access = credential_in(settings.remote_write_credential_file)
    series = PromqlSeries(
        settings.query_url or "", credential_in(settings.query_credential_file), site=settings.site
    )
    to = Destination(database, settings.site, settings.remote_write_url, access, series)
    since_s = 0.0 if since is None else parse_time(since, time.time())
    try:
        copied = copy_past(path, to, shown.show, since=since_s)
    except (KeyboardInterrupt, StoreError) as error:
        shown.end()
        if is_interrupt(error):
            echo(f"Interrupted. {_AGAIN}", err=True)
        raise
    finally:
        series.close()
        database.close()
    shown.end()
    if as_json:
        echo_json(
            {
                "machines": copied.machines,
                "rows": copied.rows,
                "samples": copied.samples,
                "left_out": copied.left_out,
            }
        )
    else:
        echo(*_summary(path, copied, shown.seconds))


def _summary(path: Path, copied: "Copied", seconds: float) -> list[str]:
    if not copied.rows and not copied.samples:
        return [f"all of {path} has been copied already"]
    counts = f"{copied.machines:,} machines, {copied.rows:,} rows and {copied.samples:,} samples"
    lines = [f"copied {path}: {counts} in {seconds:,.0f} s"]
    if copied.left_out:
        lines.append(f"{copied.left_out:,} rollups were left out: no samples could have produced them")
    return lines


class _ProgressLine:
    """Reports progress on standard error: on a terminal, in one line that is rewritten."""

    def __init__(self) -> None:
        self._stream = sys.stderr
        self._is_terminal = self._stream.isatty()
        self._began_at = self._told_at = time.monotonic()
        self._width, self._part = 0, ""
        self._before = (self._began_at, 0, 0)

    @property
    def seconds(self) -> float:
        """How long the copying has taken."""
        return time.monotonic() - self._began_at

    def show(self, copied: "Copied") -> None:
        """Show the progress, unless it was shown just now; a terminal shows each part at least once."""
        now, is_new = time.monotonic(), self._is_terminal and copied.part != self._part
        if not is_new and now - self._told_at < (_REDRAW_EVERY_S if self._is_terminal else _LINE_EVERY_S):
            return
        self._told_at, self._part = now, copied.part
        text = printable(f"{copied.part}: {100 * copied.share:.1f} %, {self._rate(copied, now)}")
        if self._is_terminal:
            self._stream.write("\r" + text.ljust(self._width))
            self._width = len(text)
            self._stream.flush()
        else:
            echo(text, err=True)

    def _rate(self, copied: "Copied", now: float) -> str:
        began_at, rows, samples = self._before
        spent_s = max(now - began_at, 0.001)
        if spent_s > _LINE_EVERY_S:
            self._before = now, copied.rows, copied.samples
        if copied.part == "measurements":
            return f"{(copied.samples - samples) / spent_s:,.0f} samples/s"
        return f"{(copied.rows - rows) / spent_s:,.0f} rows/s"

    def end(self) -> None:
        """Make the next output begin on a new line."""
        if self._width:
            self._stream.write("\r" + " " * self._width + "\r")
            self._stream.flush()
            self._width = 0
