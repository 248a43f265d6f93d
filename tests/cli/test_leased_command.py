"""`pick --lease -- COMMAND`: the lease lasts as long as the command, and the command ends as if run alone."""

import os
import signal
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from tests.cli.conftest import LLAMA
from tests.fakes import FakeFleet, machine_yaml, wait_until
from tests.running import RunningServer, clean_environment, command, wait_for_status
from tests.terminal import PROGRAM, Terminal


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningServer]:
    """A server with one machine that holds LLAMA."""
    with FakeFleet() as fakes, RunningServer(tmp_path_factory.mktemp("leased")) as server:
        server.write("one.yaml", machine_yaml("one", fakes.sidecar(), fakes.ollama(LLAMA)))
        wait_for_status(server, "one", "online")
        yield server


def words(*ours: str, script: str) -> list[str]:
    return ["pick", LLAMA, "--lease", *ours, "--", "sh", "-c", script]


def lease_ids(server: RunningServer) -> list[str]:
    return [one["lease"] for one in server.get("/api/leases").json()["leases"]]


class Running:
    """A leased command that runs in the background; it has written to `file` once it has begun."""

    def __init__(
        self, server: RunningServer, file: Path, *ours: str, script: str, prefix: Sequence[str] = ()
    ) -> None:
        self.process = subprocess.Popen(
            [*prefix, PROGRAM, *words(*ours, script=f'echo $$ >"$FILE"; {script}')],
            env=clean_environment(MACHINES_URL=server.url, FILE=str(file)),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )
        wait_until(lambda: file.exists() and file.read_text().endswith("\n"))
        self.child = int(file.read_text())

    def __enter__(self) -> "Running":
        return self

    def __exit__(self, *_: object) -> None:
        if self.process.poll() is None:
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.communicate()


