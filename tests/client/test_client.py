"""The Python client, against a real server and hosts that can be connected to or not."""

import re
import shlex
import subprocess
import sys
import time
from pathlib import Path

import pytest
import requests

from machines_server.client import (
    BadRequest,
    Client,
    ClientError,
    LeaseLost,
    NoMachine,
    ServerUnreachable,
    pick_machine_for,
)
from tests.bodies import gpu_body, http, ollama_body
from tests.client.scripted_server import ROUTE, Say, ScriptedServer
from tests.client.two import LLAMA, Two
from tests.fakes import FakeFleet, machine_yaml, wait_until
from tests.ports import free_port
from tests.running import RunningServer, clean_environment, command, wait_for_status


def test_pick_gives_the_best_machine_the_others_and_the_reasons(two: Two) -> None:
    pick = two.client.pick(LLAMA, min_free_vram_gb=4)
    assert (pick.name, pick.hostname, pick.port) == ("more", "127.0.0.1", two.more.port)
    assert (pick.url, pick.model, pick.warm) == (f"http://127.0.0.1:{two.more.port}", LLAMA, True)
    assert [(one.name, one.free_vram_gb) for one in pick.candidates] == [("more", 20.0), ("less", 10.0)]
    assert [one.name for one in two.client.pick(LLAMA, min_free_vram_gb=15).rejected] == ["less"]


def test_constraints_are_given_as_python_has_them(two: Two) -> None:
    pick = two.client.pick
    assert pick(LLAMA, exclude=["more"]).name == "less"
    assert pick(LLAMA, exclude="more").name == "less"
    assert pick(LLAMA, where={"network.port": two.less.port}).name == "less"
    assert pick(LLAMA, where=[f"network.port:{two.less.port}"], role="test", cold=True).name == "less"
    with pytest.raises(NoMachine):
        pick(LLAMA, tag=["edge"])


def test_no_machine_carries_the_reasons_and_when_to_ask_again(two: Two) -> None:
    with pytest.raises(NoMachine, match=r"needs 25\.0 GiB, has 20\.0") as caught:
        two.client.pick(LLAMA, min_free_vram_gb=25)
    assert [(one.name, one.code) for one in caught.value.rejected] == [
        ("more", "not_enough_vram"),
        ("less", "not_enough_vram"),
    ]
    assert caught.value.retry_after_s is None
    with two.client.lease(LLAMA, min_free_vram_gb=20, ttl_s=30), pytest.raises(NoMachine) as caught:
        two.client.lease(LLAMA, min_free_vram_gb=20)
    assert caught.value.retry_after_s is not None
    assert 25 <= caught.value.retry_after_s <= 30
    assert str(caught.value).endswith(f" Try again in {caught.value.retry_after_s:g} s.")


def test_a_machine_that_cannot_be_connected_to_is_passed_over(mortal_two: Two) -> None:
    mortal_two.more.stop()
    pick = mortal_two.client.pick(LLAMA, explain=True)
    assert pick.name == "less"
    assert [(one.name, one.code) for one in pick.rejected] == [("more", "connection_failed")]
    assert mortal_two.client.pick(LLAMA, connect_timeout_s=None, explain=True).name == "more"
    mortal_two.less.stop()
    with pytest.raises(NoMachine, match=r"more: no connection from here.*less: no connection") as caught:
        mortal_two.client.pick(LLAMA)
    assert [one.code for one in caught.value.rejected] == ["connection_failed", "connection_failed"]


def test_a_lease_on_a_machine_that_cannot_be_connected_to_is_given_back(mortal_two: Two) -> None:
    mortal_two.more.stop()
    with mortal_two.client.lease(LLAMA) as lease:
        assert lease.name == "less"
        assert [one.machine for one in mortal_two.client.leases().leases] == ["less"]


def test_no_lease_is_left_on_machines_that_cannot_be_connected_to(mortal_two: Two) -> None:
    mortal_two.more.stop()
    mortal_two.less.stop()
    with pytest.raises(NoMachine, match="no connection from here"):
        mortal_two.client.lease(LLAMA)
    assert mortal_two.client.leases().total == 0


