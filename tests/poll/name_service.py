"""A world with a name service of its own: run in new namespaces, so that no other process sees it.

Prints what a Fetcher made of names, as JSON: `ended`, [[host, failure, reason, s since the start], ...], and
`longest_step_s`.
"""

import errno
import fcntl
import heapq
import json
import select
import socket
import struct
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Self
from urllib.parse import urlsplit

from machines_server.poll.fetch import Fetcher
from tests.bodies import http
from tests.fakes import FakeFleet
from tests.poll.fetching import one_round

LOOK_S = 0.1
SIOCSIFFLAGS, IFF_UP = 0x8914, 1


def bring_up_loopback() -> None:
    """A new network namespace has a loopback interface, which is down."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as control:
        fcntl.ioctl(control, SIOCSIFFLAGS, struct.pack("16sh", b"lo", IFF_UP))


def use_name_service(address: str, folder: Path) -> None:
    """Ask that address for names, and nobody else."""
    for name, text in (("resolv.conf", f"nameserver {address}\n"), ("hosts", "127.0.0.1 localhost\n")):
        (folder / name).write_text(text)
        subprocess.run(["mount", "--bind", str(folder / name), f"/etc/{name}"], check=True)


class NameService:
    """Says 127.0.0.1 for every `*.slow`, late, that there is no `*.none`, and nothing of other names."""

    def __init__(self, delay_s: float) -> None:
        self._delay_s = delay_s
        self._socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.address = self._bind()
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._run, name="names")

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        self._thread.join()
        self._socket.close()

    def _bind(self) -> str:
        """Names are asked for at port 53 alone, so that an address must be found at which nobody listens."""
        for number in range(1, 255):
            try:
                self._socket.bind((address := f"127.0.77.{number}", 53))
            except OSError as error:
                if error.errno != errno.EADDRINUSE:
                    raise
            else:
                return address
        raise AssertionError("somebody listens everywhere")

    def _run(self) -> None:
        waiting: list[tuple[float, bytes, tuple[str, int]]] = []
        while not self._ended.is_set():
            due_s = max(0.0, waiting[0][0] - time.monotonic()) if waiting else LOOK_S
            if select.select([self._socket], [], [], min(due_s, LOOK_S))[0]:
                query, client = self._socket.recvfrom(512)
                if b"\x04slow\0" in query or b"\x04none\0" in query:
                    late_s = self._delay_s if b"\x04slow\0" in query else 0.0
                    heapq.heappush(waiting, (time.monotonic() + late_s, query, client))
            while waiting and waiting[0][0] <= time.monotonic():
                _, query, client = heapq.heappop(waiting)
                self._socket.sendto(_reply(query), client)


def _reply(query: bytes) -> bytes:
    end = query.index(b"\0", 12) + 5
    question = query[12:end]
    is_a, exists = question[-4:-2] == b"\0\1", b"\x04slow\0" in question
    flags, answers = (0x8180 if exists else 0x8183), int(is_a and exists)
    head = query[:2] + struct.pack(">HHHHH", flags, 1, answers, 0, 0)
    address = b"\xc0\x0c\0\1\0\1\0\0\0\0\0\x04" + socket.inet_aton("127.0.0.1")
    return head + question + address * answers


def main(folder: str, timeout_s: str, delay_s: str, *hosts: str) -> None:
    """Ask every host once; `NAME*COUNT` stands for NAME with the numbers from 0 to COUNT - 1 before it."""
    bring_up_loopback()
    names = []
    for host in hosts:
        name, _, count = host.partition("*")
        names += [f"h{number}.{name}" for number in range(int(count))] if count else [name]
    with NameService(float(delay_s)) as service, FakeFleet() as fleet:
        use_name_service(service.address, Path(folder))
        port = fleet.listen(http(b"{}"), "0.0.0.0").port
        found = one_round(Fetcher(float(timeout_s)), (f"http://{name}:{port}/" for name in names))
    ended = [
        [
            urlsplit(one.url).hostname,
            one.failure and one.failure.name,
            one.reason and one.reason.text,
            after_s,
        ]
        for one, after_s in zip(found.ended, found.ended_after_s, strict=True)
    ]
    sys.stdout.write(json.dumps({"ended": ended, "longest_step_s": found.longest_step_s}))


if __name__ == "__main__":
    main(*sys.argv[1:])
