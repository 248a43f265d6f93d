"""A server's past in all its tiers: two machines, one of which was removed, with odd names."""

import random
import time
from collections.abc import Iterator
from pathlib import Path

from machines_server.core.machine import Registry
from machines_server.core.past.metrics import GPU_METRICS, MACHINE_METRICS
from machines_server.core.sample import (
    Cycle,
    GpuSample,
    HostSample,
    Library,
    LoadedModel,
    PollResult,
    Sample,
    State,
    StoredModel,
)
from machines_server.store.sqlite.connection import open_writer
from machines_server.store.sqlite.migrate import migrate
from machines_server.store.sqlite.telemetry.rollups import Rollups
from machines_server.store.sqlite.telemetry.samples import SampleWriter
from machines_server.store.values import Retention, SeriesKey, Update
from tests.core.machines import OLLAMA, SIDECAR, answer
from tests.store.polls import machine

HOUR, DAY = 3600, 86_400
END = int(time.time()) // HOUR * HOUR - HOUR
"""When the server was stopped."""
RAW_FROM, MINUTES_FROM, START = END - 3 * HOUR, END - 8 * HOUR, END - 20 * HOUR
KEPT = Retention(raw_s=END - RAW_FROM, minute_s=END - MINUTES_FROM, hour_s=1e9)
INTERVAL_S, MAX_GAP_S = 100, 220
ONE, GONE = 'Büro "1".{a}|\\b', "gone-2"
CARDS = ('GPU-"a"\\|ü', "GPU-b")
MODELS = (
    LoadedModel("hf.co/ü:'q'\n$1", "d" * 64, 2**33, 2**33, 4096),
    LoadedModel("m\0n", None, None, None, None),
    LoadedModel("llama3.1:70b", "e" * 64, 2**35, 2**34, 8192),
)
KEYS = [
    *(SeriesKey(name, metric) for name in (ONE, GONE) for metric in MACHINE_METRICS),
    *(SeriesKey(ONE, metric, card) for card in CARDS for metric in GPU_METRICS),
]


class APast:
    """A database that a server writes and then leaves; `write_until` goes on."""

    def __init__(self, path: Path) -> None:
        migrate(path)
        self.path, self._chance = path, random.Random(7)
        self._connection = open_writer(path)
        self._rollups = Rollups(self._connection, KEPT)
        self._writer = SampleWriter(self._connection, MAX_GAP_S, self._rollups)
        self._at = float(START)
        both = machine(ONE), machine(GONE)
        self._writer.write([Registry(both, loaded_at=START - 10.0)])
        self._writer.write([Library(ONE, OLLAMA.url, START + 1.0, (StoredModel("a", "b", 3),))])

    def write_until(self, end: float) -> None:
        """Poll until then, and aggregate and delete what is due."""
        while self._at < end:
            self._writer.write(list(self._cycle(self._at)))
            if self._at < END - 9 * HOUR <= self._at + INTERVAL_S:
                self._writer.write([Registry((machine(ONE),), loaded_at=self._at + 2)])
            self._at += INTERVAL_S if self._chance.random() < 0.98 else 10 * INTERVAL_S
        while self._rollups.step(end, 0.0):
            pass

    def close(self) -> None:
        self._connection.close()

    def _cycle(self, at: float) -> Iterator[Update]:
        for name in (ONE, GONE):
            is_up, when = self._chance.random() < 0.95, round(at + self._chance.uniform(0, 2), 3)
            yield from self._polls(name, when if self._chance.random() < 0.7 else at, is_up=is_up)
        yield Cycle(at, at + 3, INTERVAL_S, 2)

    def _polls(self, name: str, at: float, *, is_up: bool) -> Iterator[Update]:
        chance, state = self._chance, State.OK if is_up else State.UNREACHABLE
        models = tuple(one for number, one in enumerate(MODELS) if int(at / 3000) % (number + 2))
        said = (SIDECAR, self._host(name)), (OLLAMA, models)
        reason = None if is_up else "why"
        took_s = chance.uniform(0, 1)
        polls = [
            PollResult(name, endpoint, state, at, took_s, reason, answer(one) if is_up else None)
            for endpoint, one in said
        ]
        yield from polls
        yield Sample(name, {poll.endpoint.kind: poll for poll in polls})

    def _host(self, name: str) -> HostSample:
        chance = self._chance
        cards = [GpuSample(number, uuid, "card", "dedicated") for number, uuid in enumerate(CARDS)]
        cards = cards[: chance.choice([1, 2, 2])] if name == ONE else []
        for card in cards:
            for one in GPU_METRICS:
                value = chance.randrange(2**36) if one.unit == "GiB" else chance.uniform(0, 100)
                setattr(card, one.column, value)
        host = HostSample(gpu=tuple(cards))
        for one in MACHINE_METRICS[2:]:
            value = chance.randrange(2**36) if one.unit == "GiB" else chance.uniform(0, 1e5)
            setattr(host, one.column, value if chance.random() < 0.9 else None)
        return host
