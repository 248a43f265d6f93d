"""The asynchronous client, against a real server: the same as the other, in an event loop."""

import asyncio
import subprocess
import sys
import warnings
from collections.abc import AsyncIterator, Coroutine
from contextlib import asynccontextmanager
from typing import Any

import pytest

from machines_client import AsyncClient, AsyncLease, ClientError, LeaseLost, NoMachine, ServerUnreachable
from tests.client.scripted_server import CANDIDATE, LEASE, ROUTE, Say, ScriptedServer, no_machine
from tests.client.two import LLAMA, Two
from tests.fakes import FakeFleet
from tests.ports import free_port
from tests.running import clean_environment


def run(coroutine: Coroutine[Any, Any, None]) -> None:
    asyncio.run(coroutine)


@asynccontextmanager
async def client_of(url: str, **options: Any) -> AsyncIterator[AsyncClient]:
    async with AsyncClient(url, **options) as client:
        yield client


def test_it_picks_and_reads(two: Two) -> None:
    async def main() -> None:
        async with client_of(two.server.url) as client:
            pick = await client.pick(LLAMA, min_free_vram_gb=15, explain=True)
            assert (pick.name, [one.name for one in pick.rejected]) == ("more", ["less"])
            assert [one.name for one in (await client.machines()).machines] == ["less", "more"]
            assert (await client.health()).status == "ok"
            assert "name: more" in await client.file("more")
            with pytest.raises(NoMachine, match="has 20"):
                await client.pick(LLAMA, min_free_vram_gb=25)
            with pytest.raises(TypeError, match="did you mean tag"):
                await client.pick(LLAMA, tags=["a"])  # type: ignore[call-arg]  # that is the point
            found = [event.machine async for event in client.every_event(type="online", limit=1)]
            assert set(found) <= {"less", "more"}

    run(main())


def test_it_leases_renews_and_releases(two: Two) -> None:
    async def main() -> None:
        async with client_of(two.server.url) as client:
            async with client.lease(LLAMA, ttl_s=1) as lease:
                before = lease.expires_at
                async with asyncio.timeout(30):
                    while lease.expires_at == before:
                        await asyncio.sleep(0.05)
                await lease.check(ask=True)
                assert (await client.leases()).leases[0].lease == lease.id
            assert (await client.leases()).total == 0
            lease = await client.lease(LLAMA)
            await lease.release()
            await lease.release()
            assert (await client.leases()).total == 0

    run(main())


def test_a_lost_lease_is_told_and_raised(two: Two) -> None:
    told: list[LeaseLost] = []

    async def tell(lost: LeaseLost) -> None:
        await asyncio.sleep(0)
        told.append(lost)

    async def main() -> None:
        async with client_of(two.server.url) as client:
            lease = await client.lease(LLAMA, ttl_s=600, on_lost=tell)
            await client.release(lease.id)
            with pytest.raises(LeaseLost, match="expired or was released"):
                await lease.check(ask=True)
            with pytest.raises(LeaseLost):
                await lease.__aexit__(None, None, None)
            assert told == [lease.lost]
            async with client.lease(LLAMA, ttl_s=1, on_lost=tell, raise_if_lost=False) as lease:
                await client.release(lease.id)
                async with asyncio.timeout(30):
                    while len(told) < 2:
                        await asyncio.sleep(0.05)

    run(main())


def test_a_lease_that_is_dropped_is_not_renewed_any_more(scripted: ScriptedServer) -> None:
    scripted.replies = [Say({**LEASE, "ttl_s": 3}, 201), Say(LEASE)]

    async def main() -> None:
        async with client_of(scripted.url) as client:
            held = [await client.lease("m", connect_timeout_s=None)]
            with warnings.catch_warnings(record=True) as caught:
                warnings.simplefilter("always")
                held.clear()
                async with asyncio.timeout(30):
                    while not caught or "lease abc" in [task.get_name() for task in asyncio.all_tasks()]:
                        await asyncio.sleep(0.02)
            (warned,) = caught
            assert issubclass(warned.category, ResourceWarning)

    run(main())
    assert {asked.method for asked in scripted.asked} == {"POST"}


