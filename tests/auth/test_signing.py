"""The client and the command line sign when they have a key."""

import asyncio
import json
import os
import stat
import subprocess
from pathlib import Path

import pytest

from machines_client import AsyncClient, Client, ClientError, NoMachine, PassphraseNeeded, Unauthorized
from tests.auth.agents import Agents, send
from tests.auth.enforcing import Enforcing
from tests.running import RunningServer, command, wait_for_status
from tests.sidecar.running import Sidecar
from tests.terminal import PROGRAM, Terminal
from tests.tools import tool

PASSPHRASE = "open sesame"  # noqa: S105  of keys that these tests make


def environment(enforcing: Enforcing) -> dict[str, str]:
    return {
        "MACHINES_URL": enforcing.server.url,
        "MACHINES_AGENT_ID": "me",
        "MACHINES_PRIVATE_KEY": str(enforcing.agent.private_key),
    }


def test_the_client_signs_what_it_sends(enforcing: Enforcing) -> None:
    key = enforcing.agent.private_key
    client = Client(enforcing.server.url, agent="me", private_key=key)
    assert client.machine("secret-machine").name == "secret-machine"
    assert client.events(limit=1, machine="secret-machine").events
    assert client.ask("/api/machines/secret%2Dmachine?a=%7E b", {"x": "\u00fc&="})["name"] == "secret-machine"
    with pytest.raises(NoMachine):
        client.lease("nowhere", wait_s=0.1)
    with pytest.raises(Unauthorized, match="answers signed requests only") as caught:
        Client(enforcing.server.url).infrastructure()
    assert caught.value.reason == "missing_headers"


def test_the_asynchronous_client_signs_as_well(enforcing: Enforcing) -> None:
    async def main() -> None:
        key = str(enforcing.agent.private_key)
        async with AsyncClient(enforcing.server.url, agent="me", private_key=key) as client:
            assert (await client.machine("secret-machine")).name == "secret-machine"
            answer = await client.ask("/api/machines/secret%2Dmachine?a=%7E b", {"x": "\u00fc&="})
            assert answer["name"] == "secret-machine"
            with pytest.raises(NoMachine):
                await client.lease("nowhere", wait_s=0.1)

    asyncio.run(main())


