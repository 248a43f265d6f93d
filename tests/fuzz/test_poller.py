"""Hosts that answer with any bytes, polled in real cycles, next to a healthy host."""

import asyncio
import json
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from machines_server.contract.machines import machine_json
from machines_server.core.machine import Machine, Registry
from machines_server.core.sample import Library, PollResult
from machines_server.core.state import machine_state
from machines_server.core.status import Status
from machines_server.core.text import printable
from machines_server.poll.cycle import AnswerReader, OwnFault, poll_all
from machines_server.poll.disk_models import LibraryPoller
from machines_server.poll.failures import UNREADABLE
from machines_server.poll.fetch import Fetcher
from machines_server.store.sqlite.connection import open_writer
from machines_server.store.sqlite.migrate import migrate
from machines_server.store.sqlite.telemetry.latest import LatestReader
from machines_server.store.sqlite.telemetry.rollups import Rollups
from machines_server.store.sqlite.telemetry.samples import SampleWriter
from machines_server.store.values import Update
from tests.bodies import gpu_body, http, ollama_body, sidecar_body, tags_body
from tests.core.machines import a_machine
from tests.fakes import FakeFleet
from tests.fuzz.conftest import Fuzz
from tests.store.polls import RETENTION

TIMEOUT_S = 1.0
NAMES = (
    *(b"Transfer-Encoding", b"Content-Encoding", b"Content-Length", b"Content-Type", b"Connection"),
    *(b"Date", b"Location", b"Set-Cookie", b"Upgrade", b"Alt-Svc", b"Trailer", b"Retry-After", b"", b" "),
)
VALUES = (
    *(b"chunked", b"gzip", b"gzip, chunked", b"identity", b"2", b"-1", b"9" * 30, b"close", b"h2c", b"/"),
    *(b"Fri, 31 Dec 9999 23:59:59 GMT", b"Thu, 01 Jan 0001 00:00:00 GMT", b"Mon, 99 Foo 1 1:1:1 +9999"),
)
ODD = st.binary(max_size=12) | st.sampled_from(
    [
        *(b"", b" ", b"\t", b"\0", b"\xff", b"\r", b"\n", b"\r\n", b"\r\n\r\n", b":", b"\x1b[2J", b"\x07"),
        *(b"\xe2\x80\xae", b"\xed\xa0\x80", b"9" * 30, b"-1", b"%s", b"HTTP/1.1 100 Continue\r\n\r\n"),
    ]
)
HEADERS = st.lists(st.tuples(st.sampled_from(NAMES) | ODD, st.sampled_from(VALUES) | ODD), max_size=4)
SPLICES = st.lists(st.tuples(st.integers(0, 400), st.integers(0, 8), ODD), max_size=4)

SCALARS = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8)
MOMENTS = st.sampled_from(["0001-01-02T00:00:00Z", "2199-12-31T23:59:59-23:59", "2026-01-01T00:00:00+01:00"])
SIDECAR_KEYS, GPU_KEYS = tuple(json.loads(sidecar_body())), tuple(gpu_body(0, used_gb=1))
MODEL_KEYS = tuple(json.loads(ollama_body("m"))["models"][0])


def _sidecar(changes: dict[str, Any], gpus: list[dict[str, Any]]) -> bytes:
    return sidecar_body(*(gpu_body(number, used_gb=1) | gpu for number, gpu in enumerate(gpus)), **changes)


def _ollama(changes: list[dict[str, Any]]) -> bytes:
    good = json.loads(ollama_body(*(f"m{number}" for number in range(len(changes)))))["models"]
    models = [model | change for model, change in zip(good, changes, strict=True)]
    return json.dumps({"models": models}).encode()


def changed(keys: tuple[str, ...]) -> st.SearchStrategy[dict[str, Any]]:
    return st.dictionaries(st.sampled_from(keys), SCALARS | MOMENTS, max_size=2)


BODIES = (
    st.builds(_sidecar, changed(SIDECAR_KEYS), st.lists(changed(GPU_KEYS), max_size=3))
    | st.builds(_ollama, st.lists(changed(MODEL_KEYS), max_size=3))
    | st.sampled_from([tags_body(("m", "d", 1)), b"{}", b""])
    | st.binary(max_size=60)
)


