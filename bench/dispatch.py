"""Sixty jobs of two models over four machines that hold one model each, with several ways to choose."""

import random
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from itertools import cycle
from pathlib import Path
from queue import Empty, SimpleQueue
from statistics import median
from typing import NamedTuple

import requests

from bench.dispatch_hosts import Host, hosts
from bench.table import Line, note, server, wait_until
from machines_server.client import Client

MODELS = "llama3.1:70b", "qwen2.5:32b"
MACHINES, JOBS, WORKERS, RUNS = 4, 60, 8, 10
LIMIT_S = 40.0
"""After this time, a way is given up."""
DIES_AFTER_S = 3.5
INTERVAL_S = 6.0
"""Longer than the server's interval between two polls."""
LEASE_MEDIAN, LEASE_WORST, PICK_MEDIAN = 1.3, 1.6, 2.0
"""How many times longer than by hand it may take."""

Send = Callable[[str], str]
"""Chooses a machine for a model and sends it one job; returns the machine's name."""


class Way(NamedTuple):
    """A way to choose machines, and how many times longer than by hand it may take."""

    name: str
    send: Callable[[str], Send]
    runs: int = 1
    at_median: float | None = None
    at_worst: float | None = None
    is_warm: bool = False
    """Whether each model is in the memory of half of the machines at the beginning."""
    dies: bool = False
    """Whether a machine dies in the middle; its jobs are then sent again."""


def bench(folder: Path, *, quick: bool) -> list[Line]:
    """Time how long all jobs take."""
    lines = []
    best = {}
    for is_warm in (False, True):
        with hosts(MACHINES, MODELS, folder / f"by hand {is_warm}") as made:
            what = f"{JOBS} jobs, {MACHINES} machines{', warm' if is_warm else ''}"
            best[is_warm] = median(_timed(made, _by_hand(made), is_warm=is_warm) for _ in range(3))
            lines.append(Line(f"{what}, by hand", f"{best[is_warm]:.1f} s"))
            robin = _timed(made, _round_robin(made), is_warm=is_warm)
            lines.append(Line(f"{what}, round robin", f"{robin:.1f} s"))
    for way in (
        Way("a lease per job", _lease, RUNS, LEASE_MEDIAN, LEASE_WORST),
        Way("pick per job", _pick, RUNS, PICK_MEDIAN),
        Way("a lease per job, warm", _lease, is_warm=True),
        Way("pick per job, warm", _pick, is_warm=True),
        Way("a lease per job, one dies", _lease, dies=True),
        Way("pick per job, one dies", _pick, dies=True),
        Way("the guide's router", _guide),
        Way("the guide's router, warm", _guide, is_warm=True),
    ):
        times = []
        for number in range(1 if quick else way.runs):
            note(f"{way.name}, {number + 1}")
            with _served(folder / f"{way.name} {number}") as (made, port):
                send = way.send(f"http://127.0.0.1:{port}")
                times.append(_timed(made, send, is_warm=way.is_warm, dies=way.dies))
        lines += _lines(way, times, best[way.is_warm])
    return lines


def _lines(way: Way, times: Sequence[float], best: float) -> Iterator[Line]:
    for what, took, at_most in (
        (f"median of {len(times)}", median(times), way.at_median),
        ("worst", max(times), way.at_worst),
    ):
        if what == "worst" and at_most is None:
            continue
        goal = "" if at_most is None else f"<= {at_most:g} x by hand"
        reached = None if at_most is None else took <= at_most * best
        shown = f"{took:.1f} s" if took < LIMIT_S else f"given up after {LIMIT_S:g} s"
        yield Line(f"{JOBS} jobs, {way.name}, {what}", shown, f"{best:.1f} s", took / best, goal, reached)


@contextmanager
def _served(folder: Path) -> Iterator[tuple[list[Host], int]]:
    """New hosts and a new server that knows them."""
    with (
        hosts(MACHINES, MODELS, folder / "machines") as made,
        server(folder, folder / "machines") as (_, port),
    ):
        url = f"http://127.0.0.1:{port}/api/route"

        def is_known() -> bool:
            answer = requests.get(url, {"model": MODELS[0], "cold": "true", "explain": "true"}, timeout=5)
            candidates = answer.json().get("candidates", ())
            return [one["fits"] for one in candidates] == ["free"] * MACHINES

        wait_until(is_known, 30, "it is known what is on the disks")
        yield made, port


