"""The commands that show the fleet: list, ps, models, show, leases."""

import json
import re

from tests.cli.conftest import LLAMA, LONG
from tests.fakes import FakeFleet, machine_yaml, wait_until
from tests.running import RunningServer, command, wait_for_status
from tests.terminal import PROGRAM, Terminal


def ask(server: RunningServer, *words: str) -> str:
    done = command(*words, "--server", server.url)
    assert done.returncode == 0, done.stderr
    return done.stdout


def names(text: str) -> list[str]:
    return [line.split()[0] for line in text.splitlines()[1:]]


def test_ps_prints_the_columns_of_ollama_ps_for_the_whole_fleet(fleet: RunningServer) -> None:
    head, first, second = ask(fleet, "ps").splitlines()
    assert head.split() == ["NAME", "MACHINE", "ID", "SIZE", "PROCESSOR", "CONTEXT", "UNTIL"]
    assert re.split(" {2,}", first)[:4] == [LLAMA, "workstation", "100000000000", "4 GiB"]
    assert re.split(" {2,}", first)[4].split() == ["100%", "GPU", "4096"] or "100% GPU" in first
    assert first.endswith("Forever")
    assert second.split()[0] == "nomic-embed-text:latest"
    assert command("ps", MACHINES_URL=fleet.url).stderr == f"models unknown on 2 machines: attic, {LONG}\n"


def test_ps_of_one_machine_and_as_json(fleet: RunningServer) -> None:
    found = json.loads(ask(fleet, "ps", "workstation", "--json"))
    assert [(one["machine"], one["name"]) for one in found] == [
        ("workstation", LLAMA),
        ("workstation", "nomic-embed-text:latest"),
    ]
    assert ask(fleet, "ps", "attic") == ""
    wrong = command("ps", "workstaton", MACHINES_URL=fleet.url)
    assert wrong.returncode == 1
    assert "Did you mean workstation?" in wrong.stderr


def test_ps_of_a_moment_of_the_past(fleet: RunningServer) -> None:
    wait_until(lambda: ask(fleet, "ps", "--at", "-2s"))
    head, first, second = (line.split() for line in ask(fleet, "ps", "--at", "-2s").splitlines())
    assert (head, first) == (["NAME", "MACHINE"], [LLAMA, "workstation"])
    assert second == ["nomic-embed-text:latest", "workstation"]
    assert command("ps", "--at", "yesterday", MACHINES_URL=fleet.url).stderr == (
        "No model was seen in memory then.\n"
    )
    assert json.loads(ask(fleet, "ps", "attic", "--at", "-2s", "--json")) == []
    assert len(json.loads(ask(fleet, "ps", "Workstation", "--at", "-2s", "--json"))) == 2
    wrong = command("ps", "workstaton", "--at", "-2s", MACHINES_URL=fleet.url)
    assert wrong.returncode == 1
    assert "Did you mean workstation?" in wrong.stderr


def test_who_asks_for_a_model_that_is_only_on_disk_is_told_of_cold(fleet: RunningServer) -> None:
    missed = command("pick", "qwen2.5:7b", MACHINES_URL=fleet.url)
    assert missed.returncode == 1
    assert missed.stderr.endswith("With --cold, workstation could load it.\n")
    assert ask(fleet, "pick", "qwen2.5:7b", "--cold").startswith("http://")


def test_models_say_where_each_is(fleet: RunningServer) -> None:
    rows = {re.split(" {2,}", line)[0]: re.split(" {2,}", line) for line in ask(fleet, "models").splitlines()}
    assert rows["MODEL"][1:] == ["LOADED", "ON DISK", "DECLARED", "LAST SEEN"]
    assert rows[LLAMA][1:] == ["workstation", "workstation", "workstation", "now"]
    assert rows["phi3:mini"][1:] == ["-", "-", f"attic, {LONG}", "never"]
    assert rows["qwen2.5:7b"][1:3] == ["-", "workstation"]


def test_list_is_filtered_and_sorted(fleet: RunningServer) -> None:
    assert names(ask(fleet, "list", "--status", "offline")) == ["attic"]
    assert names(ask(fleet, "list", "--tag", "fast", "--tag", "大")) == ["workstation"]
    assert names(ask(fleet, "list", "--role", "test")) == ["attic", LONG]
    assert names(ask(fleet, "list", "--free", "25.5")) == ["workstation"]
    reserved = command("list", "--free", "26.5", MACHINES_URL=fleet.url)  # a lease has 2 of the 28 GiB
    assert (reserved.returncode, reserved.stdout) == (1, "")
    assert reserved.stderr.endswith("No machine matches.\n")
    assert names(ask(fleet, "list", "--sort", "free"))[0] == "workstation"
    assert names(ask(fleet, "list", "--sort", "status"))[-1] == "attic"
    assert "21 + 26 GiB" in ask(fleet, "list")


