"""The command line, as a user types it."""

import json
import re
import socket
import sqlite3
from contextlib import closing
from pathlib import Path

import machines_server
from tests.bodies import gpu_body
from tests.fakes import FakeFleet, machine_yaml, wait_until
from tests.ports import free_port
from tests.running import RunningServer, command, wait_for_status
from tests.scripts import OK, say

GOOD = "name: one\nrole: r\nhardware: {}\nnetwork: {hostname: 127.0.0.1}\nmodels: []\n"


def test_validate_says_nothing_bad_of_good_files_and_exits_0(tmp_path: Path) -> None:
    (tmp_path / "one.yaml").write_text(GOOD)
    done = command("validate", MACHINES_DIR=str(tmp_path))
    assert (done.returncode, done.stdout) == (0, f"1 valid machine files in {tmp_path}\n")


def test_validate_prints_every_fault_of_every_file_and_exits_1(tmp_path: Path) -> None:
    (tmp_path / "one.yaml").write_text(GOOD)
    (tmp_path / "two.yaml").write_text(GOOD.replace("one", "two").replace("models: []", "models: x\nmore: 1"))
    (tmp_path / "three.yaml").write_text("name: three\nrole: [\n")
    done = command("validate", str(tmp_path))
    assert done.returncode == 1
    assert f"{tmp_path}/two.yaml:5:" in done.stdout
    assert f"{tmp_path}/three.yaml:" in done.stdout
    faults = json.loads(command("validate", "--json", str(tmp_path)).stdout)
    assert {fault["file"] for fault in faults} == {"two.yaml", "three.yaml"}


def test_validate_lists_what_is_not_read_and_says_why(tmp_path: Path) -> None:
    for name in ("one.yaml", "TWO.YAML"):
        (tmp_path / name).write_text(GOOD.replace("one", name[:3].lower()))
    others = ["a.txt", "b.yaml.bak", "c.json", ".hidden.yaml", "_draft.yaml", "d.yaml~", "yaml", "e.ymlx"]
    for name in others:
        (tmp_path / name).write_text("")
    (tmp_path / "folder.yaml").mkdir()
    done = command("validate", str(tmp_path))
    assert done.returncode == 0
    assert done.stdout.endswith(f"2 valid machine files in {tmp_path}\n")
    assert f"{tmp_path}/b.yaml.bak: this is not read: its name does not end in .yaml or" in done.stdout
    assert f"{tmp_path}/_draft.yaml: this is not read: its name begins with _ (info)" in done.stdout
    found = json.loads(command("validate", "--json", str(tmp_path)).stdout)
    assert {one["file"] for one in found if one["severity"] == "info"} == {*others, "folder.yaml"}


def test_validate_of_no_folder_says_so_and_exits_1(tmp_path: Path) -> None:
    done = command("validate", str(tmp_path / "none"))
    assert done.returncode == 1
    assert done.stdout.startswith(f"{tmp_path}/none: there is no such file or folder (error)\n")


def test_a_setting_that_cannot_be_used_is_one_line_and_exit_status_2(tmp_path: Path) -> None:
    for words in (["serve"], ["poll"], ["migrate"], ["validate"]):
        done = command(*words, MACHINES_PORT="none", MACHINES_DATA_DIR=str(tmp_path))
        assert done.returncode == 2
        assert done.stderr == (
            "machines-server: MACHINES_PORT=none is refused: it must be a whole number from 1 to 65535\n"
        )


