"""What docs/mcp.md shows works."""

import json
import re
import shlex
import subprocess
import sys

from machines_server.mcp.tools import TOOLS
from tests.readme import page
from tests.running import RunningServer, clean_environment
from tests.tools import tool

PAGE = page("mcp.md")
SHOWN = "http://127.0.0.1:3038"


def blocks(language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", PAGE, re.DOTALL)


def test_every_tool_stands_in_the_page() -> None:
    assert set(re.findall("`([a-z_]+)`", PAGE.partition("\nArguments")[0])) == TOOLS.keys() | {"mcp"}


def test_the_program_prints_a_url(open_server: RunningServer) -> None:
    (text,) = blocks("python")
    program = text.replace(SHOWN, open_server.url)
    done = subprocess.run(
        [sys.executable, "-c", program],
        env=clean_environment(PYTHONWARNINGS="default"),
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    assert done.stdout.startswith("http://127.0.0.1:")


def test_the_commands_print_what_is_shown(open_server: RunningServer) -> None:
    tool("curl"), tool("jq")
    (text,) = blocks("console")
    for asked, shown in re.findall(r"^\$ (.*)\n(.*)$", text, re.MULTILINE):
        command = asked.replace(SHOWN, open_server.url)
        done = subprocess.run(["sh", "-c", command], capture_output=True, text=True, timeout=60, check=True)
        assert done.stdout.strip() == shown


def test_the_configuration_names_a_command_that_exists() -> None:
    (text,) = blocks("json")
    server = json.loads(text)["mcpServers"]["machines"]
    words = [sys.executable, "-m", "machines_server", *server["args"][:1], "--help"]
    assert server["command"] == "machines-server"
    done = subprocess.run(words, capture_output=True, text=True, timeout=60, check=True)
    assert "--server" in done.stdout, shlex.join(words)
