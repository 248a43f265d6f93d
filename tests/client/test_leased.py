"""What can take a lease for each of its calls, and what cannot; and `with` where `async with` is meant."""

import asyncio
import functools
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from typing import Any, cast

import pytest

from machines_client import AsyncClient, AsyncLease, Client, ClientError, Lease
from tests.client.scripted_server import LEASE, Say, ScriptedServer
from tests.client.two import LLAMA, Two

CLIENT = Client("127.0.0.1:1")


def sync(lease: Lease) -> str:
    return lease.name


async def coroutine(lease: Lease) -> str:
    return lease.name


def generator(lease: Lease) -> Iterator[str]:
    yield lease.name


async def asynchronous_generator(lease: Lease) -> AsyncIterator[str]:
    yield lease.name


class Job:
    async def __call__(self, lease: Lease) -> str:
        return lease.name


@pytest.mark.parametrize(
    ("function", "said"),
    [
        (coroutine, r"coroutine is a coroutine function: use AsyncClient\(\)\.leased"),
        (functools.partial(coroutine), "use AsyncClient"),
        (Job(), "use AsyncClient"),
        (generator, r"generator is a generator: use `with client\.lease"),
        (asynchronous_generator, r"asynchronous_generator is an asynchronous generator: use `async with"),
        (None, "leased decorates a function, not None"),
    ],
)
def test_what_goes_on_after_its_call_is_refused(function: Any, said: str) -> None:
    with pytest.raises(TypeError, match=said):
        CLIENT.leased(LLAMA)(function)


@pytest.mark.parametrize(
    ("function", "said"),
    [
        (sync, r"sync is not a coroutine function: use Client\(\)\.leased"),
        (functools.partial(sync), r"use Client\(\)\.leased"),
        (generator, r"generator is a generator: use `with client\.lease"),
        (asynchronous_generator, r"asynchronous_generator is an asynchronous generator: use `async with"),
        ("x", "leased decorates a function, not 'x'"),
    ],
)
def test_the_other_client_takes_coroutine_functions_alone(function: Any, said: str) -> None:
    with pytest.raises(TypeError, match=said):
        AsyncClient("127.0.0.1:1").leased(LLAMA)(function)


@pytest.mark.parametrize("kind", [Client, AsyncClient])
def test_wrong_arguments_are_found_when_a_function_is_decorated(kind: type[Any]) -> None:
    client = kind("127.0.0.1:1")
    with pytest.raises(TypeError, match="leased takes the name of a model"):
        client.leased(sync)
    with pytest.raises(TypeError, match="did you mean tag"):
        client.leased(LLAMA, tags=["gpu"])
    with pytest.raises(TypeError, match="on_lost must be a function"):
        client.leased(LLAMA, on_lost="x")


def traced(function: Callable[..., Awaitable[str]]) -> Callable[..., Awaitable[str]]:
    @functools.wraps(function)
    def call(*args: Any) -> Awaitable[str]:
        return function(*args)

    return call


def test_a_coroutine_function_may_have_other_decorators(two: Two) -> None:
    async def main() -> None:
        async with AsyncClient(two.server.url) as client:

            @client.leased(LLAMA)
            @traced
            async def where(lease: AsyncLease) -> str:
                return lease.name

            assert await where() == "more"

    asyncio.run(main())


def test_with_says_that_async_with_is_meant(scripted: ScriptedServer) -> None:
    scripted.replies = [Say(LEASE, 201)]

    async def main() -> None:
        async with AsyncClient(scripted.url) as client:
            lease = await client.lease("m", connect_timeout_s=None)
            for one in (client, client.lease("m"), lease):
                with pytest.raises(TypeError, match="use `async with`"), cast(Any, one):
                    pass
            await lease.release()

    asyncio.run(main())


def test_a_client_that_was_closed_says_so(scripted: ScriptedServer) -> None:
    scripted.replies = [Say(LEASE, 201)]

    async def main() -> None:
        async with AsyncClient(scripted.url) as client:
            lease = await client.lease("m", connect_timeout_s=None)
        for ask in (client.machines(), client.lease("m"), lease.check(ask=True)):
            with pytest.raises(ClientError, match="this AsyncClient is closed"):
                await ask
        await lease.release()

    asyncio.run(main())
    assert len(scripted.asked) == 1


def test_a_client_of_another_event_loop_says_so(scripted: ScriptedServer) -> None:
    client = AsyncClient(scripted.url)
    asyncio.run(cast(Any, client.ask("/")))
    with pytest.raises(ClientError, match="belongs to another event loop"):
        asyncio.run(cast(Any, client.ask("/")))