def test_a_lease_is_released_by_itself_and_then_does_not_hold(two: Two) -> None:
    async def main() -> None:
        async with client_of(two.server.url) as client:
            async with client.lease(LLAMA) as lease:
                assert (await client.held_lease(lease)).lease == lease.id
                await client.release(lease)
                with pytest.raises(LeaseLost, match="was released here"):
                    await lease.check(ask=True)
            assert (lease.lost, (await client.leases()).total) == (None, 0)

    run(main())


def test_a_callback_may_release_the_lease(two: Two) -> None:
    async def main() -> None:
        async with client_of(two.server.url) as client:
            ended = asyncio.Event()

            async def give_up(_: LeaseLost) -> None:
                await lease.release()
                ended.set()

            lease = await client.lease(LLAMA, ttl_s=1, on_lost=give_up)
            await client.release(lease.id)
            async with asyncio.timeout(30):
                await ended.wait()
            await lease.release()

    run(main())


def test_a_coroutine_function_takes_a_lease_for_each_call(two: Two) -> None:
    async def main() -> None:
        async with client_of(two.server.url) as client:

            @client.leased(LLAMA)
            async def where(lease: AsyncLease, text: str) -> str:
                assert (await client.leases()).leases[0].lease == lease.id
                return text

            assert await where("a") == "a"
            assert (await client.leases()).total == 0

    run(main())


def test_a_machine_that_cannot_be_connected_to_is_passed_over(scripted: ScriptedServer) -> None:
    async def main() -> None:
        async with client_of(scripted.url) as client:
            dead = {**CANDIDATE, "port": free_port()}
            alive = {**dead, "name": "alive", "port": int(scripted.url.rpartition(":")[2])}
            scripted.replies = [Say({**ROUTE, "candidates": [dead, alive]})]
            pick = await client.pick("m")
            assert (pick.name, pick.rejected[0].code) == ("alive", "connection_failed")

    run(main())


def test_it_retries_and_waits_as_the_other(scripted: ScriptedServer) -> None:
    async def main() -> None:
        async with client_of(scripted.url, timeout_s=0.5) as client:
            scripted.replies = [Say(status=None), no_machine(0.1), Say(ROUTE, after_s=1)]
            assert (await client.route("m", wait_s=20)).name == "box"
            assert len(scripted.asked) == 3
            scripted.replies = [Say(status=None), Say(LEASE, 201)]
            assert (await client.reserve("m")).lease == "abc"
            scripted.replies = [Say(after_s=5)]
            with pytest.raises(ServerUnreachable, match="no complete answer"):
                await client.health()

    run(main())


def test_an_answer_beyond_the_limit_is_not_read_to_its_end(fakes: FakeFleet) -> None:
    async def endless(writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
        while True:
            writer.write(b"100000\r\n" + b" " * 2**20 + b"\r\n")
            await writer.drain()

    async def main() -> None:
        async with client_of(fakes.scripted(endless).url("")) as client:
            with pytest.raises(ClientError, match="more than 64 MiB"):
                await client.machines()

    run(main())


def test_a_server_that_is_not_there_is_unreachable(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("http_proxy", f"http://127.0.0.1:{free_port()}")

    async def main() -> None:
        async with client_of(f"127.0.0.1:{free_port()}", retries=0) as client:
            with pytest.raises(ServerUnreachable, match="connection refused"):
                await client.machines()

    run(main())


WITHOUT_HTTPX = """
import sys
sys.modules["httpx"] = None
from machines_client import *
from machines_server.client import Client
print(Client("127.0.0.1:1").url)
from machines_client import AsyncClient
"""


def test_only_this_client_needs_httpx() -> None:
    done = subprocess.run(
        [sys.executable, "-c", WITHOUT_HTTPX],
        env=clean_environment(),
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )
    assert (done.stdout, done.returncode) == ("http://127.0.0.1:1\n", 1)
    assert "AsyncClient needs httpx: pip install httpx, or from a checkout" in done.stderr
    assert "pip install './machines_client[async]'" in done.stderr
