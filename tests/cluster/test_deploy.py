"""The programs accept the files in deploy/cluster, and servers run well with them."""

import os
import re
import shutil
import subprocess
import time
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import psycopg
import pytest
import requests
from ruamel.yaml import YAML

from machines_server.core.sample import HostSample
from machines_server.settings import Settings, load_settings, variable
from machines_server.store.promql.writer import HistoryWriter
from tests.cluster.servers import Servers
from tests.fakes import FakeFleet, machine_yaml, wait_until
from tests.ports import free_port
from tests.postgres import USER, Postgres, as_user, folder_of_postgres, program
from tests.programs import Program
from tests.readme import ROOT
from tests.running import command, wait_for_status
from tests.store.polls import answered, sample
from tests.store.promql.engines import Engine, victoria_metrics
from tests.tools import tool

CLUSTER = ROOT / "deploy" / "cluster"
UNITS = sorted((CLUSTER / "systemd").glob("*.service"))
SETTINGS = {variable(name) for name in Settings.model_fields}


def compose() -> Any:
    return YAML(typ="safe", pure=True).load(CLUSTER / "compose.yaml")


def settings_of_env() -> Mapping[str, str]:
    lines = (CLUSTER / "systemd" / "cluster.env").read_text().splitlines()
    return dict(line.split("=", 1) for line in lines if line and not line.startswith("#"))


def options_of(file: str) -> dict[str, str]:
    """The settings of a snippet of postgresql.conf."""
    text = (CLUSTER / "postgresql" / file).read_text()
    found: list[tuple[str, str]] = re.findall(r"^([a-z_]+) = (?:'([^']*)'|[^#'\n]+)", text, re.MULTILINE)
    plain = dict(re.findall(r"^([a-z_]+) = ([^#'\n]+?) *(?:#.*)?$", text, re.MULTILINE))
    return {name: quoted or plain[name] for name, quoted in found}


def test_every_variable_is_a_setting_and_makes_a_server_one_of_several() -> None:
    services = compose()["services"]
    servers = [one for one in services.values() if one["image"].startswith("machines-server")]
    assert len(servers) == 2
    assert len({one["hostname"] for one in servers}) == 2
    for given in (*(one["environment"] for one in servers), settings_of_env()):
        assert given.keys() <= SETTINGS
        assert load_settings(given) == (load_settings(given)[0], [])
        assert load_settings(given)[0].is_cluster


def test_the_file_of_compose_names_only_what_there_is() -> None:
    given = compose()
    for service in given["services"].values():
        assert set(service.get("depends_on", ())) <= given["services"].keys()
        assert set(service.get("secrets", ())) <= given["secrets"].keys()
        for volume in service.get("volumes", ()):
            source = volume.partition(":")[0]
            is_made = source in given["volumes"] or source == "./machines"
            assert is_made or (CLUSTER / source).exists(), source
    assert all(one["file"].startswith("./secrets/") for one in given["secrets"].values())


@pytest.mark.parametrize("unit", UNITS, ids=lambda path: path.stem)
def test_systemd_finds_no_fault(unit: Path, tmp_path: Path) -> None:
    text = unit.read_text()
    (started,) = re.findall(r"^ExecStart=(\S+)", text, re.MULTILINE)
    (tmp_path / unit.name).write_text(text.replace(started, shutil.which("true") or ""))
    words = [
        tool("systemd-analyze"),
        "verify",
        "--man=no",
        "--recursive-errors=no",
        str(tmp_path / unit.name),
    ]
    done = subprocess.run(words, capture_output=True, text=True, timeout=60, check=False)
    assert (done.returncode, done.stdout + done.stderr) == (0, "")


@pytest.mark.parametrize("name", ["victoria-metrics", "vmagent"])
def test_units_give_options_that_their_programs_have(name: str) -> None:
    programs = {"victoria-metrics": tool("victoria-metrics"), "vmagent": tool("vmagent")}
    options = re.findall(
        r"^    -([A-Za-z.]+)=", (CLUSTER / "systemd" / f"{name}.service").read_text(), re.MULTILINE
    )
    done = subprocess.run([programs[name], "-help"], capture_output=True, text=True, timeout=60, check=False)
    known = set(re.findall(r"^  -([A-Za-z.]+)", done.stdout + done.stderr, re.MULTILINE))
    assert len(options) >= 4
    assert set(options) <= known


class Buffer(Program):
    """A vmagent with the options of its unit, for ports and a folder of this test."""

    def __init__(self, folder: Path, engine: Engine) -> None:
        super().__init__(folder / "vmagent.log")
        self.url = f"http://127.0.0.1:{free_port()}"
        text = (CLUSTER / "systemd" / "vmagent.service").read_text()
        for shown, meant in (
            ("127.0.0.1:8429", self.url.removeprefix("http://")),
            ("http://history1:8428", engine.url),
            ("/var/lib/vmagent", str(folder)),
        ):
            assert shown in text
            text = text.replace(shown, meant)
        self._options = re.findall(r"^    (-\S+)", text, re.MULTILINE)

    def metric(self, name: str) -> float:
        """The sum of the series of a metric that it has about itself."""
        text = requests.get(f"{self.url}/metrics", timeout=60).text
        return sum(float(value) for value in re.findall(rf"^{name}(?:{{.*}})? (\S+)$", text, re.MULTILINE))

    def _start(self) -> Sequence[str]:
        return [tool("vmagent"), *self._options]

    def _is_ready(self) -> bool:
        try:
            return requests.get(f"{self.url}/health", timeout=10).ok
        except requests.ConnectionError:
            return False


