"""How `machines-server mcp` ends: with its input, by Ctrl-C, or when nobody reads its answers."""

import json
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import IO

import pytest

from tests.ports import free_port
from tests.running import RunningServer, clean_environment

Process = subprocess.Popen[bytes]
CALL = {"jsonrpc": "2.0", "id": 2, "method": "tools/call", "params": {"name": "list_machines"}}
HELLO = {
    "jsonrpc": "2.0",
    "id": 1,
    "method": "initialize",
    "params": {
        "protocolVersion": "2025-06-18",
        "capabilities": {},
        "clientInfo": {"name": "test", "version": "1"},
    },
}


def started(output: int | IO[bytes] = subprocess.PIPE, server: str = "127.0.0.1:3038") -> Process:
    """The command, with an agent's first message sent."""
    process = subprocess.Popen(
        [sys.executable, "-m", "machines_server", "mcp", "--server", server],
        env=clean_environment(),
        stdin=subprocess.PIPE,
        stdout=output,
        stderr=subprocess.PIPE,
    )
    send(process, HELLO)
    return process


def send(process: Process, message: object) -> None:
    assert process.stdin is not None
    process.stdin.write(json.dumps(message).encode() + b"\n")
    process.stdin.flush()


def answer(process: Process) -> bytes:
    assert process.stdout is not None
    return process.stdout.readline()


def interrupt(process: Process) -> None:
    process.send_signal(signal.SIGINT)


def end_input(process: Process) -> None:
    assert process.stdin is not None
    process.stdin.close()


def read_no_more(process: Process) -> None:
    assert process.stdout is not None
    process.stdout.close()
    send(process, CALL | {"method": "ping"})


@pytest.mark.parametrize(("end", "status"), [(end_input, 0), (interrupt, -signal.SIGINT), (read_no_more, 1)])
def test_it_ends_at_once_and_quietly(end: Callable[[Process], None], status: int) -> None:
    with started() as process:
        assert b'"serverInfo"' in answer(process)
        end(process)
        assert process.wait(60) == status
        assert process.stderr is not None
        assert process.stderr.read() == b""


def test_answers_that_cannot_be_written_end_it_with_the_reason() -> None:
    with Path("/dev/full").open("wb", buffering=0) as full, started(full) as process:
        assert process.wait(60) == 1
        assert process.stderr is not None
        assert (
            process.stderr.read()
            == b"machines-server: The answer cannot be written: No space left on device.\n"
        )


def test_a_server_that_is_down_is_an_error_of_the_tool() -> None:
    address = f"127.0.0.1:{free_port()}"
    with started(server=address) as process:
        answer(process)
        send(process, {"jsonrpc": "2.0", "method": "notifications/initialized"})
        send(process, CALL)
        result = json.loads(answer(process))["result"]
        assert result["isError"]
        assert address in result["content"][0]["text"]
        assert "Traceback" not in result["content"][0]["text"]
        end_input(process)
        assert process.wait(60) == 0


def test_requests_that_came_before_the_end_of_the_input_are_answered(open_server: RunningServer) -> None:
    greeted = {"jsonrpc": "2.0", "method": "notifications/initialized"}
    cancelled = {"jsonrpc": "2.0", "method": "notifications/cancelled", "params": {"requestId": 9}}
    calls = [CALL | {"id": number} for number in range(2, 8)]
    with started(server=open_server.url) as process:
        for message in (greeted, *calls, CALL | {"id": 9}, cancelled):
            send(process, message)
        end_input(process)
        assert process.stdout is not None
        answers = [json.loads(line) for line in process.stdout]
        assert process.wait(60) == 0
    assert {one["id"] for one in answers} - {9} == set(range(1, 8))
    assert all(
        "machines" in one["result"]["structuredContent"] for one in answers if one["id"] in range(2, 8)
    )
