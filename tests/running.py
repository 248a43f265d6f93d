"""The server as a user runs it: real processes, on ports of their own, with folders of their own."""

import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

import psutil
import psycopg
import requests

from machines_server.core.times import rfc3339
from machines_server.store.sqlite.coordination.poller_lock import PollerLock
from tests.fakes import wait_until
from tests.ports import free_port
from tests.warm import Forked, is_read_by_python, warm


def clean_environment(**changes: str) -> dict[str, str]:
    """The environment without any setting of ours, and with `changes`."""
    kept = {
        name: value for name, value in os.environ.items() if not re.match("MACHINES_|SIDECAR_|AUTH_", name)
    }
    return kept | {"PYTHONWARNINGS": "error"} | changes


def command(*words: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run `machines-server` to its end."""
    if not is_read_by_python(environment):
        with tempfile.NamedTemporaryFile("r") as output, tempfile.NamedTemporaryFile("r") as errors:
            streams = [os.devnull, output.name, errors.name]
            status = warm().start(words, clean_environment(**environment), streams).wait(60)
            return subprocess.CompletedProcess(words, status, output.read(), errors.read())
    return subprocess.run(
        [sys.executable, "-m", "machines_server", *words],
        env=clean_environment(**environment),
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def copy_checkout(folder: Path) -> None:
    """Copy to a new `folder` what of this checkout is not made by us."""
    root = Path(__file__).parent.parent
    made = [line.strip("/") for line in (root / ".gitignore").read_text().splitlines()]
    shutil.copytree(root, folder, symlinks=True, ignore=shutil.ignore_patterns(".git", *made))


ANEW = ("env",)
"""The prefix of a server for which Python is started, as it is by a user."""


SHARED: list[Callable[[], Mapping[str, str]]] = []
"""With one entry, each server has databases that several could share: it makes the settings for them."""
SHARED_PATIENCE = 2
"""So many times as long are the intervals and deadlines of polls then."""
_shared_by_folder: dict[Path, Mapping[str, str]] = {}


class RunningServer:
    """`machines-server serve` (or `poll`) with its folders under `folder`, as a context manager."""

    def __init__(
        self,
        folder: Path,
        *,
        command: str = "serve",
        prefix: Sequence[str] = (),
        authority: str = "",
        **settings: str,
    ) -> None:
        """`prefix` is a command that runs the server, in other namespaces for instance, by becoming it.
        Without one it is forked from a process that has imported it (`tests/warm.py`).
        `authority` vouches for the certificate of a server that speaks HTTPS.
        """
        self.machines, self.data = folder / "machines", folder / "var"
        self.machines.mkdir(exist_ok=True)
        self.log = folder / f"{command}.log"
        self._command, self._prefix = command, prefix
        self.settings = {
            "MACHINES_DIR": str(self.machines),
            "MACHINES_DATA_DIR": str(self.data),
            "MACHINES_PORT": str(free_port()),
            "MACHINES_POLL_INTERVAL_S": "1",
        } | settings
        if SHARED and "MACHINES_DATABASE_URL" not in settings:
            if self.data not in _shared_by_folder:
                _shared_by_folder[self.data] = SHARED[0]()
            self.settings |= _shared_by_folder[self.data]
            # Databases and more processes share the cores: hosts would seem not to answer.
            interval_s = SHARED_PATIENCE * float(self.settings["MACHINES_POLL_INTERVAL_S"])
            self.settings["MACHINES_POLL_INTERVAL_S"] = f"{interval_s:g}"
            if "MACHINES_POLL_TIMEOUT_S" in settings:
                timeout_s = SHARED_PATIENCE * float(settings["MACHINES_POLL_TIMEOUT_S"])
                self.settings["MACHINES_POLL_TIMEOUT_S"] = f"{timeout_s:g}"
        # On a busy machine hosts that are well take long to answer.
        timeout_s = 0.9 * float(self.settings["MACHINES_POLL_INTERVAL_S"])
        self.settings.setdefault("MACHINES_POLL_TIMEOUT_S", f"{timeout_s:g}")
        self._verify: str | bool = authority or True
        self.url = f"{'https' if authority else 'http'}://127.0.0.1:{self.settings['MACHINES_PORT']}"
        self._starts_python = bool(prefix) or is_read_by_python(settings)
        self.process: subprocess.Popen[bytes] | Forked

    def __enter__(self) -> "RunningServer":
        environment = clean_environment(**self.settings)
        with self.log.open("ab") as log:
            if self._starts_python:
                words = [*self._prefix, sys.executable, "-m", "machines_server", self._command]
                self.process = subprocess.Popen(words, env=environment, stderr=log, stdout=log)
            else:
                self.process = warm().start([self._command], environment, [os.devnull, log.name, log.name])
        if self._command == "serve":
            try:
                wait_until(self._answers, 60)
            except BaseException:  # nobody else ends it: there is no __exit__ without an __enter__
                self._end()
                raise
        return self

    def __exit__(self, *_: object) -> None:
        self._end()

    def get(self, path: str, **options: Any) -> requests.Response:
        """GET a path of this server."""
        return requests.get(self.url + path, timeout=60, verify=self._verify, **options)

    def post(self, path: str, body: object) -> requests.Response:
        """POST JSON to a path of this server."""
        return requests.post(self.url + path, json=body, timeout=60)

    def fleet(self) -> dict[str, dict[str, Any]]:
        """/api/infrastructure, by name."""
        return {machine["name"]: machine for machine in self.get("/api/infrastructure").json()["machines"]}

    def write(self, file: str, text: str) -> None:
        """Drop a machine file, as an editor does: whole or not at all."""
        beside = self.machines / f".{file}.new"
        beside.write_text(text)
        beside.rename(self.machines / file)

    def forget_all(self) -> None:
        """Release all leases and remove all machine files, until the poller polls none of them any more."""
        for lease in self.get("/api/leases").json()["leases"]:
            requests.delete(f"{self.url}/api/leases/{lease['lease']}", timeout=60)
        names = set(self.fleet())
        for file in self.machines.iterdir():
            file.unlink()
        newest = "/api/events?limit=1&machine="
        wait_until(
            lambda: all(
                self.get(newest + name).json()["events"][0]["type"] == "machine_removed" for name in names
            )
        )

    def let_all_workers_know(self) -> None:
        """Wait until whatever one worker has told is known to the others, too.

        Those that share a file know it at once. Those that share a database look once in an interval, and
        once a second for leases, should they not hear that something has changed.
        """
        if "MACHINES_DATABASE_URL" in self.settings:
            look_s = max(1.0, float(self.settings["MACHINES_POLL_INTERVAL_S"]))
            moment = rfc3339(time.time() + look_s + 1.0)
            wait_until(lambda: self.get("/health").json()["poller"]["last_cycle_at"] > moment)

    def poller_pid(self) -> int:
        """The process that polls."""
        if url := self.settings.get("MACHINES_DATABASE_URL"):
            with psycopg.connect(url, autocommit=True) as connection:
                rows = wait_until(lambda: connection.execute("SELECT pid FROM poller").fetchall())
            return int(rows[0][0])
        leader = wait_until(lambda: PollerLock(self.data / "poller.lock").leader())
        assert leader is not None
        return leader.pid

    def open_connections(self) -> int:
        """How many connections the workers hold."""
        port = int(self.settings["MACHINES_PORT"])
        return sum(
            one.status == psutil.CONN_ESTABLISHED and one.laddr.port == port
            for worker in psutil.Process(self.process.pid).children()
            for one in worker.net_connections("tcp")
        )

    def logged_at(self, text: str) -> datetime:
        """When the last line of the log was written that contains `text`."""
        lines = [line for line in self.log.read_text().splitlines() if text in line]
        return datetime.fromisoformat(lines[-1].split()[0])

    def _end(self) -> None:
        self.process.send_signal(signal.SIGCONT)
        self.process.terminate()
        try:
            self.process.wait(timeout=60)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
            raise

    def _answers(self) -> bool:
        assert self.process.poll() is None, self.log.read_text()
        try:
            return self.get("/health").ok
        except requests.ConnectionError:
            return False


def wait_for_status(server: RunningServer, name: str, status: str, within_s: float = 60) -> dict[str, Any]:
    """The machine once it has that status."""
    seen: dict[str, Any] = {}

    def there() -> bool:
        seen.update(server.fleet().get(name, {}))
        return seen.get("status") == status

    started = time.monotonic()
    try:
        wait_until(there, within_s)
    except AssertionError:
        raise AssertionError(
            f"{time.monotonic() - started:.1f} s: {seen}\n{server.log.read_text()}"
        ) from None
    return seen
