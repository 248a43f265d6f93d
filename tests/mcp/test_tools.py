"""Every tool through every door, in both generations of the protocol, signed and not."""

import asyncio
import json
from typing import Any

import pytest
from mcp import Client, types

from machines_server.mcp.tools import TOOLS
from tests.mcp.agents import DOORS, ERAS, Entrance, text_of
from tests.mcp.conftest import MODEL, OTHER
from tests.running import RunningServer


async def through_all_tools(client: Client) -> set[str]:
    """Use every tool, whose results the client compares with their schemas; return what was used."""
    used = set[str]()

    async def call(name: str, /, **arguments: Any) -> Any:
        used.add(name)
        result = await client.call_tool(name, arguments)
        assert not result.is_error, text_of(result)
        assert json.loads(text_of(result)) == result.structured_content
        return result.structured_content

    tools = {tool.name: tool for tool in (await client.list_tools()).tools}
    assert tools.keys() == TOOLS.keys()
    short = await call("list_machines")
    assert [one["name"] for one in short["machines"]] == ["bare", "big", "small"]
    assert short["machines"][1]["loaded_models"] == [MODEL]
    first = await call("list_machines", limit=1)
    assert (first["more"], first["total"]) == ({"machines": 2}, 3)
    assert "offset=1" in first["note"]
    second = await call("list_machines", limit=1, offset=1)
    assert [one["name"] for one in second["machines"]] == ["big"]
    assert (await call("get_infrastructure", limit=1))["machines"][0]["status"] == "online"
    assert (await call("get_machine", name="BIG"))["name"] == "big"
    assert (await call("pick_machine", model=MODEL, min_free_vram_gb=1))["machine"] == "big"
    lease = await call("lease_machine", model=MODEL, ttl_s=30, holder="test")
    assert (await call("renew_lease", lease=lease["lease"], ttl_s=20))["ttl_s"] == 20
    assert (await call("release_lease", lease=lease["lease"]))["machine"] == "big"
    history = await call("machine_history", name="big", metric=["up", "cpu_percent"])
    assert (history["step_s"], len(history["series"])) == (3600, 2)
    assert (await call("recent_events", limit=2, machine="big"))["truncated"]
    models = await call("list_models", limit=1)
    assert (len(models["models"]), models["more"]) == (1, {"models": 1})
    assert "hostname" in await call("get_system_resources")
    return used


@pytest.mark.parametrize("era", ERAS)
@pytest.mark.parametrize("door", DOORS)
def test_every_tool_works(open_server: RunningServer, door: str, era: str) -> None:
    assert Entrance(open_server.url, door, era).run(through_all_tools) == TOOLS.keys()


@pytest.mark.parametrize("era", ERAS)
@pytest.mark.parametrize("door", DOORS)
def test_every_tool_works_for_who_signs(signed: dict[str, Entrance], door: str, era: str) -> None:
    assert signed["writer"]._replace(door=door, era=era).run(through_all_tools) == TOOLS.keys()


@pytest.mark.parametrize("door", DOORS)
def test_leases_follow_the_rules_of_the_api(signed: dict[str, Entrance], door: str) -> None:
    async def code(client: Client, name: str, /, **arguments: Any) -> str:
        result = await client.call_tool(name, arguments)
        return str(json.loads(text_of(result)).get("error", ""))

    async def use() -> None:
        reader, writer, other = (
            signed[name]._replace(door=door).client() for name in ("reader", "writer", "other")
        )
        async with reader as reading, writer as writing, other as others:
            assert await code(reading, "lease_machine", model=MODEL) == "forbidden"
            assert await code(reading, "pick_machine", model=MODEL) == ""
            granted = await writing.call_tool("lease_machine", {"model": MODEL})
            lease = granted.structured_content["lease"]
            assert await code(others, "renew_lease", lease=lease) == "forbidden"
            assert await code(others, "release_lease", lease=lease) == "forbidden"
            assert await code(writing, "release_lease", lease=lease) == ""

    asyncio.run(use())


def test_who_does_not_sign_gets_nothing(signed: dict[str, Entrance]) -> None:
    with pytest.raises(BaseExceptionGroup):
        signed[""].call("list_machines")
    result = signed[""]._replace(door="stdio").call("list_machines")
    assert json.loads(text_of(result))["error"] == "unauthorized"


