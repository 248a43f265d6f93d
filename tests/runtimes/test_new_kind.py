"""A new kind of model server is polled, stored and shown once its class is in the table of kinds."""

from collections.abc import Mapping
from contextlib import closing
from pathlib import Path
from typing import ClassVar

import pytest

from machines_server.core.machine import Endpoint, Machine, Registry
from machines_server.core.reasons import Reason, status_code
from machines_server.core.sample import LoadedModel, RuntimeState, State
from machines_server.core.state import MachineState, machine_state
from machines_server.core.status import Status
from machines_server.errors import BadAnswerError
from machines_server.poll.cycle import AnswerReader, OwnFault, Polled, poll_all
from machines_server.poll.fetch import Fetcher
from machines_server.runtimes.base import Kinds, Reading, Runtime
from machines_server.runtimes.fields import json_object
from machines_server.runtimes.kinds import KINDS
from machines_server.store.sqlite.connection import open_writer
from machines_server.store.sqlite.migrate import migrate
from machines_server.store.sqlite.telemetry.latest import LatestReader
from machines_server.store.sqlite.telemetry.rollups import Rollups
from machines_server.store.sqlite.telemetry.samples import SampleWriter
from tests.bodies import FIXTURES, gpu_body, http
from tests.core.machines import a_machine
from tests.fakes import FakeFleet
from tests.store.polls import RETENTION


class Toy(Runtime):
    """A model server that lists what it has loaded, and nothing else."""

    kind = "toy"
    title = "the toy"
    port_key = "network.port"
    path = "/loaded"
    start_hint = "start the toy on {hostname}"
    hints: ClassVar[Mapping[str, str]] = {status_code(404): "{what} is older than its /loaded"}

    def read(self, body: bytes) -> Reading:
        """Read the JSON of /loaded."""
        answer = json_object(body)
        if "loaded" not in answer.raw:
            raise BadAnswerError(Reason("loaded: missing; is this a toy?"))
        models = [
            LoadedModel(name, size_bytes=model.number("bytes", whole=True))
            for model in answer.entries("loaded", 100)
            if (name := model.required_name("id"))
        ]
        return Reading(RuntimeState(models=tuple(models)), answer.oddities)


WITH_TOY: Kinds = {**KINDS, Toy.kind: Toy}
TIMEOUT_S = 0.5
GOOD = (FIXTURES / "toy" / "loaded.json").read_bytes()


class World:
    """A machine with a sidecar and a toy, which is polled, written to a database and read back."""

    def __init__(self, machine: Machine, path: Path) -> None:
        migrate(path)
        self.machine, self._reader = machine, LatestReader(path)
        self.connection = open_writer(path)
        self._writer = SampleWriter(self.connection, 12, Rollups(self.connection, RETENTION))
        self._writer.write([Registry((machine,), loaded_at=1.0)])
        self._fetcher, self._answers = Fetcher(TIMEOUT_S), AnswerReader(WITH_TOY)

    def state_after_a_cycle(self) -> MachineState:
        """What the database says of the machine after one more cycle."""
        came: list[Polled] = []
        for _ in range(5):
            came = [one for one in poll_all([self.machine], self._fetcher, self._answers) if one is not None]
            if not any(isinstance(one, OwnFault) for one in came):  # else this process was starved by others
                break
        self._writer.write([one for one in came if not isinstance(one, OwnFault)])
        latest = self._reader.snapshot().latest["box"]
        return machine_state(self.machine, latest, None, max(one.polled_at for one in latest.values()), 12.0)

    def close(self) -> None:
        self._fetcher.close()
        self._reader.close()
        self.connection.close()


def declared(sidecar_port: int, toy_port: int) -> Machine:
    endpoints = (
        Endpoint("sidecar", "127.0.0.1", sidecar_port, reports_host=True),
        Endpoint("toy", "127.0.0.1", toy_port),
    )
    return a_machine("box", endpoints={one.kind: one for one in endpoints})


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "telemetry.db"


def test_a_toy_is_polled_stored_and_shown_like_any_other_kind(fakes: FakeFleet, path: Path) -> None:
    sidecar, toy = fakes.sidecar(gpu_body(0, used_gb=3)), fakes.listen(http(GOOD))
    with closing(World(declared(sidecar.port, toy.port), path)) as world:
        state = world.state_after_a_cycle()
        assert state.machine.port == toy.port
        assert toy.requests[0].startswith(b"GET /loaded HTTP/1.1\r\n")
        assert state.verdict.status is Status.ONLINE
        assert state.loaded_models == ["small:3b", "tiny:1b"]
        assert state.host
        assert [gpu.uuid for gpu in state.host.gpu] == ["GPU-0"]
        spans = world.connection.execute("SELECT model, size_bytes FROM model_span ORDER BY model")
        assert spans.fetchall() == [("small:3b", 2_000_000_000), ("tiny:1b", 700_000_000)]


def test_what_is_wrong_with_a_toy_is_said_under_its_name(fakes: FakeFleet, path: Path) -> None:
    sidecar, toy = fakes.sidecar(), fakes.listen(http(GOOD))
    with closing(World(declared(sidecar.port, toy.port), path)) as world:
        world.state_after_a_cycle()
        toy.answer = http(b'{"loaded": [{"id": "tiny:1b", "bytes": -1}]}')
        odd = world.state_after_a_cycle()
        assert odd.verdict.reason == "toy: invalid, so shown as unknown: loaded[0].bytes: -1 is out of range"
        assert (odd.verdict.status, odd.loaded_models) == (Status.ONLINE, ["tiny:1b"])
        toy.answer = http(b"{}")
        wrong = world.state_after_a_cycle()
        assert wrong.verdict.reason == "toy: loaded: missing; is this a toy?"
        assert (wrong.ollama, wrong.models) == (State.ERROR, ())
        toy.answer = http(b"", "404 Not Found")
        assert world.state_after_a_cycle().ollama_hint == "the toy is older than its /loaded"
        toy.stop()
        gone = world.state_after_a_cycle()
        assert gone.ollama_hint == "start the toy on 127.0.0.1"
        sidecar.stop()
        assert world.state_after_a_cycle().verdict == (
            Status.OFFLINE,
            "sidecar and toy: connection refused",
        )
        rows = world.connection.execute(
            "SELECT state FROM endpoint_state WHERE endpoint = 'toy' ORDER BY at_ms"
        )
        assert [state for (state,) in rows] == ["ok", "error", "unreachable"]


def test_a_machine_with_a_toy_alone_is_online_while_it_answers(fakes: FakeFleet, path: Path) -> None:
    toy = fakes.listen(http(GOOD))
    machine = a_machine("box", endpoints={"toy": Endpoint("toy", "127.0.0.1", toy.port)})
    with closing(World(machine, path)) as world:
        assert world.state_after_a_cycle().verdict.status is Status.ONLINE
        toy.stop()
        assert world.state_after_a_cycle().verdict.status is Status.OFFLINE
