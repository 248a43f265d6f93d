"""A data folder as an earlier version left it, put in place as if it had been left today.

`old/*.sql` are its databases as text, `old/*.yaml` its machine files. They were left at LEFT_AT. In
`telemetry.db` each moment is moved by whole days, since rollups begin at whole hours and days at midnight:
so it was left two hours to 26 hours ago, and retention takes nothing away. No question may have a step that
does not divide a day. In `coordination.db`, where leases last
minutes, each moment is moved so that it was left just now. Moments are the columns whose names end in `at_ms`
or `at_s`, and `up_since_ms`.
"""

import re
import sqlite3
import time
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager
from pathlib import Path
from types import MappingProxyType

from tests.bodies import GIB, gpu_body, http, ollama_body, sha, sidecar_body, tags_body
from tests.fakes import FakeFleet, wait_until
from tests.replay.masks import Masks
from tests.replay.scene import listen
from tests.running import RunningServer

LEFT_AT = 1_795_176_000
"""2026-11-20T12:00:00Z."""
DAY_S = 86_400
LEAST_AGE_S = 2 * 3600
"""Its last polls speak for the present for an hour."""
PORTS = range(21_402, 21_414)
"""What stands in the files for ports: of each machine the one of its Ollama and the one of its sidecar."""
NEW = "new:1b"
_ON_DISK = tags_body(
    ("qwen2.5:32b", sha("qwen2.5:32b"), 19 * GIB),
    ("llama3.1:70b", sha("llama3.1:70b"), 40 * GIB),
    (NEW, sha(NEW), GIB),
)
ANSWERS: Mapping[int, tuple[bytes, bytes]] = {
    21402: (ollama_body("qwen2.5:32b", digest=sha("qwen2.5:32b")), _ON_DISK),
    21403: (
        sidecar_body(
            gpu_body(0, used_gb=4, uuid="GPU-veteran-0"),
            gpu_body(1, used_gb=20, uuid="GPU-new-1"),
            hostname="veteran",
        ),
        b"",
    ),
    21407: (sidecar_body(gpu_body(0, used_gb=1, uuid="GPU-flaky-0"), hostname="flaky"), b""),
    21408: (ollama_body("mixtral:8x7b"), _ON_DISK),
}
"""What is answered now, and what is on the disk, by the port in the files; all others are dead."""
STATUSES = {"veteran": "online", "quiet": "offline", "flaky": "online", "lone": "online", "idle": "offline"}
MANY_LEASES = """
INSERT INTO lease
    (id, machine, hostname, port, model, warmth, shares, holder, ttl_s, created_at_ms, ends_at_ms, boot,
     ends_boot_ms, is_learned)
WITH RECURSIVE number (n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM number WHERE n < 1000)
SELECT 'many-' || n, machine, hostname, port, model, warmth, '[]', 'greedy', ttl_s, created_at_ms, ends_at_ms,
    boot, ends_boot_ms, 1
FROM number, lease WHERE holder = 'agent-1';
"""
"""As many as one holder may have."""
MANY_POLL_SPANS = """
INSERT INTO poll_span (id, started_at_ms, cycle_started_at_ms, ended_at_ms, interval_s, timeout_s)
WITH RECURSIVE number (n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM number WHERE n < 100000)
SELECT -n, started - n * 1000, started - n * 1000, started - n * 1000, 1, 0.5
FROM number, (SELECT min(started_at_ms) AS started FROM poll_span);
"""
"""More than one answer may read, long ago."""
_FOLDER = Path(__file__).parent / "old"
_MOMENT = re.compile(r"(.*_)?at_(ms|s)|up_since_ms")


