"""Processes of `machines-server`, forked from one that has imported all they need.

Starting Python and importing takes longer than most commands, and most of the CPU of a server in a test.
As a program this reads a line of JSON for each process to start, and writes one when it has started or ended.
What is forked is the real program from its first line on, except for what Python reads from its environment.
It ends as Python does, but does not take apart what was imported, which took as long as starting a server.
"""

import atexit
import fcntl
import functools
import gc
import importlib
import json
import os
import re
import select
import signal
import subprocess
import sys
import termios
import threading
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path

ROOT = Path(__file__).parent.parent
_IMPORTS = (
    "gunicorn.__main__",
    "gunicorn.arbiter",
    "machines_server.process.compose",
    "machines_server.process.gunicorn_worker",
    "machines_server.web.app",
    "machines_server.web.asgi",
)
"""What a server imports after its command has."""


def is_read_by_python(environment: Iterable[str]) -> bool:
    """Whether one of these variables has its effect before a process is forked."""
    return any(map(re.compile("PYTHON|LD_|LANG|LC_|MALLOC_|OTEL_").match, environment))


class Forked:
    """A process that was forked, with the methods of `subprocess.Popen` that tests use."""

    def __init__(self, warm: "Warm", pid: int) -> None:
        self.pid, self._warm = pid, warm

    @property
    def returncode(self) -> int | None:
        """Its exit status once that was asked for and known, as `subprocess.Popen` has it."""
        return self._warm.ended.get(self.pid)

    def poll(self) -> int | None:
        """Its exit status, or None while it runs."""
        self._warm.hear(0)
        return self.returncode

    def wait(self, timeout: float | None = None) -> int:
        """Its exit status once it has ended."""
        until = None if timeout is None else time.monotonic() + timeout
        while (status := self.returncode) is None:
            left_s = None if until is None else until - time.monotonic()
            if left_s is not None and left_s < 0:
                raise subprocess.TimeoutExpired(f"process {self.pid}", timeout or 0)
            self._warm.hear(left_s)
        return status

    def send_signal(self, number: int) -> None:
        """Send it a signal, unless it has ended."""
        if self.poll() is None:
            os.kill(self.pid, number)

    def terminate(self) -> None:
        """Ask it to end."""
        self.send_signal(signal.SIGTERM)

    def kill(self) -> None:
        """End it at once."""
        self.send_signal(signal.SIGKILL)


class Warm:
    """The process from which others are forked."""

    def __init__(self, **environment: str) -> None:
        """`environment` is for what Python reads of it; each process that is forked gets its own."""
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.warm"],
            cwd=ROOT,
            env=os.environ | {"PYTHONWARNINGS": "error"} | environment,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            start_new_session=True,  # Ctrl-C is for the tests, which end what they have started
        )
        self._lock = threading.RLock()
        self._started: list[int] = []
        self.ended: dict[int, int] = {}
        """By process, the exit statuses of those that have ended, as far as it was heard."""

    def start(
        self, words: Sequence[str | bytes], environment: Mapping[str, str], streams: Sequence[str]
    ) -> Forked:
        """Start `machines-server WORDS` in this folder; `streams` are the files of its standard streams."""
        job = [[os.fsencode(word).hex() for word in words], dict(environment), list(streams), str(Path.cwd())]
        assert self._process.stdin
        with self._lock:
            self._process.stdin.write(f"{json.dumps(job)}\n".encode())
            self._process.stdin.flush()
            while not self._started:
                self.hear(None)
            return Forked(self, self._started.pop())

    def hear(self, within_s: float | None) -> None:
        """Take in what it says next, if it says anything within that time; None: however long that takes."""
        pipe = self._process.stdout
        assert pipe
        with self._lock:
            # It writes whole lines, one at a time.
            if not select.select([pipe], [], [], within_s)[0]:
                return
            for line in os.read(pipe.fileno(), 65536).decode().splitlines() or [""]:
                assert line, "the process from which others are forked has ended"
                pid, _, status = line.partition(" ")
                if status:
                    self.ended[int(pid)] = int(status)
                else:
                    self.ended.pop(int(pid), None)  # of another process with the same number
                    self._started.append(int(pid))

    def close(self) -> None:
        """End it, and what it has started and is still running."""
        self._process.communicate()


@functools.cache
def warm() -> Warm:
    """The one of this process of tests, started when it is first needed."""
    found = Warm()
    atexit.register(found.close)
    return found


def _serve() -> None:
    """Fork for each job until there are no more; what is forked ends by itself."""
    atexit.register(_end)  # before all others, and so called after them
    main = _import_all()
    wakes, is_woken = os.pipe()
    os.set_blocking(is_woken, False)
    signal.signal(signal.SIGCHLD, lambda *_: None)
    signal.set_wakeup_fd(is_woken)
    jobs, answers, read = os.dup(0), os.dup(1), b""
    running: set[int] = set()
    while True:
        ready = select.select([jobs, wakes], [], [])[0]
        if wakes in ready:
            os.read(wakes, 512)
            _tell_of_ended(answers, running)
        if jobs not in ready:
            continue
        if not (more := os.read(jobs, 65536)):  # the tests have ended, perhaps before what they started
            for pid in running:
                os.kill(pid, signal.SIGTERM)
            return
        *lines, read = (read + more).split(b"\n")
        for line in lines:
            if (pid := os.fork()) == 0:
                signal.set_wakeup_fd(-1)
                signal.signal(signal.SIGCHLD, signal.SIG_DFL)
                for descriptor in (jobs, answers, wakes, is_woken):
                    os.close(descriptor)
                _become(*json.loads(line))
                _run(main)
            running.add(pid)
            os.write(answers, b"%d\n" % pid)


_status: list[int | str | None] = []
"""What the program that was forked has ended with, or a process that it forked."""


def _run(main: Callable[[], None]) -> None:
    try:
        main()
    except SystemExit as ended:
        _status.append(ended.code)
        raise


def _end() -> None:
    """End this process when nothing else is to be done, unless Python has something to say."""
    if not _status or isinstance(_status[-1], str):
        return
    try:
        sys.stdout.flush()
        sys.stderr.flush()
    except Exception:  # noqa: BLE001  Python tries again, and says what is wrong
        return
    os._exit(_status[-1] or 0)


def _import_all() -> Callable[[], None]:
    """Import what commands and servers need; returns the command line."""
    import click

    from machines_server.cli.main import main

    assert isinstance(main, click.Group)
    main.get_command(click.Context(main), "")  # imports all of them
    for name in _IMPORTS:
        importlib.import_module(name)
    gc.collect()
    gc.freeze()  # what is collected in a forked process would be copied
    return main


def _tell_of_ended(answers: int, running: set[int]) -> None:
    while running:
        pid, status = os.waitpid(-1, os.WNOHANG)
        if not pid:
            return
        running.remove(pid)
        os.write(answers, b"%d %d\n" % (pid, os.waitstatus_to_exitcode(status)))


def _become(words: list[str], environment: dict[str, str], streams: list[str], folder: str) -> None:
    """Lead a session with these standard streams, whose terminal is theirs if they are one."""
    os.setsid()
    for number, path in enumerate(streams):
        opened = os.open(path, os.O_RDWR | os.O_APPEND)
        os.dup2(opened, number)
        os.close(opened)
    if os.isatty(0):
        fcntl.ioctl(0, termios.TIOCSCTTY, 0)
    os.chdir(folder)
    os.environ.clear()
    os.environ.update(environment)
    time.tzset()
    sys.argv[:] = ["machines-server", *(os.fsdecode(bytes.fromhex(word)) for word in words)]


if __name__ == "__main__":
    _serve()
