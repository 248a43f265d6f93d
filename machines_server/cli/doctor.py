"""Checks each part of the server for an operator, and says how to fix each fault."""

import os
import shutil
import time
from collections.abc import Iterator, Mapping
from contextlib import closing, suppress
from pathlib import Path

from machines_server.cli.doctor_of_credentials import check_authorities, check_credentials
from machines_server.cli.doctor_of_keys import check_certificate, check_clock, check_keys
from machines_server.cli.finding import Check
from machines_server.cli.shared_database import check_packages
from machines_server.core.machine import Registry
from machines_server.core.sample import PollResult, State
from machines_server.core.times import rfc3339
from machines_server.credentials.files import AccessFiles
from machines_server.errors import (
    DamagedStoreError,
    MigrationError,
    SettingsError,
    StoreError,
    UnsupportedError,
    described,
)
from machines_server.inventory.folder import RegistryFiles
from machines_server.poll.cycle import AnswerReader, OwnFault, poll_all
from machines_server.poll.fetch import Fetcher
from machines_server.poll.schedule import allow_many_sockets
from machines_server.process.exposure import warnings_here
from machines_server.process.own_key import own_signing
from machines_server.runtimes.kinds import KINDS
from machines_server.settings import Settings, load_settings
from machines_server.store.sqlite.connection import check_sqlite
from machines_server.store.sqlite.coordination.poller_lock import PollerLock
from machines_server.store.sqlite.migrate import pending
from machines_server.store.sqlite.own_files import open_to_others
from machines_server.store.sqlite.telemetry.latest import LatestReader

_NO_LEASES = "give it to the user who runs the server, or delete it, which ends all leases"
LOW_DISK_BYTES = 200 * 2**20


def examine(environ: Mapping[str, str]) -> list[Check]:
    """Check settings, files, data folder and poller, and poll every endpoint once from here."""
    try:
        settings, warnings = load_settings(environ)
    except SettingsError as error:
        return [Check("settings", "error", line, "see docs/settings.md") for line in str(error).splitlines()]
    checks = [Check("settings", "warning", warning) for warning in warnings] or [
        Check("settings", "ok", "all valid")
    ]
    checks += [Check("exposure", "warning", finding) for finding in warnings_here(settings)] or [
        Check("exposure", "ok", "nothing to warn about")
    ]
    registry, of_stores = _shared_stores(settings) if settings.is_cluster else _own_stores(settings)
    checks += _files(settings.dir, registry)
    checks += of_stores
    checks += check_credentials(settings.credentials_dir)
    checks += check_authorities(settings.ca_dir, time.time())
    checks += _contained("keys of agents", check_keys(settings))
    checks += _contained("certificate", check_certificate(settings, time.time()))
    access = AccessFiles(settings.credentials_dir, settings.ca_dir)
    checks += _endpoints(registry, settings.poll_timeout_s, access)
    return checks


def _own_stores(settings: Settings) -> tuple[Registry, list[Check]]:
    """The machine files, and the findings about a server that keeps everything in files of this host."""
    with closing(LatestReader(settings.telemetry_db)) as store:
        registry = RegistryFiles(settings.dir, recall=store.last_good).current(0.0)
    checks = [*_sqlite(), *_contained("data folder", _data_folder(settings))]
    return registry, [*checks, *_contained("poller", _poller(settings))]


def _shared_stores(settings: Settings) -> tuple[Registry, list[Check]]:
    """The machine files, and the findings about the stores of several servers."""
    try:
        check_packages()
    except SettingsError as error:
        return RegistryFiles(settings.dir).current(0.0), [Check("settings", "error", str(error))]
    from machines_server.cli.doctor_of_cluster import check_same_files, examine_shared

    shared = examine_shared(settings)
    registry = RegistryFiles(settings.dir, recall=shared.recall).current(0.0)
    of_folder = _contained("data folder", _own_folder(settings.data_dir))
    return registry, [*check_same_files(shared.pollers, registry), *of_folder, *shared.checks]


def _files(folder: Path, registry: Registry) -> Iterator[Check]:
    for problem in registry.problems:
        yield Check("machine files", problem.severity, f"{folder / str(problem)}")
    if not len(registry):
        advice = "copy one of machines/examples/ into it and edit it"
        yield Check("machine files", "warning", f"no machines in {folder}", advice)
    elif not registry.problems:
        yield Check("machine files", "ok", f"{len(registry)} in {folder}")