def test_vmagent_keeps_samples_while_the_engine_is_away(tmp_path: Path) -> None:
    at = int(time.time()) - 60
    engine = victoria_metrics(tmp_path / "engine")
    with Buffer(tmp_path, engine) as buffer:
        writer = HistoryWriter(f"{buffer.url}/api/v1/write")
        writer.put(sample(answered(at, HostSample(cpu_percent=1.5))), "lab")
        assert writer.close()
        wait_until(lambda: buffer.metric("vmagent_remotewrite_errors_total") > 0, 60)
        writer = HistoryWriter(f"{buffer.url}/api/v1/write")
        writer.put(sample(answered(at + 5, HostSample(cpu_percent=1.5))), "lab")
        assert writer.close()
        wait_until(lambda: buffer.metric("vmagent_remotewrite_pending_data_bytes") > 0, 60)
        with engine:

            def has_it() -> bool:
                engine.flush()
                return engine.samples("machines_up", at + 30, 60) == [(at, 1.0), (at + 5, 1.0)]

            wait_until(has_it, 60)


def test_a_primary_and_a_standby_as_shown_serve_servers_that_are_well(
    tmp_path: Path, engine: Engine, fakes: FakeFleet
) -> None:
    with ExitStack() as stack:
        folder = stack.enter_context(folder_of_postgres())
        options = options_of("primary.conf")
        names = options.pop("synchronous_standby_names")
        assert "standby1" in names
        options |= {"listen_addresses": "127.0.0.1"}
        primary = stack.enter_context(Postgres(folder / "primary", None, **options))
        psql(primary, "--file", CLUSTER / "postgresql" / "roles.sql")
        lines = (CLUSTER / "postgresql" / "pg_hba.conf").read_text().replace("hostssl", "host   ")
        with (primary.folder / "pg_hba.conf").open("a") as file:
            file.write(lines)
        with psycopg.connect(primary.url()) as asking:
            rules = asking.execute("SELECT user_name, error FROM pg_hba_file_rules").fetchall()
        assert (["machines"], None) in rules
        assert not [error for _, error in rules if error]
        connection = f"host=127.0.0.1 port={primary.port} user=replicator"
        words = as_user(CLUSTER / "postgresql" / "standby.sh", folder / "standby", "standby1", connection)
        environment = {**os.environ, "PG_BINDIR": str(program("pg_basebackup").parent)}
        subprocess.run(words, check=True, env=environment, cwd="/", timeout=120)
        again = subprocess.run(
            words, check=False, env=environment, cwd="/", stderr=subprocess.PIPE, text=True
        )
        assert (again.returncode, "already has a database" in again.stderr) == (1, True)
        # As after a copy that was interrupted.
        (folder / "standby").rename(folder / "copy")
        (folder / "standby").mkdir()
        if not os.getuid():
            shutil.chown(folder / "standby", USER, USER)
        (folder / "copy").rename(folder / "standby" / "incoming")
        subprocess.run(words, check=True, env=environment, cwd="/", timeout=120)
        stack.enter_context(Postgres(folder / "standby", None, **options))
        psql(primary, "--command", f"ALTER SYSTEM SET synchronous_standby_names = '{names}'")
        psql(primary, "--command", "SELECT pg_reload_conf()")
        servers = Servers(tmp_path, primary.url("machines").replace(f"{USER}@", "machines@"), engine)
        (servers.machines / "box.yaml").write_text(machine_yaml("box", fakes.sidecar(), fakes.ollama("phi3")))
        with servers.server("a") as a:
            wait_for_status(a, "box", "online")
            wait_until(lambda: a.post("/api/leases", {"model": "phi3"}).status_code == 201)
            settings = {**servers.settings(), "MACHINES_DIR": str(servers.machines)}
            done = command("doctor", MACHINES_DATA_DIR=str(a.data), **settings)
        assert done.returncode == 0, done.stdout
        assert "ok    standbys: standby1 synchronous, of 1" in done.stdout


def test_the_script_of_compose_makes_roles_and_a_database(tmp_path: Path) -> None:
    secrets = tmp_path / "secrets"
    secrets.mkdir()
    for name in ("machines", "replicator"):
        (secrets / name).write_text(f"it's {name}\n")
    with folder_of_postgres() as folder, Postgres(folder / "data") as primary:
        environment = {
            "PATH": f"{program('psql').parent}:{os.environ['PATH']}",
            "PGHOST": "127.0.0.1",
            "PGPORT": str(primary.port),
            "PGDATA": str(primary.folder),
            "SECRETS": str(secrets),
        }
        subprocess.run([CLUSTER / "primary.sh"], check=True, env=environment, timeout=60)
        (line,) = re.findall(
            "^host replication.*$", (primary.folder / "pg_hba.conf").read_text(), re.MULTILINE
        )[-1:]
        assert line == "host replication replicator all scram-sha-256"
        with psycopg.connect(primary.url("machines")) as connection:
            owner = connection.execute(
                "SELECT pg_get_userbyid(datdba), pg_encoding_to_char(encoding) FROM pg_database"
                " WHERE datname = 'machines'"
            ).fetchall()
        assert owner == [("machines", "UTF8")]
        lines = (primary.folder / "postgresql.auto.conf").read_text().splitlines()
        assert "synchronous_standby_names = 'standby1'" in lines


def psql(postgres: Postgres, *words: str | Path) -> None:
    """Run psql as the superuser of a server."""
    command = [program("psql"), "--no-psqlrc", "--quiet", "--set", "ON_ERROR_STOP=1", postgres.url(), *words]
    subprocess.run(command, check=True, timeout=60, stdout=subprocess.DEVNULL)
