"""What an operator asks when something is wrong: each part looked at, each fault with what mends it."""

import os
import shutil
from collections.abc import Iterator, Mapping
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from machines_server.config import Settings, load_settings
from machines_server.core.hints import hint
from machines_server.core.registry import Endpoint, Registry
from machines_server.core.sample import HostSample, PollResult, State
from machines_server.core.times import rfc3339
from machines_server.errors import MigrationError, SettingsError, StoreError
from machines_server.poll.cycle import OwnFault, poll_all
from machines_server.poll.fetch import Fetcher
from machines_server.poll.schedule import allow_many_sockets
from machines_server.poller_lock import holder
from machines_server.registry_files import RegistryFiles
from machines_server.store.latest import LatestReader
from machines_server.store.migrate import pending

LOW_DISK_BYTES = 200 * 2**20


@dataclass(frozen=True, slots=True)
class Check:
    """One finding; `hint` says what mends it."""

    what: str
    verdict: Literal["ok", "warning", "error"]
    finding: str
    hint: str | None = None


def examine(environ: Mapping[str, str]) -> list[Check]:
    """Look at settings, files, data folder, poller, and ask every endpoint once from here."""
    try:
        settings, warnings = load_settings(environ)
    except SettingsError as error:
        return [
            Check("settings", "error", line, "see the README's table") for line in str(error).splitlines()
        ]
    checks = [Check("settings", "warning", warning) for warning in warnings] or [
        Check("settings", "ok", "all valid")
    ]
    with closing(LatestReader(settings.telemetry_db)) as store:
        registry = RegistryFiles(settings.dir, recall=store.last_good).current(0.0)
    checks += _files(settings.dir, registry)
    checks += _data_folder(settings)
    checks += _poller(settings)
    checks += _endpoints(registry, settings.poll_timeout_s)
    return checks


def _files(folder: Path, registry: Registry) -> Iterator[Check]:
    for problem in registry.problems:
        yield Check("machine files", problem.severity, f"{folder / str(problem)}")
    if not len(registry):
        advice = "copy one of machines/examples/ into it and edit it"
        yield Check("machine files", "warning", f"no machines in {folder}", advice)
    elif not registry.problems:
        yield Check("machine files", "ok", f"{len(registry)} in {folder}")


def _data_folder(settings: Settings) -> Iterator[Check]:
    what, folder, database = "data folder", settings.data_dir, settings.telemetry_db
    if not folder.exists():
        yield Check(what, "warning", f"{folder} does not exist yet", "`machines-server serve` makes it")
        return
    if not os.access(folder, os.W_OK | os.X_OK):
        yield Check(what, "error", f"{folder} cannot be written by this user", "chown or chmod it")
    if (free := shutil.disk_usage(folder).free) < LOW_DISK_BYTES:
        yield Check(
            what, "error", f"only {free // 2**20} MiB free at {folder}", "make room; what is there stays"
        )
    if not database.exists():
        yield Check(what, "warning", f"{database} does not exist yet", "`machines-server serve` makes it")
        return
    try:
        missing = pending(database)
    except MigrationError as error:
        yield Check(what, "error", str(error))
    except StoreError as error:
        advice = f"if it is damaged: end the server, move {database}* away, start again"
        yield Check(what, "error", str(error), advice)
    else:
        if missing:
            yield Check(what, "warning", f"{database} lacks {', '.join(missing)}", "machines-server migrate")
        else:
            yield Check(
                what, "ok", f"{database}, {database.stat().st_size / 2**20:.1f} MiB, {free // 2**30} GiB free"
            )


def _poller(settings: Settings) -> Iterator[Check]:
    leader = holder(settings.poller_lock)
    if leader is None:
        yield Check("poller", "warning", "nobody polls", "start `machines-server serve` (or `poll`)")
        return
    if leader.folder not in (None, os.path.realpath(settings.dir)):
        finding = f"process {leader.pid} polls the machine files of another folder, {leader.folder}"
        advice = "give each folder of machine files a MACHINES_DATA_DIR of its own"
        yield Check("poller", "error", finding, advice)
        return
    for part, fault in leader.faults.items():
        yield Check("poller", "error", f"process {leader.pid}: {part}: {fault}")
    if not leader.faults:
        yield Check("poller", "ok", f"process {leader.pid}, since {rfc3339(leader.since)}")


def _endpoints(registry: Registry, timeout_s: float) -> Iterator[Check]:
    allow_many_sockets()
    fetcher = Fetcher(timeout_s)
    found = {
        (result.machine, result.endpoint): result
        for result in poll_all(registry, fetcher)
        if isinstance(result, PollResult | OwnFault)
    }
    fetcher.close()
    for machine in registry:
        for endpoint in Endpoint:
            what, result = f"{machine.name} {endpoint}", found.get((machine.name, endpoint))
            if result is None:
                yield Check(what, "ok", "declared absent")
            elif isinstance(result, OwnFault):
                yield Check(what, "error", result.reason)
            elif result.state is State.OK:
                yield Check(
                    what, "ok", f"{result.url} answered in {result.took_s * 1000:.0f} ms: {_gist(result)}"
                )
            else:
                reason = result.reason or result.state
                advice = hint(machine, endpoint, result.state, reason)
                yield Check(what, "error", f"{result.url}: {reason}", advice)


def _gist(result: PollResult) -> str:
    if isinstance(result.answer, HostSample):
        gpus = f"{len(result.answer.gpu)} GPUs"
        lost = len(result.answer.gpu_unreadable)
        return f"{gpus}, {lost} unreadable" if lost else gpus
    return ", ".join(model.model for model in result.answer or ()) or "no model loaded"
