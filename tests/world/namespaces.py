"""Hosts on a network of our own: private namespaces, and cables between them that can be faulty."""

import ctypes
import fcntl
import heapq
import os
import random
import select
import struct
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import requests

from tests.running import RunningServer

CLONE_NEWNET, TUNSETIFF, IFF_TUN, IFF_NO_PI = 0x40000000, 0x400454CA, 1, 0x1000


def why_not() -> str | None:
    """Why namespaces cannot be made here, or None if they can."""
    if not os.access("/dev/net/tun", os.W_OK):
        return "/dev/net/tun may not be opened"
    name = f"ms{os.getpid()}probe"
    made = subprocess.run(["ip", "netns", "add", name], capture_output=True, text=True, check=False)
    if made.returncode:
        return f"network namespaces may not be made: {made.stderr.strip()}"
    ip("netns", "del", name)
    return None


def ip(*words: str) -> None:
    """Run `ip`; raises CalledProcessError when it fails."""
    subprocess.run(["ip", *words], check=True, capture_output=True)


class Cable:
    """A cable between two namespaces that we carry every packet over, or do not."""

    def __init__(self, names: tuple[str, str]) -> None:
        """Makes two interfaces of these names in our own namespace, to be moved to their places."""
        self.loss, self.delay_s = 0.0, 0.0
        self._chance = random.Random(1)
        self._ends = [_open_tun(name) for name in names]
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._carry, daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Take it away, with both interfaces."""
        self._ended.set()
        self._thread.join()
        for end in self._ends:
            os.close(end)

    def _carry(self) -> None:
        under_way: list[tuple[float, int, int, bytes]] = []
        number = 0
        while not self._ended.is_set():
            due_s = max(0.0, under_way[0][0] - time.monotonic()) if under_way else 0.1
            for end in select.select(self._ends, [], [], min(due_s, 0.1))[0]:
                packet = os.read(end, 65536)
                if self._chance.random() >= self.loss:
                    number += 1
                    other = self._ends[1 - self._ends.index(end)]
                    heapq.heappush(under_way, (time.monotonic() + self.delay_s, number, other, packet))
            while under_way and under_way[0][0] <= time.monotonic():
                _, _, other, packet = heapq.heappop(under_way)
                try:
                    os.write(other, packet)
                except OSError:  # the interface is down
                    continue


def _open_tun(name: str) -> int:
    end = os.open("/dev/net/tun", os.O_RDWR | os.O_CLOEXEC)
    fcntl.ioctl(end, TUNSETIFF, struct.pack("16sH22x", name.encode(), IFF_TUN | IFF_NO_PI))
    return end


class Network:
    """A namespace for the server, and one for each host; all is removed at the end."""

    def __init__(self, stack: ExitStack) -> None:
        self._stack = stack
        self._prefix = f"ms{os.getpid()}"
        self._numbers = iter(range(1, 250))
        self.server = self.namespace("server")

    def namespace(self, name: str) -> str:
        """A new namespace with a loopback interface that is up."""
        full = f"{self._prefix}{name}"
        ip("netns", "add", full)
        self._stack.callback(ip, "netns", "del", full)
        ip("-n", full, "link", "set", "lo", "up")
        return full

    def cable(self, host: str, subnet: int) -> Cable:
        """Connect the server with a host by a cable that can be bad; the host is 10.77.SUBNET.2."""
        number = next(self._numbers)
        names = f"mt{os.getpid() % 10**6}s{number}", f"mt{os.getpid() % 10**6}h{number}"
        cable = Cable(names)
        self._stack.callback(cable.close)
        self._address(names, host, subnet)
        return cable

    def veth(self, host: str, subnet: int) -> tuple[str, str]:
        """Connect the server with a host by a veth pair, and give its names at the server and at the host."""
        number = next(self._numbers)
        names = f"mv{os.getpid() % 10**6}s{number}", f"mv{os.getpid() % 10**6}h{number}"
        ip("link", "add", names[0], "type", "veth", "peer", "name", names[1])
        self._address(names, host, subnet)
        return names

    def _address(self, names: tuple[str, str], host: str, subnet: int) -> None:
        for last, (name, namespace) in enumerate(zip(names, (self.server, host), strict=True), 1):
            ip("link", "set", name, "netns", namespace)
            ip("-n", namespace, "address", "add", f"10.77.{subnet}.{last}/30", "dev", name)
            ip("-n", namespace, "link", "set", name, "up")


@contextmanager
def host(namespace: str, hostname: str, used_gb: float, uptime_s: float) -> Iterator[None]:
    """A sidecar and an Ollama on the usual ports of a namespace."""
    words = [sys.executable, "-m", "tests.world.host", hostname, str(used_gb), str(uptime_s)]
    with subprocess.Popen(
        ["ip", "netns", "exec", namespace, *words], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as process:
        assert process.stdin
        assert process.stdout
        assert process.stdout.readline() == b"ready\n"
        try:
            yield
        finally:
            process.stdin.close()


class ServerInside(RunningServer):
    """A server in a namespace, asked by a thread that is in it as well."""

    def __init__(self, folder: Path, namespace: str, **settings: str) -> None:
        super().__init__(folder, prefix=["ip", "netns", "exec", namespace], **settings)
        self._asker = ThreadPoolExecutor(1, initializer=_enter, initargs=(namespace,))

    def get(self, path: str, **options: Any) -> requests.Response:
        """GET a path of this server."""
        response: requests.Response = self._asker.submit(super().get, path, **options).result()
        return response


def _enter(namespace: str) -> None:
    """Have the calling thread be in the namespace from now on."""
    libc = ctypes.CDLL(None, use_errno=True)
    with Path(f"/run/netns/{namespace}").open() as there:
        if libc.setns(there.fileno(), CLONE_NEWNET):
            raise OSError(ctypes.get_errno(), f"setns {namespace}")
