"""The command events: its wording, its filters, and how it follows."""

import json
import re
import signal
import subprocess
from contextlib import ExitStack
from datetime import datetime
from pathlib import Path

import pytest

from machines_server.cli.event_words import event_sentence
from tests.cli.conftest import LLAMA
from tests.fakes import FakeFleet, machine_yaml, wait_until
from tests.running import RunningServer, clean_environment, command, wait_for_status
from tests.terminal import PROGRAM

MODEL = {"model": LLAMA, "size_gb": 42.54, "processor": "100% GPU"}


@pytest.mark.parametrize(
    ("event", "sentence"),
    [
        ({"type": "online", "reason": None}, "is online"),
        (
            {"type": "offline", "reason": "sidecar: connection refused"},
            "is offline: sidecar: connection refused",
        ),
        ({"type": "model_loaded", **MODEL}, f"loaded {LLAMA} (42.5 GiB, 100% GPU)"),
        ({"type": "model_loaded", **MODEL, "size_gb": None}, f"loaded {LLAMA} (-, 100% GPU)"),
        ({"type": "model_unloaded", **MODEL, "resident_s": 7500}, f"unloaded {LLAMA} after 2 h 5 min"),
        ({"type": "machine_added", "file": "a.yaml"}, "was added in a.yaml"),
        (
            {"type": "machine_changed", "file": "a.yaml", "keys": ["role", "tags"]},
            "was changed in a.yaml: role, tags",
        ),
        ({"type": "machine_removed"}, "was removed"),
        (
            {"type": "host_rebooted", "uptime_s": 5, "uptime_before_s": 90_000},
            "rebooted after 1 d 1 h of uptime",
        ),
        (
            {"type": "host_changed", "reason": "another name"},
            "was replaced by a different host (another name)",
        ),
        ({"type": "service_up", "service": "web", "reason": None}, "service web answers"),
        (
            {"type": "service_down", "service": "web", "reason": "refused"},
            "service web does not answer (refused)",
        ),
        ({"type": "something_new"}, "something new"),
    ],
)
def test_events_are_sentences(event: dict[str, object], sentence: str) -> None:
    assert event_sentence(event).text == sentence


def test_events_are_grouped_by_day_and_oldest_first(fleet: RunningServer) -> None:
    text = command("events", MACHINES_URL=fleet.url).stdout
    day, *lines = text.splitlines()
    assert day == datetime.now().astimezone().strftime("%A %Y-%m-%d") or text.count("day 20") == 2
    clocks = [line.split()[0] for line in lines if line.startswith("  ")]
    assert all(re.fullmatch(r"\d\d:\d\d:\d\d", one) for one in clocks)
    assert re.search(r"workstation +loaded llama3.1:70b \(4 GiB, 100% GPU\)", text)
    assert not re.search("[0-9a-f]{20}", text)


def test_events_are_filtered_by_several_machines_and_types(fleet: RunningServer) -> None:
    words = [
        "events",
        "--machine",
        "attic",
        "--machine",
        "workstation",
        "--type",
        "offline",
        "--type",
        "online",
    ]
    found = [
        json.loads(line) for line in command(*words, "--json", MACHINES_URL=fleet.url).stdout.splitlines()
    ]
    assert {(one["machine"], one["type"]) for one in found} == {
        ("attic", "offline"),
        ("workstation", "online"),
    }
    cut = command("events", "--limit", "2", MACHINES_URL=fleet.url)
    assert cut.stderr == "These are the newest 2; --limit shows more.\n"
    none = command("events", "--type", "host_changed", MACHINES_URL=fleet.url)
    assert (none.returncode, none.stdout, none.stderr) == (0, "", "No events match.\n")


class Follower:
    """`events --follow` with its output in files."""

    def __init__(self, url: str, folder: Path, *words: str) -> None:
        self.output, self.errors = folder / "output", folder / "errors"
        with self.output.open("w") as output, self.errors.open("w") as errors:
            self.process = subprocess.Popen(
                [PROGRAM, "events", "--follow", *words, "--server", url],
                stdout=output,
                stderr=errors,
                # Ctrl-C may come just when a socket has been made.
                env=clean_environment(PYTHONWARNINGS="error,ignore::ResourceWarning"),
                start_new_session=True,
            )

    def __enter__(self) -> "Follower":
        return self

    def __exit__(self, *_: object) -> None:
        self.process.kill()
        self.process.wait()

    def ids(self) -> list[int]:
        return [json.loads(line)["id"] for line in self.output.read_text().splitlines()]


def test_events_can_be_followed_until_ctrl_c(server: RunningServer, fakes: FakeFleet, tmp_path: Path) -> None:
    with Follower(server.url, tmp_path) as follower:
        server.write("one.yaml", machine_yaml("one", fakes.sidecar(), fakes.ollama()))
        wait_until(lambda: "one is online" in follower.output.read_text())
        follower.process.send_signal(signal.SIGINT)
        assert follower.process.wait(60) == 130
        assert follower.errors.read_text() == ""
        assert "one was added in one.yaml" in follower.output.read_text()


def test_following_survives_a_restart_of_the_server_and_loses_nothing(
    fakes: FakeFleet, tmp_path: Path
) -> None:
    folder = tmp_path / "server"
    folder.mkdir()
    with ExitStack() as stack:
        with RunningServer(folder) as server:
            port = server.settings["MACHINES_PORT"]
            server.write("one.yaml", machine_yaml("one", fakes.sidecar(), fakes.ollama()))
            wait_for_status(server, "one", "online")
            follower = stack.enter_context(Follower(server.url, tmp_path, "--json"))
            wait_until(lambda: len(follower.ids()) >= 2)
        wait_until(lambda: "waiting for it" in follower.errors.read_text())
        with RunningServer(folder, MACHINES_PORT=port) as again:
            again.write("two.yaml", machine_yaml("two", fakes.sidecar(), fakes.ollama()))
            wait_for_status(again, "two", "online")
            all_ids = [one["id"] for one in again.get("/api/events").json()["events"]]
            wait_until(lambda: sorted(follower.ids()) == sorted(all_ids))
            told = follower.errors.read_text().splitlines()
            assert len(told) == 2
            assert told[1] == "machines-server: the server answers again"


def test_following_a_server_that_is_not_there_is_an_error(server: RunningServer) -> None:
    assert command("events", "--follow", "--server", "127.0.0.1:1").returncode == 1
    assert command("events", "--follow", "--to", "now", "--server", server.url).returncode == 2
