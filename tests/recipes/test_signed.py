"""The recipe that signs with only openssl and curl, with a key made as the docs say."""

import json
import os
import re
import subprocess
from pathlib import Path
from typing import Any

from tests.running import RunningServer
from tests.tools import tool

DOCS = Path(__file__).parents[2] / "docs"
RECIPE = DOCS / "recipes" / "signed.sh"


def test_openssl_and_curl_alone_can_sign(tmp_path: Path) -> None:
    (block,) = re.findall("```sh\n(openssl genpkey.*?)```", (DOCS / "signatures.md").read_text(), re.DOTALL)
    keys = tmp_path / "keys"
    keys.mkdir()
    subprocess.run([tool("bash"), "-ec", block], cwd=tmp_path, check=True, capture_output=True)
    (tmp_path / "agent.pub").rename(keys / "agent.pub")
    environment = os.environ | {"AGENT": "agent", "KEY": str(tmp_path / "agent.pem")}

    def ask(*words: str) -> Any:
        done = subprocess.run(
            ["sh", RECIPE, *words], env=environment, capture_output=True, text=True, check=True
        )
        return json.loads(done.stdout)

    with RunningServer(tmp_path, AUTH_MODE="enforce", AUTH_KEYS_DIR=str(keys)) as server:
        assert ask("GET", f"{server.url}/api/events?limit=1")["events"] == []
        assert ask("POST", f"{server.url}/api/leases", '{"model": "nowhere"}')["error"] == "no_machine"
        environment["AGENT"] = "nobody"
        assert ask("GET", f"{server.url}/api/events")["reason"] == "unknown_agent"


def test_the_recipe_is_short() -> None:
    assert RECIPE.name == "signed.sh"
    assert len(RECIPE.read_text().splitlines()) <= 25