MISTAKES: list[tuple[str, dict[str, Any], str]] = [
    ("pick_machine", {"modle": MODEL}, "Did you mean model"),
    ("pick_machine", {"model": "no such"}, "is not the name of a model"),
    ("pick_machine", {"model": "llama3.1:70x"}, MODEL),
    ("pick_machine", {"min_free_vram_gb": "much"}, "min_free_vram_gb"),
    ("pick_machine", {"tag": {"a": 1}}, "The parameter tag"),
    ("pick_machine", {"limit": 0}, "use a whole number from 1 to 1000"),
    ("lease_machine", {}, "The parameter model is missing"),
    ("lease_machine", {"model": MODEL, "ttl_s": 1e9}, "ttl_s"),
    ("get_machine", {}, "The parameter name is missing"),
    ("get_machine", {"name": "bog"}, "Did you mean big?"),
    ("get_machine", {"name": "../leases"}, "a name has no slash"),
    ("get_machine", {"name": "big/file"}, "a name has no slash"),
    ("get_machine", {"name": ".."}, "not just dots"),
    ("release_lease", {"lease": "x/renew"}, "a name has no slash"),
    ("lease_machine", {"model": MODEL, "ttl_s": 2**63}, "The parameter ttl_s is too large"),
    ("lease_machine", {"model": MODEL, "ttl_s": -(10**4000)}, "The parameter ttl_s is too large"),
    ("lease_machine", {"model": MODEL, "tag": ["a", 10**30]}, "The parameter tag is too large"),
    ("get_machine", {"name": 3}, "is not a string"),
    ("machine_history", {"name": "big", "metric": "cpu"}, "use one or more of"),
    ("release_lease", {"lease": "none"}, "There is no lease"),
    ("pick_machines", {}, "Did you mean pick_machine"),
]
"""What is wrong, and what the answer says."""


@pytest.mark.parametrize("door", DOORS)
def test_a_wrong_argument_gets_a_useful_error(open_server: RunningServer, door: str) -> None:
    async def use(client: Client) -> None:
        for name, arguments, said in MISTAKES:
            result = await client.call_tool(name, arguments)
            assert result.is_error, (name, arguments)
            assert said in text_of(result)
            assert "Traceback" not in text_of(result)

    Entrance(open_server.url, door).run(use)
    assert "Traceback" not in open_server.log.read_text()


@pytest.mark.parametrize("door", DOORS)
def test_machine_files_are_resources_and_there_is_a_prompt(open_server: RunningServer, door: str) -> None:
    async def use(client: Client) -> None:
        resources = (await client.list_resources()).resources
        assert [str(one.uri) for one in resources] == ["machine://bare", "machine://big", "machine://small"]
        (found,) = (await client.read_resource("machine://big")).contents
        assert isinstance(found, types.TextResourceContents)
        assert found.text.startswith("name: big\n")
        with pytest.raises(Exception, match="There is no machine named 'bog'"):
            await client.read_resource("machine://bog")
        for uri in ("machine://big%2Fhistory", "machine://%2E%2E", "file:///etc/passwd"):
            with pytest.raises(Exception, match="There is no resource"):
                await client.read_resource(uri)
        (prompt,) = (await client.list_prompts()).prompts
        arguments = {"job": "Summarise a book", "model": MODEL}
        (message,) = (await client.get_prompt(prompt.name, arguments)).messages
        assert isinstance(message.content, types.TextContent)
        assert "Summarise a book" in message.content.text
        with pytest.raises(Exception, match="job is missing"):
            await client.get_prompt(prompt.name, {})

    Entrance(open_server.url, door).run(use)


def test_a_request_may_wait_for_a_machine(open_server: RunningServer) -> None:
    lease = Entrance(open_server.url).call("lease_machine", model=OTHER, exclusive=True).structured_content

    async def use(client: Client) -> types.CallToolResult:
        waiting = asyncio.create_task(
            client.call_tool("pick_machine", {"model": OTHER, "exclusive": True, "wait_s": 30})
        )
        await client.call_tool("list_machines", {})
        assert not waiting.done()
        await client.call_tool("release_lease", {"lease": lease["lease"]})
        return await waiting

    assert not Entrance(open_server.url).run(use).is_error