def test_the_environment_says_who_signs(enforcing: Enforcing, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in environment(enforcing).items():
        monkeypatch.setenv(name, value)
    assert Client().infrastructure().machines
    monkeypatch.delenv("MACHINES_PRIVATE_KEY")
    with pytest.raises(ValueError, match="MACHINES_AGENT_ID and MACHINES_PRIVATE_KEY"):
        Client()


def test_a_key_that_cannot_be_used_says_why(tmp_path: Path) -> None:
    def error(path: Path) -> str:
        with pytest.raises(ClientError) as caught:
            Client("127.0.0.1:1", agent="me", private_key=path)
        return str(caught.value)

    assert error(tmp_path / "missing").endswith("cannot be read: No such file or directory.")
    key = tmp_path / "key"
    key.write_text("secret words")
    key.chmod(0o644)
    assert error(key) == f"Others may read the private key {key}: run chmod 600 {key}."
    key.chmod(0o600)
    assert error(key) == f"{key} is not an OpenSSH private key, as ssh-keygen writes it."
    key.unlink()
    subprocess.run([tool("ssh-keygen"), "-q", "-t", "ecdsa", "-N", "", "-f", key], check=True)
    assert error(key) == f"{key} is not an ed25519 key; make one with `machines-server keygen`."


def test_a_key_of_ssh_keygen_signs_also_behind_a_passphrase(enforcing: Enforcing, tmp_path: Path) -> None:
    key = tmp_path / "key"
    subprocess.run([tool("ssh-keygen"), "-q", "-t", "ed25519", "-N", PASSPHRASE, "-f", key], check=True)
    (enforcing.agents.public / "ssh.pub").write_bytes((tmp_path / "key.pub").read_bytes())
    client = Client(enforcing.server.url, agent="ssh", private_key=key, passphrase=PASSPHRASE)
    assert client.infrastructure().machines
    with pytest.raises(PassphraseNeeded, match="MACHINES_KEY_PASSPHRASE"):
        Client(enforcing.server.url, agent="ssh", private_key=key)
    with pytest.raises(ClientError, match="or the passphrase is wrong"):
        Client(enforcing.server.url, agent="ssh", private_key=key, passphrase=PASSPHRASE[1:])
    variables = environment(enforcing) | {"MACHINES_AGENT_ID": "ssh", "MACHINES_PRIVATE_KEY": str(key)}
    done = command("list", **variables)
    assert (done.returncode, done.stdout) == (1, "")
    assert "needs its passphrase" in done.stderr
    with Terminal([PROGRAM, "list"], variables) as terminal:
        terminal.wait_for("Passphrase of the private key: ")
        terminal.type(f"{PASSPHRASE}\n")
        done_at_terminal = terminal.end()
    assert done_at_terminal.returncode == 0
    assert "secret-machine" in done_at_terminal.text
    assert PASSPHRASE not in done_at_terminal.text


@pytest.mark.parametrize(
    "words",
    [
        ["list"],
        ["ps"],
        ["models"],
        ["leases"],
        ["events"],
        ["show", "secret-machine"],
        ["history", "secret-machine"],
        ["doctor", "--server", ""],
    ],
)
def test_every_command_signs(enforcing: Enforcing, words: list[str]) -> None:
    words = [word or enforcing.server.url for word in words]
    variables = environment(enforcing)
    assert command(*words, **variables).returncode == 0
    del variables["MACHINES_AGENT_ID"], variables["MACHINES_PRIVATE_KEY"]
    done = command(*words, **variables)
    assert done.returncode == 1
    assert "signed requests only" in done.stdout + done.stderr


def test_sign_prints_headers_for_curl(enforcing: Enforcing, tmp_path: Path) -> None:
    def curl(headers: str, path: str, *words: str) -> int:
        url = f"{enforcing.server.url}{path}"
        options = ["--silent", "--output", os.devnull, "--write-out", "%{http_code}", "--header", "@-"]
        done = subprocess.run(
            ["curl", *options, *words, url], input=headers, capture_output=True, text=True, check=True
        )
        return int(done.stdout)

    variables = environment(enforcing)
    signed = command("sign", "GET", "/api/events?limit=1", **variables)
    assert signed.returncode == 0
    assert curl(signed.stdout, "/api/events?limit=1") == 200
    assert curl(signed.stdout, "/api/events?limit=1") == 401
    body = tmp_path / "body.json"
    body.write_text('{"model": "nowhere"}')
    for given in (f"@{body}", body.read_text()):
        headers = command("sign", "post", "/api/leases", given, **variables).stdout
        assert curl(headers, "/api/leases", "--json", body.read_text()) == 503
    headers = command("sign", "GET", "/api/events?limit=1", "--signature-version", "1", **variables).stdout
    assert curl(headers, "/api/events?limit=2") == 200
    assert command("sign", "GET", "/api/events", MACHINES_URL=enforcing.server.url).returncode == 2
    assert command("sign", "GET", "api/events", **variables).returncode == 2


def test_keygen_makes_a_pair_that_signs(enforcing: Enforcing, tmp_path: Path) -> None:
    folder = str(tmp_path)
    done = command("keygen", "new", "--folder", folder)
    assert done.returncode == 0
    private, public = tmp_path / "new", tmp_path / "new.pub"
    assert stat.S_IMODE(private.stat().st_mode) == 0o600
    shown = subprocess.run(
        [tool("ssh-keygen"), "-lf", public], capture_output=True, text=True, check=True
    ).stdout
    assert shown.rstrip().endswith("new (ED25519)")
    (enforcing.agents.public / "new.pub").write_bytes(public.read_bytes())
    client = Client(enforcing.server.url, agent="new", private_key=private)
    assert client.infrastructure().machines
    before = private.read_bytes()
    again = command("keygen", "new", "--folder", folder)
    assert (again.returncode, again.stderr) == (1, f"machines-server: {private} exists already\n")
    assert private.read_bytes() == before
    for name in ("../new", "", "a b", "-x", ".hidden"):
        assert command("keygen", "--folder", folder, "--", name).returncode == 2
    assert {one.name for one in tmp_path.iterdir()} == {"new", "new.pub"}


def test_a_passphrase_is_asked_for_twice(enforcing: Enforcing, tmp_path: Path) -> None:
    with Terminal([PROGRAM, "keygen", "new", "--folder", str(tmp_path), "--passphrase"], {}) as terminal:
        terminal.wait_for("Passphrase: ")
        terminal.type(f"{PASSPHRASE}\n")
        terminal.wait_for("Repeat for confirmation: ")
        terminal.type(f"{PASSPHRASE}\n")
        assert terminal.end().returncode == 0
    (enforcing.agents.public / "new.pub").write_bytes((tmp_path / "new.pub").read_bytes())
    private = tmp_path / "new"
    client = Client(enforcing.server.url, agent="new", private_key=private, passphrase=PASSPHRASE)
    assert client.infrastructure().machines


def test_a_refusal_is_one_line_for_a_person(enforcing: Enforcing) -> None:
    done = command("list", MACHINES_URL=enforcing.server.url)
    assert done.returncode == 1
    assert done.stderr.startswith(
        "machines-server: This server answers signed requests only: set MACHINES_AG"
    )
    assert len(done.stderr.splitlines()) == 1
    assert json.loads(send(enforcing.port, "GET", "/health").body)["status"] == "ok"


def test_the_poller_signs_its_requests_to_sidecars(tmp_path: Path) -> None:
    agents = Agents(tmp_path)
    key = agents.add("server").private_key
    folder = tmp_path / "sidecar"
    folder.mkdir()
    guarded = Sidecar(folder, {"SIDECAR_AUTH_MODE": "enforce", "SIDECAR_AUTH_KEYS_DIR": str(agents.public)})
    own = {"MACHINES_AGENT_ID": "server", "MACHINES_PRIVATE_KEY": str(key)}
    network = f"{{hostname: 127.0.0.1, ollama: false, sidecar_port: {guarded.port}}}"
    file = f"name: one\nrole: gpu\nhardware: {{}}\nmodels: []\nnetwork: {network}\n"
    try:
        with RunningServer(tmp_path, **own) as server:
            server.write("one.yaml", file)
            wait_for_status(server, "one", "online")
            agents.remove("server")
            wait_for_status(server, "one", "offline")
            machine = server.fleet()["one"]
            assert "HTTP status 401" in machine["status_reason"]
            here = {"MACHINES_DIR": str(server.machines), "MACHINES_DATA_DIR": str(server.data)}
            checked = command("doctor", **here, **own)
            assert "SIDECAR_AUTH_KEYS_DIR" in checked.stdout
    finally:
        guarded.end()


@pytest.mark.parametrize("words", [["serve"], ["poll"]])
def test_a_server_whose_key_cannot_be_used_does_not_start(words: list[str], tmp_path: Path) -> None:
    own = {"MACHINES_AGENT_ID": "server", "MACHINES_DATA_DIR": str(tmp_path)}
    done = command(*words, **own)
    assert done.returncode == 2
    assert "MACHINES_AGENT_ID and MACHINES_PRIVATE_KEY" in done.stderr
    done = command(*words, **own, MACHINES_PRIVATE_KEY=str(tmp_path / "missing"))
    assert (done.returncode, len(done.stderr.splitlines())) == (2, 1)