def test_a_lease_holds_until_the_block_ends_and_is_renewed_meanwhile(two: Two) -> None:
    with two.client.lease(LLAMA, min_free_vram_gb=4, ttl_s=3, holder="me") as lease:
        (held,) = two.client.leases().leases
        assert (held.lease, held.holder, held.machine) == (lease.id, "me", "more")
        assert (lease.url, lease.model, lease.warm) == (f"http://127.0.0.1:{two.more.port}", LLAMA, True)
        began = time.monotonic()
        wait_until(lambda: time.monotonic() - began > 4.5)  # one and a half times its time
        assert [one.lease for one in two.client.leases().leases] == [lease.id]
        lease.check()
    assert two.client.leases().total == 0
    lease.release()  # a second time does no harm


def test_the_error_of_the_block_is_not_hidden_and_the_lease_is_released(two: Two) -> None:
    with pytest.raises(ZeroDivisionError), two.client.lease(LLAMA):
        raise ZeroDivisionError
    assert two.client.leases().total == 0


def test_ten_agents_do_not_all_get_the_same_machine(two: Two) -> None:
    leases = [two.client.lease(LLAMA) for _ in range(10)]
    assert [one.name for one in leases].count("more") == 5
    for one in leases:
        one.release()


def test_a_lease_that_somebody_else_ended_is_lost(two: Two) -> None:
    lease = two.client.lease(LLAMA, ttl_s=1)
    requests.delete(f"{two.server.url}/api/leases/{lease.id}", timeout=60)
    wait_until(lambda: lease.lost)
    with pytest.raises(LeaseLost, match="expired or was released"):
        lease.check()
    lease.release()


def test_a_lease_whose_machine_goes_offline_is_lost_and_says_so(tmp_path: Path, fakes: FakeFleet) -> None:
    sidecar, ollama = fakes.sidecar(gpu_body(0, used_gb=4)), fakes.ollama(LLAMA)
    with RunningServer(tmp_path) as server:
        server.write("one.yaml", machine_yaml("one", sidecar, ollama))
        wait_for_status(server, "one", "online")
        wait_until(lambda: server.fleet()["one"]["loaded_models"])
        with Client(server.url).lease(LLAMA, ttl_s=3, raise_if_lost=False) as lease:
            sidecar.stop()
            ollama.stop()
            wait_until(lambda: lease.lost)
            assert "one is broken: it is offline" in str(lease.lost)


def test_a_lease_outlives_a_server_that_is_away_for_less_than_its_time(
    tmp_path: Path, fakes: FakeFleet
) -> None:
    port = str(free_port())
    with RunningServer(tmp_path, MACHINES_PORT=port) as server:
        server.write("one.yaml", machine_yaml("one", fakes.sidecar(), fakes.ollama(LLAMA)))
        wait_for_status(server, "one", "online")
        wait_until(lambda: server.fleet()["one"]["loaded_models"])
        lease = Client(server.url).lease(LLAMA, ttl_s=20)
    with RunningServer(tmp_path, MACHINES_PORT=port) as server:
        before = lease.expires_at
        wait_until(lambda: lease.expires_at > before)
        assert [one.lease for one in Client(server.url).leases().leases] == [lease.id]
        lease.release()


def test_a_lease_that_cannot_be_renewed_is_lost_when_its_time_is_over(
    tmp_path: Path, fakes: FakeFleet
) -> None:
    with RunningServer(tmp_path) as server:
        server.write("one.yaml", machine_yaml("one", fakes.sidecar(), fakes.ollama(LLAMA)))
        wait_for_status(server, "one", "online")
        wait_until(lambda: server.fleet()["one"]["loaded_models"])
        lease = Client(server.url).lease(LLAMA, ttl_s=2)
    wait_until(lambda: lease.lost)
    assert "could not be renewed in time" in str(lease.lost)
    lease.release()


