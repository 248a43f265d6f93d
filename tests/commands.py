"""Commands of `machines-server`, each in a process forked from one that has imported them all.

Starting Python and importing takes longer than what most commands do. As a program this reads a line of JSON
for each command, its words and the files that become its standard streams, and prints its exit status.
"""

import fcntl
import gc
import json
import os
import pty
import select
import subprocess
import sys
import tempfile
import termios
from collections.abc import Sequence
from pathlib import Path
from typing import Self

import click

from machines_server.cli.main import main
from tests.running import clean_environment
from tests.terminal import WITHIN_S, Ended, set_size

ROOT = Path(__file__).parent.parent


class Commands:
    """Runs commands in one environment, as a context manager."""

    def __init__(self, **environment: str) -> None:
        without_size = {k: v for k, v in clean_environment().items() if k not in ("COLUMNS", "LINES")}
        self._environment = without_size | environment

    def __enter__(self) -> Self:
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.commands"],
            cwd=ROOT,
            env=self._environment,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            bufsize=0,
        )
        return self

    def __exit__(self, *_: object) -> None:
        self._process.kill()
        self._process.communicate()

    def run(self, *words: str | bytes) -> subprocess.CompletedProcess[bytes]:
        """Run a command to its end, with files for its output."""
        with tempfile.NamedTemporaryFile() as output, tempfile.NamedTemporaryFile() as errors:
            self._start(words, [os.devnull, output.name, errors.name])
            status = self._status()
            return subprocess.CompletedProcess(words, status, output.read(), errors.read())

    def run_in_terminal(self, *words: str, columns: int) -> Ended:
        """Run a command to its end, in a terminal so wide."""
        ours, theirs = pty.openpty()
        set_size(ours, columns, 24)
        self._start(words, [os.ttyname(theirs)] * 3)
        assert self._process.stdout
        text, waited_for = b"", [ours, self._process.stdout.fileno()]
        while self._process.stdout.fileno() not in (ready := select.select(waited_for, [], [], WITHIN_S)[0]):
            assert ready, text
            text += os.read(ours, 65536)
        status = self._status()
        while select.select([ours], [], [], 0)[0]:
            text += os.read(ours, 65536)
        os.close(ours)
        os.close(theirs)
        return Ended(status, text.decode("utf-8", "replace").replace("\r\n", "\n"))

    def _start(self, words: Sequence[str | bytes], streams: list[str]) -> None:
        job = json.dumps([[os.fsencode(word).hex() for word in words], streams])
        assert self._process.stdin
        self._process.stdin.write(f"{job}\n".encode())

    def _status(self) -> int:
        assert self._process.stdout
        assert select.select([self._process.stdout], [], [], WITHIN_S)[0]
        return int(self._process.stdout.readline())


def _serve() -> None:
    """Fork for each command; returns in the processes that are forked only through its end."""
    assert isinstance(main, click.Group)
    main.get_command(click.Context(main), "")  # imports all of them
    gc.freeze()  # what is collected in a forked process would be copied
    jobs, answers = os.fdopen(os.dup(0)), os.dup(1)
    for line in jobs:
        words, streams = json.loads(line)
        if os.fork() == 0:
            jobs.close()
            os.close(answers)
            _become(streams)
            sys.argv[:] = ["machines-server", *(os.fsdecode(bytes.fromhex(word)) for word in words)]
            main()
        _, status = os.wait()
        os.write(answers, b"%d\n" % os.waitstatus_to_exitcode(status))


def _become(streams: list[str]) -> None:
    """Lead a session with these standard streams, whose terminal is theirs if they are one."""
    os.setsid()
    for number, path in enumerate(streams):
        opened = os.open(path, os.O_RDWR)
        os.dup2(opened, number)
        os.close(opened)
    if os.isatty(0):
        fcntl.ioctl(0, termios.TIOCSCTTY, 0)


if __name__ == "__main__":
    _serve()