def _contained(what: str, checks: Iterator[Check]) -> Iterator[Check]:
    """The checks; one that may not read something becomes a finding itself."""
    try:
        yield from checks
    except OSError as error:
        yield Check(
            what, "error", described(error), "chown or chmod it, or run this as the user who runs the server"
        )


def _own_folder(folder: Path) -> Iterator[Check]:
    """Who can read the data folder, and whether it can be written; nothing if all is well."""
    what = "data folder"
    if not folder.exists():
        yield Check(what, "warning", f"{folder} does not exist yet", "`machines-server serve` creates it")
        return
    if exposed := list(open_to_others(folder)):
        finding = f"other users can read {', '.join(map(str, exposed))}"
        yield Check(
            what, "warning", finding, "`machines-server serve` makes them private, as does `chmod go=`"
        )
    if not os.access(folder, os.W_OK | os.X_OK):
        yield Check(what, "error", f"{folder} cannot be written by this user", "chown or chmod it")


def _data_folder(settings: Settings) -> Iterator[Check]:
    what, folder, database = "data folder", settings.data_dir, settings.telemetry_db
    yield from _own_folder(folder)
    if not folder.exists():
        return
    if (free := shutil.disk_usage(folder).free) < LOW_DISK_BYTES:
        yield Check(
            what,
            "error",
            f"only {free // 2**20} MiB free at {folder}",
            "free some space; existing data is kept",
        )
    for path in (settings.coordination_db, settings.coordination_db.with_suffix(".lock")):
        if path.exists() and not (path.is_file() and os.access(path, os.R_OK | os.W_OK)):
            yield Check(what, "error", f"{path} is no file that this user can read and write", _NO_LEASES)
    if not database.exists():
        yield Check(what, "warning", f"{database} does not exist yet", "`machines-server serve` creates it")
        return
    try:
        missing = pending(database)
    except MigrationError as error:
        yield Check(what, "error", str(error))
    except StoreError as error:
        advice = error.remedy if isinstance(error, DamagedStoreError) else None
        yield Check(what, "error", str(error), advice)
    else:
        if missing:
            yield Check(what, "warning", f"{database} lacks {', '.join(missing)}", "machines-server migrate")
        else:
            yield Check(
                what, "ok", f"{database}, {database.stat().st_size / 2**20:.1f} MiB, {free // 2**30} GiB free"
            )


def _sqlite() -> Iterator[Check]:
    try:
        check_sqlite()
    except UnsupportedError as error:
        yield Check("SQLite", "error", str(error))


def _poller(settings: Settings) -> Iterator[Check]:
    lock = PollerLock(settings.poller_lock)
    leader = lock.leader()
    if fault := lock.obstacle():
        yield Check("poller", "error", fault)
        return
    if leader is None:
        yield Check("poller", "warning", "no process polls", "start `machines-server serve` (or `poll`)")
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


def _endpoints(registry: Registry, timeout_s: float, access: AccessFiles) -> Iterator[Check]:
    allow_many_sockets()
    sign = None
    with suppress(SettingsError):  # which is a finding of its own
        sign = own_signing()
    answers, fetcher = AnswerReader(), Fetcher(timeout_s, sign=sign)
    results = {
        (result.machine, result.endpoint.kind): result
        for result in poll_all(registry, fetcher, answers, access.access, needs_clocks=True)
        if isinstance(result, PollResult | OwnFault)
    }
    fetcher.close()
    for machine in registry:
        for kind in KINDS:
            what, result = f"{machine.name} {kind}", results.get((machine.name, kind))
            if result is None:
                yield Check(what, "ok", "declared absent")
            elif isinstance(result, OwnFault):
                yield Check(what, "error", result.reason)
            else:
                yield _endpoint(what, answers.url(result.endpoint), result)
                yield from check_clock(what, result.clock_ahead_s)


def _endpoint(what: str, url: str, result: PollResult) -> Check:
    if result.state is State.OK:
        finding = f"{url} answered in {result.took_s * 1000:.0f} ms: {_summary(result)}"
        remark = f"; {result.reason}" if result.reason else ""
        return Check(what, "warning" if remark else "ok", finding + remark)
    return Check(what, "error", f"{url}: {result.reason or result.state}", result.hint)


def _summary(result: PollResult) -> str:
    host = result.answer.host if result.answer else None
    if host:
        gpus, unreadable = f"{len(host.gpu)} GPUs", len(host.gpu_unreadable)
        return f"{gpus}, {unreadable} unreadable" if unreadable else gpus
    models = result.answer.models if result.answer else None
    return ", ".join(model.model for model in models or ()) or "no model loaded"