def test_list_without_a_match_is_a_negative_answer_with_a_suggestion(fleet: RunningServer) -> None:
    done = command("list", "--tag", "fats", MACHINES_URL=fleet.url)
    assert (done.returncode, done.stdout) == (1, "")
    assert "No machine matches. Did you mean --tag fast?" in done.stderr
    assert command("list", "--free", "29", MACHINES_URL=fleet.url).returncode == 1
    wrong = command("list", "--status", "onlin", MACHINES_URL=fleet.url)
    assert wrong.returncode == 2
    assert "'online'" in wrong.stderr


def test_show_tells_people_all_about_a_machine(fleet: RunningServer) -> None:
    text = ask(fleet, "show", "workstation")
    assert re.search(r"^status +online$", text, re.MULTILINE)
    assert re.search(r"^since +\d{4}-\d\d-\d\d \d\d:\d\d:\d\d, for \d+ (s|min)", text, re.MULTILINE)
    assert re.search(r"^GPU 1 .* 28 GiB free of 48 GiB$", text, re.MULTILINE)
    assert "大きいGPU, 47 % busy, 61 °C, 212 W" in text
    assert re.search(rf"^{re.escape(LLAMA)} ", text, re.MULTILINE)
    assert "night watch" in text
    assert "File workstation.yaml" in text
    assert re.search(r"^role +Büro test$", text, re.MULTILINE)
    offline = ask(fleet, "show", "attic")
    assert re.search(r"^why +sidecar and ollama: connection refused$", offline, re.MULTILINE)
    assert re.search(r"^hint +start Ollama", offline, re.MULTILINE)


def test_show_as_json_is_what_the_api_answers(fleet: RunningServer) -> None:
    assert json.loads(ask(fleet, "show", "attic", "--json"))["status"] == "offline"


def test_leases_are_listed_and_released(server: RunningServer, fakes: FakeFleet) -> None:
    server.write("one.yaml", machine_yaml("one", fakes.sidecar(), fakes.ollama(LLAMA)))
    wait_for_status(server, "one", "online")
    assert command("leases", MACHINES_URL=server.url).stderr == "There are no leases.\n"
    for _ in range(3):
        body = {"model": LLAMA, "ttl_s": 600, "holder": "me\x1b[2J"}
        assert server.post("/api/leases", body).status_code == 201
    text = ask(server, "leases")
    assert names(text) == [one["lease"] for one in json.loads(ask(server, "leases", "--json"))]
    assert "\x1b" not in text
    first, second, third = names(text)
    done = command("leases", "release", first, "nosuch", "--server", server.url)
    assert (done.returncode, done.stdout) == (1, f"Released {first} of {LLAMA} on one.\n")
    assert "There is no lease 'nosuch'" in done.stderr
    assert names(ask(server, "leases")) == [second, third]
    with Terminal([PROGRAM, "leases", "release", second, third], {"MACHINES_URL": server.url}) as terminal:
        terminal.wait_for(f"Release lease {second} of me.* on one")
        terminal.type("n\n")
        terminal.wait_for(f"Release lease {third} ")
        terminal.type("y\n")
        terminal.wait_for(f"Released {third}")
        assert terminal.end().returncode == 1
    assert names(ask(server, "leases")) == [second]
    assert "Released" in ask(server, "leases", "release", "--yes", second)


def test_a_miss_says_each_reason_once(fleet: RunningServer) -> None:
    done = command("pick", "mistral", MACHINES_URL=fleet.url)
    assert done.returncode == 1
    assert done.stderr.count("\n") == 1
    assert done.stderr.startswith("machines-server: No suitable machine for mistral: workstation: ")
    assert done.stderr.count("connection refused") <= 3


def test_a_misspelt_type_or_metric_is_suggested(fleet: RunningServer) -> None:
    for words, meant in (
        (["events", "--type", "onlin"], "online"),
        (["history", "workstation", "--metric", "cpu_percnt"], "cpu_percent"),
    ):
        done = command(*words, MACHINES_URL=fleet.url)
        assert done.returncode == 2
        assert f"Did you mean {meant}" in done.stderr