def _timed(made: Sequence[Host], send: Send, *, is_warm: bool = False, dies: bool = False) -> float:
    """How long all jobs take, sent by some workers; given up after LIMIT_S."""
    for host, model in zip(made, cycle(MODELS), strict=False):
        host.unload()
        if is_warm:
            host.generate(model)
    if is_warm:
        time.sleep(INTERVAL_S)  # so that the server has seen it
    jobs, began = _Jobs(send), time.monotonic()
    threads = [threading.Thread(target=jobs.work) for _ in range(WORKERS)]
    death = threading.Timer(DIES_AFTER_S, made[0].stop)
    for thread in (*threads, *([death] if dies else [])):
        thread.start()
    for thread in threads:
        thread.join()
    if jobs.failed:
        raise jobs.failed[0]
    return time.monotonic() - began


class _Jobs:
    """All jobs, in an order that looks random and is always the same."""

    def __init__(self, send: Send) -> None:
        self._send, self._until = send, time.monotonic() + LIMIT_S
        self._left: SimpleQueue[str] = SimpleQueue()
        self.failed: list[Exception] = []
        order = [MODELS[number % len(MODELS)] for number in range(JOBS)]
        random.Random(7).shuffle(order)
        for model in order:
            self._left.put(model)

    def work(self) -> None:
        """Send jobs until there are no more; what was sent to a machine that dies is sent again."""
        while not self.failed and time.monotonic() < self._until:
            try:
                model = self._left.get_nowait()
            except Empty:
                return
            try:
                self._send(model)
            except requests.RequestException:
                self._left.put(model)
            except Exception as error:  # noqa: BLE001  raised by the thread that measures
                self.failed.append(error)


def _generate(url: str, model: str) -> None:
    body = {"model": model, "prompt": "Hello", "stream": False}
    requests.post(f"{url}/api/generate", json=body, timeout=120).raise_for_status()


def _url(host: Host) -> str:
    return f"http://127.0.0.1:{host.ports[0]}"


def _by_hand(made: Sequence[Host]) -> Send:
    """Half of the machines for each model, in turn."""
    turns = {model: cycle(made[number :: len(MODELS)]) for number, model in enumerate(MODELS)}
    lock = threading.Lock()

    def send(model: str) -> str:
        with lock:
            host = next(turns[model])
        _generate(_url(host), model)
        return host.name

    return send


def _round_robin(made: Sequence[Host]) -> Send:
    turns, lock = cycle(made), threading.Lock()

    def send(model: str) -> str:
        with lock:
            host = next(turns)
        _generate(_url(host), model)
        return host.name

    return send


def _lease(url: str) -> Send:
    client = Client(url)

    def send(model: str) -> str:
        with client.lease(model, cold=True) as machine:
            _generate(machine.url, machine.model)
            return machine.name

    return send


def _pick(url: str) -> Send:
    client = Client(url)

    def send(model: str) -> str:
        machine = client.pick(model, cold=True)
        _generate(machine.url, machine.model or model)
        return machine.name

    return send


def _guide(url: str) -> Send:
    """The most free VRAM among machines that hold the model; the first machine while none does."""
    client = Client(url)

    def send(model: str) -> str:
        machines = client.ask("/api/infrastructure")["machines"]
        online = [machine for machine in machines if machine["status"] == "online"]
        holding = [machine for machine in online if model in machine["loaded_models"]]
        best = max(holding or online, key=_free_vram)
        _generate(f"http://{best['network']['hostname']}:{best['network']['port']}", model)
        return str(best["name"])

    return send


def _free_vram(machine: dict[str, object]) -> float:
    telemetry = machine["telemetry"]
    gpus = telemetry.get("gpu", []) if isinstance(telemetry, dict) else []
    return max((gpu["vram_free_gb"] for gpu in gpus), default=0.0)
