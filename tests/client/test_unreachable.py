"""A server that cannot be reached: why, and how long a client tries."""

import asyncio
import socket
import threading
from collections.abc import Generator, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, cast

import pytest

from machines_client import AsyncClient, Client, Pick, ServerUnreachable, reading
from machines_client.flows import Pause, Session
from tests.client.scripted_server import Say, ScriptedServer
from tests.client.two import LLAMA
from tests.fakes import FakeFleet, machine_yaml, wait_until
from tests.ports import free_port
from tests.running import RunningServer

MACHINES = {"machines": [], "total": 0, "errors": [], "config_dir": "machines"}


def refused(session: Session) -> tuple[list[float], Any]:
    """The pauses between the attempts while nothing listens, and the answer or the error in the end."""
    flow = cast(Generator[Any, Any, Any], reading.machines(session))
    pauses, step = list[float](), next(flow)
    try:
        while True:
            if isinstance(step, Pause):
                pauses.append(step.seconds)
                step = next(flow)
            else:
                step = flow.throw(ServerUnreachable("nothing listens", is_refused=True))
    except StopIteration as end:
        return pauses, end.value
    except ServerUnreachable as error:
        return pauses, error


def test_a_server_that_is_restarted_is_waited_for() -> None:
    pauses, error = refused(Client("127.0.0.1:1").session)
    assert isinstance(error, ServerUnreachable)
    assert (len(pauses), pauses) == (3, sorted(pauses))
    assert 3 < sum(pauses) < 6
    assert len(refused(Client("127.0.0.1:1", retries=1).session)[0]) == 1
    assert refused(Client("127.0.0.1:1", retries=0).session)[0] == []
    assert sum(refused(Client("127.0.0.1:1", timeout_s=1, retries=9).session)[0]) < 10


def test_who_can_have_an_old_answer_does_not_wait_for_a_restart(scripted: ScriptedServer) -> None:
    scripted.replies = [Say(MACHINES)]
    client = Client(scripted.url, stale_s=60)
    assert sum(refused(client.session)[0]) > 3
    client.machines()
    pauses, old = refused(client.session)
    assert old.age_s > 0
    assert sum(pauses) < 1.1


def test_a_restart_of_a_server_is_survived(tmp_path: Path, fakes: FakeFleet) -> None:
    port, picks = str(free_port()), list[Pick]()
    client = Client(f"127.0.0.1:{port}", timeout_s=120, retries=20)
    asking = threading.Thread(target=lambda: picks.append(client.pick(LLAMA, wait_s=60)))
    with RunningServer(tmp_path, MACHINES_PORT=port) as server:
        server.write("one.yaml", machine_yaml("one", fakes.sidecar(), fakes.ollama(LLAMA)))
        wait_until(lambda: server.fleet()["one"].get("loaded_models"))
    asking.start()
    with RunningServer(tmp_path, MACHINES_PORT=port):
        asking.join(120)
    assert [pick.name for pick in picks] == ["one"]


@contextmanager
def answering_once(content: bytes) -> Iterator[int]:
    """A port at which the first connection is answered in this way and closed, whatever it says."""
    with socket.create_server(("127.0.0.1", 0)) as listening:

        def answer() -> None:
            connection, _ = listening.accept()
            with connection:
                connection.recv(2**16)
                connection.sendall(content)

        thread = threading.Thread(target=answer)
        thread.start()
        yield listening.getsockname()[1]
        thread.join()


async def ask_in_a_loop(url: str) -> None:
    async with AsyncClient(url, retries=0) as client:
        await client.machines()


def ask(url: str) -> None:
    Client(url, retries=0).machines()


ASK = [ask, lambda url: asyncio.run(ask_in_a_loop(url))]


@pytest.mark.parametrize("ask", ASK)
@pytest.mark.parametrize(
    ("scheme", "content", "reason"),
    [
        ("http", b"", "the connection ended before an answer came"),
        ("http", b"SSH-2.0-Server\r\n", "no HTTP server answers there"),
        ("https", b"HTTP/1.1 400 Bad Request\r\n\r\n", "no TLS there"),
    ],
)
def test_a_connection_that_ends_says_why(ask: Any, scheme: str, content: bytes, reason: str) -> None:
    with answering_once(content) as port, pytest.raises(ServerUnreachable, match=reason) as caught:
        ask(f"{scheme}://127.0.0.1:{port}")
    assert not caught.value.is_refused


@pytest.mark.parametrize("ask", ASK)
def test_a_server_that_is_not_there_and_a_name_that_is_not_known_are_told_apart(ask: Any) -> None:
    with pytest.raises(ServerUnreachable, match="connection refused") as caught:
        ask(f"127.0.0.1:{free_port()}")
    assert caught.value.is_refused
    with pytest.raises(ServerUnreachable, match="its name cannot be resolved") as caught:
        ask("no-such-host.invalid:1")
    assert not caught.value.is_refused