def test_the_function_of_the_guide_asks_the_server_of_the_environment(
    two: Two, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MACHINES_URL", two.server.url)
    assert pick_machine_for(LLAMA) == ("more", "127.0.0.1")
    assert pick_machine_for(LLAMA, min_free_vram_gb=20) == ("more", "127.0.0.1")
    with pytest.raises(RuntimeError, match="No suitable machine"):
        pick_machine_for("phi3:mini")


def test_what_goes_wrong_has_a_type_and_a_sentence(two: Two, fakes: FakeFleet) -> None:
    with pytest.raises(BadRequest, match="ttl_s") as caught:
        two.client.lease(LLAMA, ttl_s=0.5)
    assert caught.value.parameter == "ttl_s"
    with pytest.raises(BadRequest, match=r"key\.path:value"):
        two.client.pick(LLAMA, where=["warsaw"])
    with pytest.raises(ServerUnreachable, match="cannot be reached"):
        Client(f"http://127.0.0.1:{free_port()}").pick(LLAMA)
    for body in (b"<html>", b"[]", b"{}", ollama_body("m"), b'{"candidates": [{"name": "x"}]}'):
        with pytest.raises(ClientError, match="machines-server"):
            Client(fakes.listen(http(body)).url("")).pick(LLAMA)


ONLY_REQUESTS = """
import sys
class Refuse:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in sys.argv[1:]:
            raise ModuleNotFoundError(name)
sys.meta_path.insert(0, Refuse())
import machines_server.client as client
print(client.Client().url)
"""
OTHERS = (
    "flask gunicorn ruamel apscheduler psutil pycurl orjson msgspec pydantic click pynvml prometheus_client"
    " h11"
)


def test_the_client_needs_requests_and_nothing_else_of_the_server() -> None:
    done = subprocess.run(
        [sys.executable, "-c", ONLY_REQUESTS, *OTHERS.split()],
        env=clean_environment(),
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )
    assert (done.stdout, done.stderr) == ("http://127.0.0.1:3038\n", "")


def pick_command(two: Two, *words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "machines_server", "pick", *words],
        env=clean_environment(MACHINES_URL=two.server.url),
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def test_the_command_prints_the_url_alone(mortal_two: Two) -> None:
    done = pick_command(mortal_two, LLAMA, "--min-free-vram-gb", "4")
    assert (done.returncode, done.stdout, done.stderr) == (0, f"{mortal_two.more.url('')}\n", "")
    done = pick_command(
        mortal_two, LLAMA, "--exclude", "more", "--role", "test", "--where", "network.sidecar:no"
    )
    assert (done.returncode, done.stdout) == (1, "")
    assert "Usage" not in done.stderr
    assert "it has no network.sidecar" in done.stderr
    mortal_two.more.stop()
    assert pick_command(mortal_two, LLAMA).stdout == f"{mortal_two.less.url('')}\n"


def test_the_command_explains(two: Two) -> None:
    done = pick_command(two, LLAMA, "--min-free-vram-gb", "15", "--explain")
    candidate, more, empty, rejected, less = done.stdout.splitlines()
    assert candidate.split()[:3] == ["CANDIDATE", "MODEL", "FREE"]
    assert more.split()[:5] == ["more", "ready", "20", "GiB", "0"]
    assert (empty, rejected.split()) == ("", ["REJECTED", "CODE", "WHY"])
    assert less.split()[:2] == ["less", "not_enough_vram"]
    done = pick_command(two, "phi3:mini", "--explain")
    assert done.returncode == 1
    assert "model_not_loaded" in done.stdout


def test_a_name_that_is_nearly_right_is_told(two: Two) -> None:
    with pytest.raises(NoMachine, match=r"Did you mean llama3\.1:70b\?") as caught:
        two.client.pick("llama3.1")
    assert caught.value.did_you_mean == (LLAMA,)
    for more in ([], ["--explain"], ["--lease"]):
        done = pick_command(two, "llama-3.1", *more)
        assert done.returncode == 1
        assert "Did you mean llama3.1:70b?" in done.stderr
    assert pick_command(two, "llama3.1:").returncode == 2


def test_the_command_gives_the_servers_answer_as_json(two: Two) -> None:
    assert '"machine": "more"' in pick_command(two, LLAMA, "--json").stdout
    done = pick_command(two, LLAMA, "--json", "--min-free-vram-gb", "99")
    assert done.returncode == 1
    assert '"error": "no_machine"' in done.stdout


def test_the_command_takes_every_constraint(scripted: ScriptedServer) -> None:
    scripted.replies = [Say(ROUTE)]
    words = shlex.split(
        "--min-free-vram-gb 1 --min-free-ram-gb 2 --min-context 3 --role r --tag a --tag b --exclude c"
        " --where d:e --cold --exclusive --wait-s 4 --holder me --explain"
    )
    assert command("pick", LLAMA, *words, "--server", scripted.url).returncode == 0
    query = dict(scripted.asked[0].query)
    (wait_s,) = query.pop("wait_s")
    assert 3 < float(wait_s) <= 4  # less what has passed until it is sent
    assert query == {
        "model": [LLAMA],
        "min_free_vram_gb": ["1.0"],
        "min_free_ram_gb": ["2.0"],
        "min_context": ["3"],
        "role": ["r"],
        "tag": ["a", "b"],
        "exclude": ["c"],
        "where": ["d:e"],
        "cold": ["true"],
        "exclusive": ["true"],
        "holder": ["me"],
        "explain": ["true"],
    }


def test_the_command_finds_room_without_a_model(two: Two) -> None:
    done = pick_command(two, "--min-free-vram-gb", "15", "--explain")
    assert done.stdout.splitlines()[1].split()[:4] == ["more", "-", "20", "GiB"]
    done = pick_command(two, "--min-free-ram-gb", "500", "--explain")
    assert (done.returncode, done.stdout.count("not_enough_ram")) == (1, 2)


def test_commands_take_a_host_and_a_port_for_the_server(two: Two) -> None:
    bare = two.server.url.removeprefix("http://")
    done = command("pick", LLAMA, "--exclude", "less", "--server", bare)
    assert (done.stdout, done.stderr) == (f"{two.more.url('')}\n", "")
    assert command("list", MACHINES_URL=bare).returncode == 0


def test_the_command_leases_and_says_how_to_release(two: Two) -> None:
    done = pick_command(two, LLAMA, "--lease", "--ttl-s", "30", "--holder", "me", "--min-free-vram-gb", "20")
    assert (done.returncode, done.stdout) == (0, f"{two.more.url('')}\n")
    (held,) = two.client.leases().leases
    assert (held.holder, held.ttl_s) == ("me", 30)
    assert f"machines-server leases release {held.lease} --server {two.server.url}" in done.stderr
    again = pick_command(two, LLAMA, "--lease", "--min-free-vram-gb", "20")
    assert again.returncode == 1
    assert again.stderr.count("Try again in") == 1


def test_wrong_usage_of_the_command_is_status_2(two: Two) -> None:
    assert pick_command(two, "--lease").returncode == 2
    assert pick_command(two, LLAMA, "--ttl-s", "30").returncode == 2
    assert pick_command(two, LLAMA, "--role", "").returncode == 2
    assert pick_command(two, LLAMA, "--min-free-vram-gb", "-1").returncode == 2
    assert pick_command(two, LLAMA, "--server", "nowhere").returncode == 2


def test_the_python_of_the_readme_runs(two: Two) -> None:
    (text,) = re.findall(
        r"```python\n(.*?)```", (Path(__file__).parents[2] / "README.md").read_text(), re.DOTALL
    )
    done = subprocess.run(
        [sys.executable, "-c", text],
        env=clean_environment(MACHINES_URL=two.server.url),
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )
    assert (done.stdout, done.stderr) == (f"more {two.more.url('')} {LLAMA}\n", "")
    assert two.client.leases().total == 0
