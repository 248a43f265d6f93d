"""Machine files are read once in a process, and those that take long in one of their own: no answer waits.

ruamel.yaml, in Python throughout since that alone is YAML 1.2, is slow: a legal file of 1 MiB may take a
minute.
"""

import os
import pickle
import subprocess
import sys
import threading
import time
from dataclasses import dataclass
from hashlib import blake2b

from machines_server.core.registry import Problem
from machines_server.machine_file import Parsed, parse_machine
from machines_server.yaml_document import MAX_BYTES

AT_ONCE_S = 0.06
"""What takes longer is read aside; an ordinary machine file takes 3 ms."""
DEADLINE_S = 120.0
KEPT = 20_000
"""The most readings that are kept."""
_VALUE_S, _LINE_S, _CHARACTER_S, _MERGE_S = 45e-6, 6e-6, 1e-6, 2e-4
_OPEN_S = 0.6e-6
"""For the square of their number: brackets that are opened and not closed cost ruamel.yaml that much."""


def cost_s(content: bytes) -> float:
    """About the most that it takes to read a machine file, in seconds; counted, not read."""
    if len(content) > MAX_BYTES:  # it is refused unread
        return 0.0
    values = len(content) - len(content.translate(None, b",:-?[{*&"))
    opened = content.count(b"[") + content.count(b"{")
    return (
        values * _VALUE_S
        + content.count(b"\n") * _LINE_S
        + len(content) * _CHARACTER_S
        + content.count(b"<<") * _MERGE_S
        + opened**2 * _OPEN_S
    )


@dataclass(slots=True)
class _Asked:
    """A file that is read, as it was when that began; `parsed` is there at the end."""

    digest: bytes
    parsed: Parsed | None = None


class Aside:
    """Reads files, the long ones one after the other in a process of their own; for any number of threads.

    The latest reading of each file is kept: who asks for the same content again gets the same object.
    """

    def __init__(self) -> None:
        self._lock, self._turn = threading.Lock(), threading.Lock()
        self._asked: dict[str, _Asked] = {}

    def parse(self, content: bytes, file: str) -> Parsed | None:
        """As `parse_machine`; None while the file is being read aside, until it is asked for again."""
        parsed = self.parse_at_once(content, file)
        if parsed is not None:
            return parsed
        digest = blake2b(content).digest()
        with self._lock:
            asked = self._asked.get(file)
            if asked is None or asked.digest != digest:
                asked = self._asked[file] = _Asked(digest)
                threading.Thread(
                    target=self._read, args=(content, file, asked), name=f"read {file}", daemon=True
                ).start()
            return None

    def parse_at_once(self, content: bytes, file: str) -> Parsed | None:
        """The same, but None for what takes long and has not been read yet."""
        digest = blake2b(content).digest()
        with self._lock:  # over the parsing, too: who comes second finds it read
            asked = self._asked.get(file)
            if asked is not None and asked.digest == digest:
                if asked.parsed is not None and asked.parsed.machine is None and cost_s(content) > AT_ONCE_S:
                    del self._asked[file]  # the fault may have been ours, and is not kept
                return asked.parsed
            if cost_s(content) > AT_ONCE_S:
                return None
            parsed = parse_machine(content, file)
            if len(self._asked) >= KEPT:  # names that came and went
                self._asked.clear()
            self._asked[file] = _Asked(digest, parsed)
            return parsed

    def _read(self, content: bytes, file: str, asked: _Asked) -> None:
        with self._turn:
            if self._asked.get(file) is asked:  # else it has changed meanwhile
                asked.parsed = read_in_a_process(content, file)


def read_in_a_process(content: bytes, file: str, deadline_s: float = DEADLINE_S) -> Parsed:
    """As `parse_machine`, by a process that may be ended."""
    command = [sys.executable, "-m", "machines_server.parse_aside", file]
    try:
        done = subprocess.run(command, input=content, stdout=subprocess.PIPE, timeout=deadline_s, check=True)  # noqa: S603  ourselves
    except subprocess.TimeoutExpired:
        return _refused(file, f"the file takes more than {deadline_s:g} s to read; expected less in it")
    except (OSError, subprocess.CalledProcessError) as error:
        return _refused(file, f"the process that reads this long file failed ({error}); expected less in it")
    parsed: Parsed = pickle.loads(done.stdout)  # noqa: S301  from ourselves
    return parsed


def _refused(file: str, message: str) -> Parsed:
    return Parsed(None, (Problem(file, message),))


def _end_with_parent(pid: int) -> None:
    while os.getppid() == pid:
        time.sleep(0.5)
    os._exit(1)


def main() -> None:
    """Read the file on standard input; its name in problems is the first argument."""
    threading.Thread(target=_end_with_parent, args=[os.getppid()], daemon=True).start()
    sys.stdout.buffer.write(pickle.dumps(parse_machine(sys.stdin.buffer.read(), sys.argv[1])))


if __name__ == "__main__":
    main()
