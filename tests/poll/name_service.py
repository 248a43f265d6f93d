"""A world with a name service of its own: run in new namespaces, so that no other process sees it.

Prints what a Fetcher made of names, as JSON: [[host, failure, reason, s since the start], ...].
"""

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
from urllib.parse import urlsplit

from machines_server.poll.fetch import Fetcher
from tests.fakes import FakeFleet, http

ADDRESS = "127.0.0.77"
SIOCSIFFLAGS, IFF_UP = 0x8914, 1


def bring_up_loopback() -> None:
    """A new network namespace has a loopback interface, which is down."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as control:
        fcntl.ioctl(control, SIOCSIFFLAGS, struct.pack("16sh", b"lo", IFF_UP))


def use_our_name_service(folder: Path) -> None:
    """Ask `ADDRESS` for names, and nobody else."""
    for name, text in (("resolv.conf", f"nameserver {ADDRESS}\n"), ("hosts", "127.0.0.1 localhost\n")):
        (folder / name).write_text(text)
        subprocess.run(["mount", "--bind", str(folder / name), f"/etc/{name}"], check=True)


def answer_names(delay_s: float) -> None:
    """Say 127.0.0.1 for every `*.slow`, `delay_s` late, that there is no `*.none`, and else nothing."""
    service = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    service.bind((ADDRESS, 53))
    waiting: list[tuple[float, bytes, tuple[str, int]]] = []
    while True:
        due_s = max(0.0, waiting[0][0] - time.monotonic()) if waiting else 1.0
        if select.select([service], [], [], due_s)[0]:
            query, client = service.recvfrom(512)
            if b"\x04slow\0" in query or b"\x04none\0" in query:
                late_s = delay_s if b"\x04slow\0" in query else 0.0
                heapq.heappush(waiting, (time.monotonic() + late_s, query, client))
        while waiting and waiting[0][0] <= time.monotonic():
            _, query, client = heapq.heappop(waiting)
            service.sendto(_reply(query), client)


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
    use_our_name_service(Path(folder))
    threading.Thread(target=answer_names, args=[float(delay_s)], daemon=True).start()
    names = []
    for host in hosts:
        name, _, count = host.partition("*")
        names += [f"h{number}.{name}" for number in range(int(count))] if count else [name]
    with FakeFleet() as fleet:
        port = fleet.listen(http(b"{}"), "0.0.0.0").port
        started, found = time.monotonic(), []
        for one in Fetcher(float(timeout_s)).fetch(f"http://{name}:{port}/" for name in names):
            if one is not None:
                took_s = time.monotonic() - started
                host_name = urlsplit(one.url).hostname
                found.append([host_name, one.failure and one.failure.name, one.reason, took_s])
    sys.stdout.write(json.dumps(found))


if __name__ == "__main__":
    main(*sys.argv[1:])
