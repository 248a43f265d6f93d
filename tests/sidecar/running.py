"""A real sidecar process with a stand-in driver, and waiting for its state."""

import contextlib
import http.client
import json
import os
import re
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import psutil

T = TypeVar("T")
GIB = 2**30


def wait_until(probe: Callable[[], T | None], what: str, limit_s: float = 30) -> T:
    """What `probe` gives once it is neither None nor False; fails after `limit_s`."""
    deadline = time.monotonic() + limit_s
    while True:
        found = probe()
        if found is not None and found is not False:
            return found
        assert time.monotonic() < deadline, f"waited {limit_s:g} s in vain: {what}"
        time.sleep(0.02)


def card(number: int | str, uuid: str, **values: object) -> dict[str, object]:
    """Scenario lines of one card of 24 GiB with 0.5 GiB reserved; `values` replace some, None removes one."""
    lines: dict[str, object] = {
        "uuid": uuid,
        "name": "NVIDIA Stand-in",
        "total": 24 * GIB,
        "reserved": GIB // 2,
        "used": 4 * GIB,
        "free": 24 * GIB - 4 * GIB - GIB // 2,
        "gpu": 47,
        "temperature": 61,
        "power": 212500,
        **values,
    }
    return {f"{number}.{key}": value for key, value in lines.items() if value is not None}


@dataclass
class Scenario:
    """The hardware that the stand-in driver shows."""

    folder: Path
    library: Path
    now: dict[str, object] = field(default_factory=dict)

    @property
    def file(self) -> Path:
        return self.folder / "scenario"

    @property
    def environ(self) -> dict[str, str]:
        return {"LD_LIBRARY_PATH": str(self.library), "NVML_STUB_SCENARIO": str(self.file)}

    def show(self, *cards: Mapping[str, object], kernel: str | None = "550", **lines: object) -> None:
        """From now on these cards, under a driver of version `kernel` (None: not loaded)."""
        self.now = {"library": kernel or "550", "count": len(cards)}
        if kernel is not None:
            self.now["kernel"] = kernel
        for each in (*cards, lines):
            self.now.update(each)
        self._write()

    def change(self, **lines: object) -> None:
        """Replace single lines; None removes one."""
        self.now.update(lines)
        self._write()

    def _write(self) -> None:
        text = "".join(f"{key}={value}\n" for key, value in self.now.items() if value is not None)
        new = self.file.with_suffix(".new")
        new.write_text(text, encoding="utf-8")
        new.replace(self.file)


@dataclass(frozen=True)
class Response:
    status: int
    headers: Mapping[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)


class Sidecar:
    """`python -m sidecar` on a free port, with a short interval."""

    def __init__(self, folder: Path, environ: Mapping[str, str], program: Sequence[str] = ()) -> None:
        self.stderr = folder / "stderr"
        settings = {"SIDECAR_HOST": "127.0.0.1", "SIDECAR_PORT": "0", "SIDECAR_SAMPLE_INTERVAL_S": "0.1"}
        with self.stderr.open("wb") as stderr:
            self.process = subprocess.Popen(
                [sys.executable, "-W", "error", *(program or ("-m", "sidecar"))],
                env={**os.environ, **settings, **environ},
                stderr=stderr,
            )
        try:
            found = wait_until(self._address, "the sidecar says where it listens", 60)
        except BaseException:
            self.process.kill()
            self.process.wait()
            raise
        self.port = int(found[1])

    def _address(self) -> re.Match[str] | None:
        assert self.process.poll() is None, self.log
        return re.search(r"listens on https?://\S+:(\d+)/metrics", self.log)

    @property
    def log(self) -> str:
        return self.stderr.read_text()

    def request(self, method: str, path: str, **headers: str) -> Response:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=10)
        with contextlib.closing(connection):
            connection.request(method, path, headers=headers)
            response = connection.getresponse()
            return Response(response.status, dict(response.headers.items()), response.read())

    def get(self, path: str = "/metrics", **headers: str) -> Response:
        return self.request("GET", path, **headers)

    def sample(self) -> Any:
        """The latest sample; waits for the first."""
        return wait_until(self._sample, "the first sample is there")

    def _sample(self) -> Any:
        answer = self.get(Accept="application/json")
        return answer.json if answer.status == 200 else None

    def sample_when(self, condition: Callable[[Any], bool], what: str, limit_s: float = 20) -> Any:
        """The first sample for which `condition` holds."""

        def probe() -> Any:
            sample = self.sample()
            return sample if condition(sample) else None

        return wait_until(probe, what, limit_s)

    def child(self) -> psutil.Process:
        """The process that talks to the driver."""

        def probe() -> psutil.Process | None:
            return next(iter(psutil.Process(self.process.pid).children()), None)

        return wait_until(probe, "the sidecar has a child")

    def end(self) -> int:
        """Tell it to end; returns its exit status."""
        self.process.terminate()
        return self.process.wait(timeout=10)


def is_gone(process: psutil.Process) -> bool:
    """Whether that very process has ended."""
    try:
        return not process.is_running() or process.status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True
