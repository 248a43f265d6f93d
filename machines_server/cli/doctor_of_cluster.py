"""Checks what the servers of a cluster share, and says how to fix each fault; imported only in clusters."""

import stat
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from machines_server.cli.finding import Check
from machines_server.cli.shared_database import open_database
from machines_server.core.machine import Registry
from machines_server.core.shards import SHARDS
from machines_server.core.text import clip_list, printable
from machines_server.core.times import rfc3339
from machines_server.credentials.content import UnusableError, authorization
from machines_server.errors import MigrationError, StoreError
from machines_server.process.cluster import credential_in, files_hash
from machines_server.settings import Settings
from machines_server.store.postgres.cluster_facts import (
    PollerFacts,
    ServerFacts,
    last_good_of,
    may_make_temporary_tables,
    pollers_of,
    server_facts,
    unwritable_tables,
)
from machines_server.store.postgres.database import Database
from machines_server.store.postgres.migrate import missing_tables, pending
from machines_server.store.promql.engine import redacted
from machines_server.store.promql.probe import RECENT, ProbeError, count_recent, try_writing

DEADLINE_OF_CHECKS_S = 5.0
"""How long the database and the engine may take to answer, in total."""
MAX_CLOCK_DIFFERENCE_S = 1.0


class SharedFindings(NamedTuple):
    """What was found, with the pollers that take part and the last good versions of machine files."""

    checks: Sequence[Check]
    pollers: Sequence[PollerFacts] = ()
    last_good: Mapping[str, str] = {}

    def recall(self, file: str | None) -> Mapping[str, str]:
        """The last good version of a machine file, or of all (None)."""
        if file is None:
            return self.last_good
        return {file: self.last_good[file]} if file in self.last_good else {}


def examine_shared(settings: Settings) -> SharedFindings:
    """Check the database and the engine; each that does not answer in time is a finding."""
    secrets = [
        *_password(settings.database_password_file),
        *_credential("MACHINES_REMOTE_WRITE_CREDENTIAL_FILE", settings.remote_write_credential_file),
        *_credential("MACHINES_QUERY_CREDENTIAL_FILE", settings.query_credential_file),
    ]
    database, writing, query = _at_once(
        [
            ("database", lambda: _database(settings)),
            ("history", lambda: _writing(settings)),
            ("history", lambda: _query(settings)),
        ]
    )
    checks = [*database.checks, *writing.checks, *query.checks, *secrets]
    return SharedFindings(checks, database.pollers, database.last_good)


def check_same_files(pollers: Sequence[PollerFacts], registry: Registry) -> Iterator[Check]:
    """Compare the machine files of this host with those that pollers of the site have."""
    own = files_hash(registry)
    others = sorted({poller.server for poller in pollers if poller.files not in (own, "")})
    if others:
        finding = f"those of {clip_list(others)} differ from those here"
        advice = "give all servers of a site the same machine files, in one commit for instance"
        yield Check("machine files", "warning", finding, advice)


def _at_once(jobs: Sequence[tuple[str, Callable[[], SharedFindings]]]) -> Sequence[SharedFindings]:
    """The findings of the jobs, each run in a thread, which is abandoned if it takes too long."""
    found: dict[int, SharedFindings] = {}

    def run(number: int, job: Callable[[], SharedFindings]) -> None:
        found[number] = job()

    threads = [
        threading.Thread(target=run, args=(number, job), daemon=True) for number, (_, job) in enumerate(jobs)
    ]
    for thread in threads:
        thread.start()
    until = time.monotonic() + DEADLINE_OF_CHECKS_S
    for thread in threads:
        thread.join(max(until - time.monotonic(), 0))
    late = f"no answer within {DEADLINE_OF_CHECKS_S:g} s"
    hint = "check whether a firewall or a name server drops the requests"
    return [
        found.get(number) or SharedFindings([Check(what, "error", late, hint)])
        for number, (what, _) in enumerate(jobs)
    ]