def _answer(
    body: bytes, framing: str, headers: list[tuple[bytes, bytes]], splices: list[tuple[int, int, bytes]]
) -> bytes:
    """An HTTP answer with some headers more, in which pieces are then replaced."""
    lines = [b"HTTP/1.1 200 OK", *(name + b": " + value for name, value in headers)]
    trailers = b"".join(name + b": " + value + b"\r\n" for name, value in headers)
    if framing == "chunked":
        lines.append(b"Transfer-Encoding: chunked")
        body = b"%x\r\n%b\r\n0\r\n%b\r\n" % (len(body), body, trailers)
    elif framing == "length":
        lines.append(b"Content-Length: %d" % len(body))
    answer = b"\r\n".join([*lines, b"", body])
    for at, length, odd in splices:
        answer = answer[:at] + odd + answer[at + length :]
    return answer


ANSWERS = st.builds(_answer, BODIES, st.sampled_from(["length", "chunked", "close"]), HEADERS, SPLICES)


class World:
    """A poller with a database; the host `bad` says what it is told to, and the host `good` is well."""

    def __init__(self, fakes: FakeFleet, path: Path) -> None:
        self.sidecar_says = self.ollama_says = b""
        ollama, sidecar = fakes.ollama("phi3:mini"), fakes.sidecar(gpu_body(0, used_gb=1))
        ollama.answers["/api/tags"] = http(tags_body(("phi3:mini", "d", 1)))
        bad_ollama, bad_sidecar = fakes.scripted(self._say_ollama), fakes.scripted(self._say_sidecar)
        self.machines = (
            a_machine("bad", port=bad_ollama.port, sidecar_port=bad_sidecar.port),
            a_machine("good", port=ollama.port, sidecar_port=sidecar.port),
        )
        migrate(path)
        self.connection, self.reader = open_writer(path), LatestReader(path)
        self.writer = SampleWriter(self.connection, 12, Rollups(self.connection, RETENTION))
        self.writer.write([Registry(self.machines, loaded_at=1.0)])
        self.fetcher, self.answers = Fetcher(TIMEOUT_S), AnswerReader()

    async def _say_sidecar(self, writer: asyncio.StreamWriter) -> None:
        writer.write(self.sidecar_says)
        await writer.drain()

    async def _say_ollama(self, writer: asyncio.StreamWriter) -> None:
        writer.write(self.ollama_says)
        await writer.drain()

    def cycle(self) -> list[Update | OwnFault]:
        """Poll both hosts, ask what is on their disks, and write what came."""
        libraries = LibraryPoller()
        came: list[Update | OwnFault] = []
        for one in poll_all(self.machines, self.fetcher, self.answers):
            if one is not None:
                came.append(one)
            if isinstance(one, PollResult):
                libraries.note(one)
        came += [one for one in libraries.poll(self.machines, TIMEOUT_S) if one is not None]
        self.writer.write([one for one in came if not isinstance(one, OwnFault)])
        return came

    def view(self, machine: Machine) -> dict[str, Any]:
        """A machine as the API shows it now."""
        latest = self.reader.snapshot().latest[machine.name]
        now = max(found.polled_at for found in latest.values())
        shown: dict[str, Any] = json.loads(bytes(machine_json(machine_state(machine, latest, None, now, 12))))
        return shown

    def close(self) -> None:
        self.fetcher.close()
        self.reader.close()
        self.connection.close()


@pytest.fixture
def world(fakes: FakeFleet, tmp_path: Path) -> Iterator[World]:
    with closing(World(fakes, tmp_path / "telemetry.db")) as world:
        yield world


def texts(value: Any) -> Iterator[str]:
    """Every text in a piece of JSON."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, list | dict):
        for one in value if isinstance(value, list) else (*value, *value.values()):
            yield from texts(one)


def holds(world: World) -> None:
    """In a cycle the bad host costs the good one nothing, and nothing that it says is unforeseen, or acts."""
    came = world.cycle()
    if any(isinstance(one, OwnFault) and one.machine == "good" for one in came):
        return  # this process was starved, which it says itself
    assert not [one for one in came if isinstance(one, PollResult) and one.reason == UNREADABLE.text]
    polls = [(one.machine, one.endpoint.kind) for one in came if isinstance(one, PollResult | OwnFault)]
    assert len(polls) == len(set(polls)) == 4
    bad, good = map(world.view, world.machines)
    assert (good["status"], good["status_reason"]) == ("online", None)
    assert good["loaded_models"] == ["phi3:mini"]
    assert "good" in [one.machine for one in came if isinstance(one, Library)]
    assert bad["status"] in list(Status)
    shown = list(texts(bad))
    assert shown == [printable(text) for text in shown]


def test_whatever_a_host_answers_only_its_own_machine_changes(fuzz: Fuzz, world: World) -> None:
    @given(ANSWERS, ANSWERS)
    def answering(sidecar: bytes, ollama: bytes) -> None:
        world.sidecar_says, world.ollama_says = sidecar, ollama
        holds(world)

    fuzz(answering)
