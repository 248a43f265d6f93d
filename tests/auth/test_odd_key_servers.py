"""Whatever a key-server does, it lets nobody in, and nobody waits longer than the deadline."""

import asyncio
import gzip
import json
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest

from machines_server.auth.key_server import KEY_SERVER_THREADS
from tests.auth.agents import Agent, Agents, Answer, send
from tests.bodies import http
from tests.fakes import FakeFleet, wait_until
from tests.running import RunningServer

FLEET = "/api/infrastructure"
VALID = json.dumps({"valid": True, "agent_id": "me"}).encode()
UNREACHABLE, BAD = (503, "key_server_unreachable"), (401, "bad_signature")


class Odd:
    """A server, and its key-server, which answers what a test says, or drips for a minute."""

    def __init__(self, fakes: FakeFleet, agent: Agent) -> None:
        self._agent = agent
        self.answer: bytes | None = http(VALID)
        self.drips = b""
        self.key_server = fakes.scripted(self._reply)
        self.port = 0

    async def _reply(self, writer: asyncio.StreamWriter) -> None:
        writer.write(self.answer if self.answer is not None else self.drips)
        await writer.drain()
        while self.answer is None:
            await asyncio.sleep(0.1)
            writer.write(b"a")
            await writer.drain()

    def get(self) -> Answer:
        """The answer to a request that `me` has signed."""
        return send(self.port, "GET", FLEET, self._agent.sign("GET", FLEET))

    def verdict(self) -> tuple[int, str | None]:
        found = self.get()
        return found.status, found.reason


@pytest.fixture(scope="module")
def odd(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Odd]:
    folder = tmp_path_factory.mktemp("odd")
    with FakeFleet() as fakes:
        odd = Odd(fakes, Agents(folder).add("me"))
        url = odd.key_server.url()
        settings = {"AUTH_MODE": "enforce", "KEY_SERVER_URL": url, "AUTH_VERIFY_TIMEOUT": "1"}
        with RunningServer(folder, **settings) as server:
            odd.port = int(server.settings["MACHINES_PORT"])
            yield odd


@pytest.mark.parametrize(
    ("answer", "verdict"),
    [
        (http(b""), UNREACHABLE),
        (http(b"yes"), UNREACHABLE),
        (http(b"\xff\xfe"), UNREACHABLE),
        (http(b"[true]"), UNREACHABLE),
        (http(b'{"valid": "true"}'), UNREACHABLE),
        (http(b'{"valid": 1}'), UNREACHABLE),
        (http(b"[" * 60_000), UNREACHABLE),
        (http(VALID + b" " * 2**17), UNREACHABLE),
        (http(b'{"valid": true, "agent_id": "another"}'), BAD),
        (http(b'{"valid": true, "agent_id": ""}'), BAD),
        (http(b'{"valid": false, "agent_id": "me"}'), BAD),
        (http(VALID, "401 Unauthorized"), BAD),
        (http(b'{"valid": false, "reason": "no reason of ours"}', "401 Unauthorized"), BAD),
        (http(b'{"valid": false, "reason": "nonce_replayed"}', "401 Unauthorized"), (401, "nonce_replayed")),
        (http(VALID, "400 Bad Request"), (401, "malformed")),
        (http(VALID, "201 Created"), UNREACHABLE),
        (http(VALID, "204 No Content"), UNREACHABLE),
        (http(VALID, "503 Service Unavailable"), UNREACHABLE),
        (b"HTTP/1.1 302 Found\r\nLocation: /api/verify\r\nContent-Length: 0\r\n\r\n", UNREACHABLE),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 500\r\n\r\n" + VALID, UNREACHABLE),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n" + VALID, UNREACHABLE),
        (
            b"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nConnection: close\r\n\r\n" + gzip.compress(VALID),
            UNREACHABLE,
        ),
        (b"\x00\x01\x02garbage", UNREACHABLE),
        (b"", UNREACHABLE),
    ],
)
def test_only_a_verdict_about_this_agent_lets_it_in(
    odd: Odd, answer: bytes, verdict: tuple[int, str]
) -> None:
    odd.answer = answer
    assert odd.verdict() == verdict
    odd.answer = http(VALID)
    assert odd.verdict() == (200, None)


@pytest.mark.parametrize("drips", [b"", b"HTTP/1.1 200 OK\r\nX: ", b"HTTP/1.1 200 OK\r\n\r\n"])
def test_a_key_server_that_drips_holds_no_thread_for_longer_than_its_deadline(odd: Odd, drips: bytes) -> None:
    odd.answer, odd.drips = None, drips
    try:
        with ThreadPoolExecutor(4 * KEY_SERVER_THREADS) as pool:
            asked = [pool.submit(odd.verdict) for _ in range(4 * KEY_SERVER_THREADS)]
            assert send(odd.port, "GET", "/health").status == 200
            assert {one.result() for one in asked} == {UNREACHABLE}
    finally:
        odd.answer = http(VALID)
    wait_until(lambda: odd.verdict() == (200, None))