def _database(settings: Settings) -> SharedFindings:
    checks: list[Check] = []
    with open_database(settings) as database:
        try:
            connection = database.connect()
        except StoreError as error:
            hint = (
                "start it, promote its standby, or check MACHINES_DATABASE_URL, its password and pg_hba.conf"
            )
            return SharedFindings([Check("database", "error", str(error), hint)])
        try:
            facts = server_facts(connection)
            checks += [*_server(facts), *_standbys(facts), *_clock(facts)]
            checks += (schema := list(_schema(database)))
            if schema:
                return SharedFindings(checks)
            checks += _rights(
                unwritable_tables(connection), has_temporary=may_make_temporary_tables(connection)
            )
            pollers, unheld = pollers_of(connection, settings.site)
            checks += _pollers(pollers, unheld, settings.site)
            return SharedFindings(checks, pollers, last_good_of(connection, settings.site))
        except StoreError as error:
            return SharedFindings([*checks, Check("database", "error", str(error))])
        finally:
            connection.close()


def _server(facts: ServerFacts) -> Iterator[Check]:
    version = f"PostgreSQL {facts.version // 10_000}.{facts.version % 10_000}"
    if facts.is_primary:
        yield Check("database", "ok", f"{version}, the primary")
    else:
        hint = "point MACHINES_DATABASE_URL at the primary; it may name all hosts"
        yield Check("database", "error", f"{version}, a standby, which cannot be written", hint)
    if facts.is_pooled:
        finding = (
            "it is behind a pooler: servers get no notifications, and check for changes ten times an interval"
        )
        yield Check("database", "warning", finding, "connect without a pooler, unless you need one")


def _standbys(facts: ServerFacts) -> Iterator[Check]:
    what, names = "standbys", clip_list([printable(one.name) for one in facts.standbys])
    waits_for = printable(facts.synchronous_names)
    if not facts.standbys and waits_for:
        finding = f"none is connected, but leases wait for '{waits_for}' (synchronous_standby_names)"
        yield Check(what, "error", finding, "start the standby, or empty synchronous_standby_names")
    elif not facts.standbys:
        finding = "none: when this database dies, all machines are unknown until it is back"
        yield Check(what, "warning", finding, "run a synchronous standby, as docs/cluster.md shows")
    elif not waits_for:
        finding = f"{names}, and NONE IS SYNCHRONOUS: a failover loses leases that were granted"
        advice = "set synchronous_standby_names on the primary, as docs/cluster.md shows"
        yield Check(what, "warning", finding, advice)
    elif any(one.is_synchronous is None for one in facts.standbys):
        finding = f"leases wait for '{waits_for}'; this role may not see whether it is connected"
        yield Check(what, "ok", finding, "GRANT pg_read_all_stats to the role to enable this check")
    elif synchronous := [printable(one.name) for one in facts.standbys if one.is_synchronous]:
        yield Check(what, "ok", f"{clip_list(synchronous)} synchronous, of {len(facts.standbys)}")
    else:
        finding = f"leases wait for '{waits_for}', which none of {names} is"
        advice = "give it that application_name in primary_conninfo, or change synchronous_standby_names"
        yield Check(what, "error", finding, advice)


def _clock(facts: ServerFacts) -> Iterator[Check]:
    ahead_s = facts.clock_ahead_s
    if abs(ahead_s) > MAX_CLOCK_DIFFERENCE_S:
        off = f"{abs(ahead_s):.1f} s {'ahead of' if ahead_s > 0 else 'behind'} this host's"
        yield Check("clock", "warning", f"the database's is {off}", "set both with NTP; signatures need that")
    else:
        yield Check("clock", "ok", "the database's and this host's agree")