class OldData:
    """A server on that folder, and what of its answers is masked."""

    def __init__(
        self, folder: Path, ports: Mapping[int, int] = MappingProxyType({}), *, is_polled: bool
    ) -> None:
        """`ports` has the real ones, by those in the files."""
        now = time.time()
        self.days = int((now - LEAST_AGE_S - LEFT_AT) // DAY_S)
        self.server = RunningServer(
            folder,
            MACHINES_POLLER="auto" if is_polled else "off",
            MACHINES_POLL_INTERVAL_S="2",
            MACHINES_POLL_TIMEOUT_S="1.5",
        )
        self.masks = Masks(self._was, has_new_events=is_polled)
        self.masks.name(str(self.server.machines), "folder of the files")
        self.masks.name(str(self.server.data), "data folder")
        for port in PORTS:
            self.masks.name_port(ports.get(port, port), str(port))
        for file in sorted(_FOLDER.glob("*.yaml")):
            self.server.write(file.name, _with_ports(file.read_text(), ports))
        self.server.data.mkdir(mode=0o700)
        shifts_s = {"telemetry": self.days * DAY_S, "coordination": now - LEFT_AT}
        for name, shift_s in shifts_s.items():
            text = _with_ports((_FOLDER / f"{name}.sql").read_text(), ports)
            if is_polled:
                text += MANY_POLL_SPANS if name == "telemetry" else MANY_LEASES
            _restore(self.server.data / f"{name}.db", text, shift_s)

    def at(self, seconds: int) -> str:
        """So many seconds before or after it was left, as a question has it."""
        text = str(LEFT_AT + self.days * DAY_S + seconds)
        self.masks.name(text, f"left{seconds:+}")
        return text

    def _was(self, at: float) -> float | None:
        was = at - self.days * DAY_S
        return was if was <= LEFT_AT else None


@contextmanager
def running_on_old_data(folder: Path) -> Iterator[OldData]:
    """A server on it that does not poll; one of its files is broken since."""
    old = OldData(folder, is_polled=False)
    old.server.write("lone.yaml", "name: [")
    with old.server:
        yield old


@contextmanager
def running_on_old_hosts(folder: Path) -> Iterator[OldData]:
    """A server on it that polls its hosts, of which some died since, and with more than may be asked for."""
    with FakeFleet() as fakes:
        fleet, taken = {}, set[int]()
        for port in PORTS:
            fleet[port] = listen(fakes, f"127.8.2.{(port - PORTS[0]) // 2 + 1}", taken)
            if port not in ANSWERS:
                fleet[port].stop()
        for port, (body, on_disk) in ANSWERS.items():
            fleet[port].answer = http(body)
            fleet[port].answers["/api/tags"] = http(on_disk)
        old = OldData(folder, {port: one.port for port, one in fleet.items()}, is_polled=True)
        with old.server:
            wait_until(lambda: _statuses(old.server) == STATUSES, 60)
            wait_until(lambda: _is_listed(old.server), 60)
            yield old


def _statuses(server: RunningServer) -> dict[str, str]:
    return {name: machine["status"] for name, machine in server.fleet().items()}


def _is_listed(server: RunningServer) -> bool:
    """Whether what is on the disks is known anew."""
    models = server.get("/api/models").json()["models"]
    return {"veteran", "lone"} <= {name for one in models if one["model"] == NEW for name in one["on_disk"]}


def _with_ports(text: str, ports: Mapping[int, int]) -> str:
    return re.sub(r"\b214\d\d\b", lambda match: str(ports.get(int(match[0]), match[0])), text)


def _restore(path: Path, sql: str, shift_s: float) -> None:
    path.touch(mode=0o600)
    with closing(sqlite3.connect(path)) as connection:
        connection.executescript(sql)
        tables = connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'").fetchall()
        for (table,) in tables:
            for (column,) in connection.execute("SELECT name FROM pragma_table_info(?)", (table,)).fetchall():
                if _MOMENT.fullmatch(column):
                    shift = round(shift_s * (1000 if column.endswith("_ms") else 1))
                    # Not at once, since a moment may go to where another one still is.
                    connection.execute(f"UPDATE {table} SET {column} = -({column} + {shift})")
                    connection.execute(f"UPDATE {table} SET {column} = -{column}")
        connection.commit()