def test_the_command_knows_its_machine_and_the_lease_ends_with_it(server: RunningServer) -> None:
    script = 'echo "$OLLAMA_HOST $MACHINES_MODEL $MACHINES_LEASE"; cat; exit 7'
    done = subprocess.run(
        [PROGRAM, *words("--holder", "me", script=script)],
        env=clean_environment(MACHINES_URL=server.url),
        input="typed",
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert (done.returncode, done.stderr) == (7, "")
    told, typed = done.stdout.splitlines()
    url, model, lease = told.split()
    assert url.startswith("http://127.0.0.1:")
    assert (model, typed) == (LLAMA, "typed")
    assert len(lease) > 8
    assert lease_ids(server) == []


def test_the_exit_status_is_what_shells_have(server: RunningServer) -> None:
    for script, status in (("exit 0", 0), ("kill -KILL $$", 137), ("kill -TERM $$", 143)):
        assert command(*words(script=script), MACHINES_URL=server.url).returncode == status
    for name, status in (("nosuchcommand", 127), ("/nosuch/command", 127), (__file__, 126)):
        done = command("pick", LLAMA, "--lease", "--", name, MACHINES_URL=server.url)
        assert done.returncode == status
        assert done.stderr.startswith(f"machines-server: {name}: ")
        assert done.stderr.count("\n") == 1
    assert lease_ids(server) == []


def test_a_command_that_gets_no_machine_is_not_run(server: RunningServer) -> None:
    done = command("pick", "mistral", "--lease", "--", "echo", "run", MACHINES_URL=server.url)
    assert (done.returncode, done.stdout) == (1, "")
    assert "No suitable machine for mistral" in done.stderr


@pytest.mark.parametrize(
    "wrong",
    [
        ["pick", LLAMA, "--", "true"],
        ["pick", LLAMA, "--lease", "--kill-on-loss"],
        ["pick", LLAMA, "--lease", "--json", "--", "true"],
        ["pick", LLAMA, "--lease", "--explain", "--", "true"],
    ],
)
def test_what_does_not_fit_together_is_wrong_usage(wrong: list[str]) -> None:
    assert command(*wrong).returncode == 2


@pytest.mark.parametrize("name", ["SIGINT", "SIGTERM", "SIGHUP"])
def test_signals_are_passed_on(server: RunningServer, tmp_path: Path, name: str) -> None:
    script = f'trap "echo got; exit 3" {name[3:]}; while :; do sleep 0.05; done'
    with Running(server, tmp_path / "begun", script=script) as running:
        assert len(lease_ids(server)) == 1
        running.process.send_signal(getattr(signal, name))
        output, errors = running.process.communicate(timeout=60)
        assert (running.process.returncode, output, errors) == (3, "got\n", "")
    assert lease_ids(server) == []


def test_a_signal_that_is_ignored_stays_ignored(server: RunningServer, tmp_path: Path) -> None:
    script = 'while [ ! -e "$FILE.end" ]; do sleep 0.05; done'
    with Running(server, tmp_path / "begun", script=script, prefix=["nohup"]) as running:
        running.process.send_signal(signal.SIGHUP)
        (tmp_path / "begun.end").touch()
        running.process.communicate(timeout=60)
        assert running.process.returncode == 0


def test_ctrl_c_reaches_the_command_once(server: RunningServer) -> None:
    script = (
        'trap "echo got" INT; echo begun; n=0; while [ $n -lt 20 ]; do sleep 0.05; n=$((n+1)); done; exit 4'
    )
    with Terminal([PROGRAM, *words(script=script)], {"MACHINES_URL": server.url}) as terminal:
        terminal.wait_for("begun")
        terminal.type("\x03")
        done = terminal.end()
    assert done.returncode == 4
    assert done.text.count("got") == 1


def test_the_lease_is_renewed_while_the_command_runs(server: RunningServer, tmp_path: Path) -> None:
    script = 'while [ ! -e "$FILE.end" ]; do sleep 0.05; done'
    with Running(server, tmp_path / "begun", "--ttl-s", "1", script=script) as running:
        (lease,) = lease_ids(server)
        first = server.get(f"/api/leases/{lease}").json()["expires_at"]
        wait_until(lambda: server.get(f"/api/leases/{lease}").json()["expires_at"] > first)
        (tmp_path / "begun.end").touch()
        assert running.process.communicate(timeout=60) == ("", "")
        assert running.process.returncode == 0


def test_a_lost_lease_is_told_and_the_command_goes_on(server: RunningServer, tmp_path: Path) -> None:
    script = 'while [ ! -e "$FILE.end" ]; do sleep 0.05; done; exit 5'
    with Running(server, tmp_path / "begun", "--ttl-s", "1", script=script) as running:
        (lease,) = lease_ids(server)
        assert command("leases", "release", lease, MACHINES_URL=server.url).returncode == 0
        assert running.process.stderr is not None
        told = running.process.stderr.readline()
        assert told.startswith(f"machines-server: the lease is lost: There is no lease '{lease}'")
        (tmp_path / "begun.end").touch()
        _, errors = running.process.communicate(timeout=60)
        assert (running.process.returncode, errors) == (5, "")


def test_a_lost_lease_ends_the_command_if_asked_to(server: RunningServer, tmp_path: Path) -> None:
    script = "while :; do sleep 0.05; done"
    with Running(server, tmp_path / "begun", "--ttl-s", "1", "--kill-on-loss", script=script) as running:
        (lease,) = lease_ids(server)
        assert command("leases", "release", lease, MACHINES_URL=server.url).returncode == 0
        _, errors = running.process.communicate(timeout=60)
        assert running.process.returncode == 128 + signal.SIGTERM
        assert errors.endswith("; ending the command\n")


def test_the_command_has_the_signals_that_others_have(server: RunningServer) -> None:
    script = "import signal; print(signal.getsignal(signal.SIGINT), signal.pthread_sigmask(0, []))"
    done = command("pick", LLAMA, "--lease", "--", sys.executable, "-c", script, MACHINES_URL=server.url)
    alone = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout.split(" at ")[0] == alone.stdout.split(" at ")[0]
    assert done.stdout.endswith("set()\n")