def _schema(database: Database) -> Iterator[Check]:
    """What is wrong with the schema; nothing if it is that of this version."""
    try:
        missing = pending(database)
    except MigrationError as error:
        yield Check("database", "error", str(error))
    else:
        if missing:
            finding = f"it lacks {clip_list(missing)}"
            yield Check("database", "warning", finding, "`machines-server migrate`, or start a server")
        elif lost := missing_tables(database):
            finding = f"it has lost the tables {clip_list(lost)}"
            hint = "restore a backup, or empty the database and run `machines-server migrate`"
            yield Check("database", "error", finding, hint)


def _rights(unwritable: Sequence[str], *, has_temporary: bool) -> Iterator[Check]:
    if unwritable:
        finding = f"this role may not write {clip_list([printable(name) for name in unwritable])}"
        hint = "GRANT SELECT, INSERT, UPDATE, DELETE, TRUNCATE ON ALL TABLES IN SCHEMA public to the role"
        yield Check("database", "error", finding, hint)
    if not has_temporary:
        finding = "this role may not make temporary tables, which writing polls needs"
        yield Check("database", "error", finding, "GRANT TEMPORARY ON DATABASE … to the role")


def _pollers(pollers: Sequence[PollerFacts], unheld: int, site: str) -> Iterator[Check]:
    if not pollers:
        hint = "start `machines-server serve` (or `poll`) on one host at least"
        yield Check("pollers", "warning", f"no poller of the site {site} is running", hint)
        return
    for one in pollers:
        held = (
            f"process {one.pid} on {printable(one.server)}, since {rfc3339(one.since)}, {one.shards} shards"
        )
        yield Check("pollers", "ok", held)
    if unheld:
        finding = f"no poller holds {unheld} of {SHARDS} shards"
        hint = "wait two intervals; after that, see the logs of the pollers"
        yield Check("shards", "warning", finding, hint)


def _writing(settings: Settings) -> SharedFindings:
    url = settings.remote_write_url or ""
    try:
        try_writing(url, credential_in(settings.remote_write_credential_file))
    except ProbeError as error:
        return SharedFindings(
            [Check("history", "error", f"{redacted(url)} {error}", "see MACHINES_REMOTE_WRITE_URL")]
        )
    return SharedFindings([Check("history", "ok", f"{redacted(url)} takes samples")])


def _query(settings: Settings) -> SharedFindings:
    url = settings.query_url or ""
    try:
        machines = count_recent(url, settings.site, credential_in(settings.query_credential_file))
    except ProbeError as error:
        return SharedFindings(
            [Check("history", "error", f"{redacted(url)} {error}", "see MACHINES_QUERY_URL")]
        )
    if machines:
        finding = f"{redacted(url)} answers, and has samples of {machines} machines"
        return SharedFindings([Check("history", "ok", finding)])
    finding = f"{redacted(url)} answers, but has no sample of the site {settings.site} from the last {RECENT}"
    hint = "if machines are polled, point MACHINES_REMOTE_WRITE_URL and MACHINES_QUERY_URL at one engine"
    return SharedFindings([Check("history", "warning", finding, hint)])


def _password(file: Path | None) -> Iterator[Check]:
    def check(content: bytes) -> None:
        if not content.strip():
            raise UnusableError("it is empty")

    yield from _private("MACHINES_DATABASE_PASSWORD_FILE", file, check)


def _credential(setting: str, file: Path | None) -> Iterator[Check]:
    def check(content: bytes) -> None:
        authorization(content)

    yield from _private(setting, file, check)


def _private(setting: str, file: Path | None, check: Callable[[bytes], None]) -> Iterator[Check]:
    """Check a file with a secret: `check` must accept its content, and no other user may access it."""
    if file is None:
        return
    try:
        check(file.read_bytes())
        mode = stat.S_IMODE(file.stat().st_mode)
    except (OSError, UnusableError) as error:
        reason = error.strerror if isinstance(error, OSError) else error
        yield Check("credentials", "error", printable(f"{file} cannot be used: {reason}"), f"see {setting}")
        return
    if mode & 0o077:
        finding = printable(f"other users can read or change {file} (mode {mode:04o})")
        yield Check("credentials", "warning", finding, printable(f"chmod go= {file}"))