def test_an_address_that_cannot_be_had_is_one_line_and_exit_status_2(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        for host in ("127.0.0.1", "http://x", "192.0.2.1"):
            settings = {"MACHINES_HOST": host, "MACHINES_PORT": port, "MACHINES_DATA_DIR": str(tmp_path)}
            done = command("serve", **settings)
            assert done.returncode == 2
            assert f"MACHINES_HOST={host}, MACHINES_PORT={port}: cannot listen there" in done.stderr
            assert "attempting" not in done.stderr
            assert "Traceback" not in done.stderr
    assert list(tmp_path.iterdir()) == [], "nothing is written by a server that cannot listen"


def test_an_unknown_setting_is_a_warning(tmp_path: Path) -> None:
    done = command("migrate", MACHINES_DATA_DIR=str(tmp_path), MACHINES_WORKER="3")
    assert done.returncode == 0
    assert "MACHINES_WORKER is not a setting" in done.stderr


def test_migrate_makes_the_database_once(tmp_path: Path) -> None:
    assert command("migrate", MACHINES_DATA_DIR=str(tmp_path)).stdout.startswith("applied 0001_samples.sql\n")
    assert "is up to date" in command("migrate", MACHINES_DATA_DIR=str(tmp_path)).stdout
    assert json.loads(command("migrate", "--json", MACHINES_DATA_DIR=str(tmp_path)).stdout) == {"applied": []}


def test_serve_refuses_a_database_that_is_not_ours_and_leaves_it_alone(tmp_path: Path) -> None:
    (tmp_path / "telemetry.db").write_bytes(b"precious" * 1000)
    done = command("serve", MACHINES_DATA_DIR=str(tmp_path))
    assert done.returncode == 1
    assert "telemetry.db: file is not a database" in done.stderr
    assert "Traceback" not in done.stderr
    assert (tmp_path / "telemetry.db").read_bytes() == b"precious" * 1000


def test_list_and_show_ask_a_running_server(server: RunningServer, fakes: FakeFleet) -> None:
    server.write("one.yaml", machine_yaml("one", fakes.sidecar(), fakes.ollama("phi3:mini")))
    wait_for_status(server, "one", "online")
    done = command("list", "--server", server.url)
    assert done.stdout.splitlines()[1].split()[:3] == ["one", "test", "online"]
    assert json.loads(command("list", "--json", MACHINES_URL=server.url).stdout)[0]["name"] == "one"
    assert json.loads(command("show", "one", "--json", MACHINES_URL=server.url).stdout)["status"] == "online"
    missing = command("show", "two", "--server", server.url)
    assert (missing.returncode, missing.stderr) == (
        1,
        "machines-server: There is no machine named 'two'; `machines-server list` lists them.\n",
    )


def test_a_server_that_is_not_there_is_one_line(tmp_path: Path) -> None:
    done = command("list", "--server", "http://127.0.0.1:1")
    assert done.returncode == 1
    assert done.stderr.startswith("machines-server: http://127.0.0.1:1 cannot be reached: ")
    assert "Traceback" not in done.stderr
    assert tmp_path.exists()
    assert command("list", "--server", "nonsense").returncode == 2


def test_doctor_says_of_each_part_what_is_wrong_and_what_mends_it(
    server: RunningServer, fakes: FakeFleet
) -> None:
    sidecar, gone = fakes.sidecar(), fakes.ollama()
    gone.stop()
    server.write("one.yaml", machine_yaml("one", sidecar, gone))
    server.write("two.yaml", "name: two\n")
    wait_for_status(server, "one", "online")
    done = command("doctor", **server.settings)
    assert done.returncode == 1
    assert f"poller: process {server.poller_pid()}" in done.stdout
    assert "ok    settings: all valid" in done.stdout
    assert "two.yaml:1:1: role:" in done.stdout
    assert "ok    one sidecar:" in done.stdout
    assert "FAIL  one ollama:" in done.stdout
    assert "-> start Ollama" in done.stdout
    verdicts = {
        check["what"]: check["verdict"]
        for check in json.loads(command("doctor", "--json", **server.settings).stdout)
    }
    assert verdicts["one sidecar"] == "ok"
    assert verdicts["one ollama"] == "error"


def test_doctor_is_content_with_a_server_that_is_well(server: RunningServer, fakes: FakeFleet) -> None:
    server.write("one.yaml", machine_yaml("one", fakes.sidecar(), fakes.ollama()))
    wait_for_status(server, "one", "online")
    done = command("doctor", **server.settings)
    assert done.returncode == 0, done.stdout
    assert "FAIL" not in done.stdout


def test_doctor_asks_the_server_that_is_named(server: RunningServer, fakes: FakeFleet) -> None:
    gone = fakes.ollama()
    gone.stop()
    server.write("one.yaml", machine_yaml("one", fakes.sidecar(), fakes.ollama()))
    server.write("two.yaml", machine_yaml("two", gone, gone))
    wait_for_status(server, "one", "online")
    wait_for_status(server, "two", "offline")
    for words, environment in ((["--server", server.url], {}), ([], {"MACHINES_URL": server.url})):
        done = command("doctor", *words, **environment)
        assert done.returncode == 1
        assert f"ok    server: {server.url}, version 0.1.0: ok" in done.stdout
        assert "ok    poller: running" in done.stdout
        assert "ok    one: online" in done.stdout
        assert "FAIL  two: offline: sidecar and ollama: " in done.stdout
    (server.machines / "two.yaml").unlink()
    server.write("bad.yaml", "name: bad\n")
    wait_until(lambda: "two" not in server.fleet())
    done = command("doctor", "--server", server.url)
    assert "bad.yaml:1:1: role:" in done.stdout


def test_doctor_says_that_the_named_server_does_not_answer() -> None:
    url = f"http://127.0.0.1:{free_port()}"
    done = command("doctor", "--server", url)
    assert done.returncode == 1
    assert done.stdout.startswith(f"FAIL  server: {url} cannot be reached")
    assert "without them, this host is examined" in done.stdout


def test_doctor_survives_hosts_that_send_bytes_which_are_no_text(
    server: RunningServer, fakes: FakeFleet
) -> None:
    bad = fakes.scripted(say(OK + b"Transfer-Encoding: a\xff\x1b[2Jb\r\n\r\n"))
    server.write("bad.yaml", machine_yaml("bad", bad, bad))
    server.write("good.yaml", machine_yaml("good", fakes.sidecar(), fakes.ollama()))
    wait_for_status(server, "bad", "offline")
    wait_for_status(server, "good", "online")
    done = command("doctor", **server.settings)
    assert done.returncode == 1
    found = {
        check["what"]: check for check in json.loads(command("doctor", "--json", **server.settings).stdout)
    }
    assert found["good ollama"]["verdict"] == found["good sidecar"]["verdict"] == "ok"
    assert found["poller"]["verdict"] == "ok"
    for endpoint in ("sidecar", "ollama"):
        assert found[f"bad {endpoint}"]["finding"].endswith(": an encoding that was not asked for")
    assert "\x1b" not in done.stdout


def test_doctor_reports_a_setting_that_cannot_be_used() -> None:
    done = command("doctor", MACHINES_POLL_TIMEOUT_S="9")
    assert done.returncode == 1
    assert "FAIL  settings: MACHINES_POLL_TIMEOUT_S=9 must be less than" in done.stdout


def test_show_says_that_the_file_is_broken_and_what_is_shown_is_older(
    shared_server: RunningServer, fakes: FakeFleet
) -> None:
    shared_server.write("one.yaml", machine_yaml("one", fakes.sidecar(), None))
    wait_for_status(shared_server, "one", "online")
    shared_server.write("other.yaml", "name: [oops")
    assert command("show", "one", "--server", shared_server.url).stderr == ""
    shared_server.write("one.yaml", "name: one\nrole: [oops")
    shown = command("show", "one", "--server", shared_server.url)
    assert "one.yaml" in shown.stdout
    assert shown.stderr.startswith("error: one.yaml")
    assert len(shown.stderr.splitlines()) == 1


def test_a_wrong_url_is_said_by_the_name_of_where_it_is_from() -> None:
    assert "MACHINES_URL cannot be used: " in command("list", MACHINES_URL="nonsense://").stderr
    assert "'--server'" in command("list", "--server", "nonsense://").stderr


def test_history_says_which_metrics_have_no_samples(shared_server: RunningServer, fakes: FakeFleet) -> None:
    shared_server.write("bare.yaml", machine_yaml("bare", fakes.sidecar(), None))
    wait_for_status(shared_server, "bare", "online")
    drawn = command("history", "bare", "--server", shared_server.url).stdout.splitlines()
    assert [line.split()[0] for line in drawn[1:4]] == ["cpu_percent", "ram_used_gb", "vram_used_gb"]
    assert drawn[3].split() == ["vram_used_gb", "no", "samples"]


def test_history_events_and_backup_of_a_running_server(
    server: RunningServer, fakes: FakeFleet, tmp_path: Path
) -> None:
    server.write(
        "one.yaml", machine_yaml("one", fakes.sidecar(gpu_body(0, used_gb=3)), fakes.ollama("phi3:mini"))
    )
    wait_for_status(server, "one", "online")
    drawn = command("history", "one", "--from", "-1m", "--server", server.url).stdout
    assert "gpu0 vram_used_gb" in drawn
    assert "▁" in drawn
    as_json = command("history", "one", "--metric", "up", "--json", "--server", server.url).stdout
    assert json.loads(as_json)["series"][0]["metric"] == "up"
    as_csv = command("history", "one", "--metric", "up", "--csv", "--server", server.url).stdout
    assert as_csv.startswith("time,up avg [1],")
    wrong = command("history", "one", "--step", "0", "--server", server.url)
    assert wrong.stderr.startswith("machines-server: The parameter step is '0'")
    assert wrong.returncode == 2
    assert command("history", "one", "--csv", "--json", "--server", server.url).returncode == 2
    told = command("events", "--server", server.url).stdout.splitlines()
    assert [line.split()[1:] for line in told[1:3]] == [
        ["one", "was", "added", "in", "one.yaml"],
        ["one", "is", "online"],
    ]
    wait_until(lambda: "model_loaded" in command("events", "--json", "--server", server.url).stdout)
    copy = tmp_path / "copy.db"
    done = command("backup", str(copy), **server.settings)
    assert done.returncode == 0
    with closing(sqlite3.connect(copy)) as opened:
        assert opened.execute("PRAGMA integrity_check").fetchone() == ("ok",)
        assert opened.execute("SELECT name FROM machine").fetchall() == [("one",)]
    for nowhere in (tmp_path / "none" / "copy.db", copy / "copy.db"):
        failed = command("backup", str(nowhere), **server.settings)
        assert (failed.returncode, failed.stderr.count("\n")) == (1, 1)
        assert nowhere.name in failed.stderr
    again = command("backup", str(copy), **server.settings)
    assert (again.returncode, again.stderr) == (
        1,
        f"machines-server: {copy} already exists; name a new file\n",
    )


def test_all_that_is_printed_goes_through_one_door() -> None:
    folder = Path(machines_server.__file__).parent
    for path in folder.rglob("*.py"):
        if path != folder / "cli" / "output.py":
            assert not re.search(r"click\.(echo|secho)|\bprint\(", path.read_text()), path
