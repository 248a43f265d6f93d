"""Questions that wait for a machine, against a real server."""

import asyncio
import threading

import pytest

from machines_client import AsyncClient, Lease, NoMachine
from tests.client.two import LLAMA, Two


def test_a_lease_that_waits_gets_the_machine_when_another_is_released(two: Two) -> None:
    held, granted = two.client.lease(LLAMA, min_free_vram_gb=20), list[Lease]()
    with pytest.raises(NoMachine):
        two.client.lease(LLAMA, min_free_vram_gb=20)

    def wait() -> None:
        granted.append(two.client.lease(LLAMA, min_free_vram_gb=20, wait_s=50))

    waiting = threading.Thread(target=wait)
    waiting.start()
    waiting.join(0.3)
    assert not granted
    held.release()
    waiting.join(30)
    assert [one.name for one in granted] == ["more"]
    granted[0].release()


def test_an_asynchronous_pick_waits_as_well(two: Two) -> None:
    async def main() -> None:
        async with AsyncClient(two.server.url) as client:
            held = await client.lease(LLAMA, min_free_vram_gb=20)
            picking = asyncio.create_task(client.pick(LLAMA, min_free_vram_gb=20, wait_s=50))
            done, _ = await asyncio.wait([picking], timeout=0.3)
            assert not done
            await held.release()
            assert (await picking).name == "more"

    asyncio.run(main())


def test_a_wait_for_a_model_that_nobody_has_ends_at_once(two: Two) -> None:
    with pytest.raises(NoMachine) as caught:
        two.client.pick("llama3.1", wait_s=600)
    assert caught.value.did_you_mean == (LLAMA,)
