"""Every question of the API as a method, and the examples of docstrings and of the page about the client."""

import doctest
import importlib
import inspect
import json
import pkgutil
import re
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

import machines_client
from machines_client import (
    AsyncClient,
    Client,
    ClientError,
    Pick,
    ServerUnavailable,
    TooMany,
    UnknownMachine,
    reading,
    routing,
    sessions,
)
from machines_server.process.compose import make_app
from machines_server.settings import load_settings
from tests.bodies import gpu_body
from tests.client.scripted_server import LEASE, Say, ScriptedServer
from tests.client.two import LLAMA
from tests.fakes import FakeFleet, machine_yaml, wait_until
from tests.running import RunningServer, clean_environment, wait_for_status

ROOT = Path(__file__).parents[2]
MODULES = [
    importlib.import_module(f"machines_client.{one.name}")
    for one in pkgutil.iter_modules(machines_client.__path__)
]
EXAMPLES = re.findall(r"```python\n(.*?)```", (ROOT / "docs" / "client.md").read_text(), re.DOTALL)


@pytest.fixture(scope="module")
def fleet(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningServer]:
    """A workstation with 20 GiB of VRAM free and a laptop with 10, both with the model in memory."""
    server = RunningServer(tmp_path_factory.mktemp("fleet"), MACHINES_POLL_INTERVAL_S="0.8")
    with FakeFleet() as fakes, server:
        for name, used in (("workstation", 4), ("laptop", 14)):
            sidecar, ollama = fakes.sidecar(gpu_body(0, used_gb=used)), fakes.ollama(LLAMA)
            declared = json.loads(machine_yaml(name, sidecar, ollama))
            if name == "workstation":
                declared["services"] = [{"name": "grafana", "port": sidecar.port}]
            server.write(f"{name}.yaml", json.dumps(declared))
        for name in ("workstation", "laptop"):
            wait_for_status(server, name, "online")
        yield server


@pytest.fixture
def client(fleet: RunningServer, monkeypatch: pytest.MonkeyPatch) -> Client:
    """A client when nobody holds a lease, nor was given advice lately."""
    for name in clean_environment():
        monkeypatch.setenv(name, clean_environment()[name])
    monkeypatch.setenv("MACHINES_URL", fleet.url)
    client = Client()
    for lease in client.leases().leases:
        client.release(lease.lease)

    def is_calm() -> bool:
        advice = [client.route(model, explain=True) for model in (LLAMA, None) for _ in range(8)]
        return all([one.name for one in each.candidates] == ["workstation", "laptop"] for each in advice)

    wait_until(is_calm)
    return client


def doctests() -> list[doctest.DocTest]:
    finder = doctest.DocTestFinder()
    return [test for module in MODULES for test in finder.find(module) if test.examples]


@pytest.mark.parametrize("example", doctests(), ids=lambda example: example.name)
def test_the_example_of_a_docstring_is_true(client: Client, example: doctest.DocTest) -> None:
    if "AsyncClient" in (example.docstring or ""):
        example.globs["AsyncClient"] = AsyncClient
    example.globs["client"] = client
    said: list[str] = []
    runner = doctest.DocTestRunner(optionflags=doctest.ELLIPSIS)
    runner.run(example, out=said.append)
    assert not said, "".join(said)


@pytest.mark.parametrize("number", range(len(EXAMPLES)))
def test_the_example_of_the_page_runs(client: Client, number: int) -> None:
    exec(compile(EXAMPLES[number], f"docs/client.md, example {number + 1}", "exec"), {"__name__": "example"})  # noqa: S102  our own page
    assert client.leases().total == 0


def questions(module: ModuleType) -> set[str]:
    return {
        name
        for name, one in vars(module).items()
        if callable(one) and getattr(one, "__module__", "") == module.__name__ and name in dir(Client)
    }


def test_every_path_of_the_api_has_a_method() -> None:
    app = make_app(load_settings({})[0])
    routes = {rule.rule for rule in app.url_map.iter_rules() if rule.rule.startswith(("/api/", "/health"))}
    source = "".join(Path(str(module.__file__)).read_text() for module in (reading, routing, sessions))
    asked = set(re.findall(r'"(/(?:api/|health)[a-z/]*)"', source))
    of_machines = {f"/api/machines/<name>{end}" for end in ("", "/file", "/history", "/availability")}
    of_leases = {"/api/leases/<lease>", "/api/leases/<lease>/renew"}
    of_prometheus = {"/api/prometheus/sd"}
    assert routes <= asked | of_machines | of_leases | of_prometheus
    others = {"lease", "leased", "every_event", "follow", "run"}
    assert questions(reading) | questions(routing) | questions(sessions) | others == {
        one for one in dir(Client) if one[0] != "_"
    }


def test_help_shows_the_keywords_of_a_method_and_what_it_returns() -> None:
    for kind in (Client, AsyncClient):
        shown = inspect.signature(kind.pick)
        assert list(shown.parameters)[:3] == ["self", "model", "connect_timeout_s"]
        assert set(shown.parameters) >= {"min_free_vram_gb", "tag", "wait_s", "explain"}
        assert shown.return_annotation is Pick
        assert str(inspect.signature(kind.ready)) == "(self) -> machines_client.fleet_answers.Health"


def test_a_machine_that_does_not_exist_is_unknown(client: Client) -> None:
    for ask in (client.machine, client.file, client.history, client.availability):
        with pytest.raises(UnknownMachine, match="no such"):
            ask("no such")


def test_answers_have_all_keys_and_short_reprs(client: Client) -> None:
    machine = client.machine("workstation")
    assert (machine.body["_config_file"], machine.role) == ("workstation.yaml", "test")
    assert len(repr(client.infrastructure().machines[0])) < 300
    pick = client.pick(LLAMA)
    assert repr(pick) == f"Pick(name='workstation', url='{pick.url}', model='{LLAMA}', warm=True)"
    assert len(repr(pick.candidates[0])) < 200
    history = client.history(
        "workstation", metric=["cpu_percent", "vram_used_gb"], step=1, gpu=[0], from_="-60s"
    )
    assert [series.metric for series in history.series] == ["cpu_percent", "vram_used_gb"]
    assert history.series[0].points[0].avg == 12.4


def test_events_are_followed_from_now_on(client: Client, fleet: RunningServer) -> None:
    newest = client.events(limit=1).events[0].id
    following = client.follow(after=newest)
    fleet.write(
        "later.yaml", "name: later\nrole: test\nhardware: {}\nnetwork: {hostname: 127.0.0.1}\nmodels: []\n"
    )
    assert next(following).machine == "later"
    (fleet.machines / "later.yaml").unlink()
    assert next(event for event in following if event.type == "machine_removed").machine == "later"


def test_several_machines_are_asked_for_in_one_question(scripted: ScriptedServer) -> None:
    client = Client(scripted.url)
    series = {"metric": "up", "unit": "1", "gpu": None, "points": [[1, 1, 1, 1, 5]]}
    found = [{"machine": "a", "series": [series]}]
    scripted.replies = [Say({"from": "a", "to": "b", "step_s": 5, "machines": found})]
    assert client.histories(["a", "b"], metric="up").machines[0].series[0].points[0].n == 5
    assert scripted.asked[0].query == {"machine": ["a", "b"], "metric": ["up"]}
    seconds = {"online": 1, "degraded": 0, "offline": 0, "unknown": 0}
    known = {"machine": "a", "seconds": seconds, "ratio": 1.0, "outages": 2, "longest_outage_s": 9.5}
    scripted.replies = [Say({"from": "a", "to": "b", "machines": [known]})]
    assert client.availabilities(from_="-7d").machines[0].outages == 2
    scripted.replies = [Say(LEASE)]
    assert client.held_lease("abc").holder == "me"


@pytest.mark.parametrize(
    ("given", "url"),
    [
        ("127.0.0.1:4138", "http://127.0.0.1:4138"),
        ("[::1]:4138", "http://[::1]:4138"),
        ("box:4138/fleet/", "http://box:4138/fleet"),
        ("https://box", "https://box"),
        (None, "http://127.0.0.1:3038"),
    ],
)
def test_a_server_may_be_named_by_host_and_port(
    given: str | None, url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("MACHINES_URL", raising=False)
    assert Client(given).url == url
    if given:
        monkeypatch.setenv("MACHINES_URL", given)
        assert Client().url == url


@pytest.mark.parametrize("given", ["box", "::1", "box:0", "box:port", "ftp://box:1", "http://", "[::1"])
def test_what_is_no_server_is_a_value_error(given: str) -> None:
    with pytest.raises(ValueError, match="is not the URL of a server"):
        Client(given)


@pytest.mark.parametrize(
    "body",
    [
        {"leases": 5},
        {"leases": [5]},
        {"leases": [{**LEASE, "gpus": [{"uuid": "x"}]}]},
        {"leases": [{**LEASE, "port": "80"}]},
        {"leases": [{**LEASE, "ttl_s": True}]},
    ],
)
def test_an_answer_of_another_form_is_an_error(scripted: ScriptedServer, body: object) -> None:
    scripted.replies = [Say(body)]
    with pytest.raises(ClientError, match="is this a machines-server"):
        Client(scripted.url).leases()


@pytest.mark.parametrize(
    ("said", "status"),
    [
        (b"404 page not found", 404),  # Ollama
        ({"detail": "Not Found"}, 404),
        ({"error": {"message": "Unknown request URL", "type": "invalid_request_error"}}, 404),
        ({"error": "not found"}, 404),
        (b"", 405),
    ],
)
def test_another_server_is_named_as_such(scripted: ScriptedServer, said: Any, status: int) -> None:
    scripted.replies = [Say(said, status)]
    client = Client(scripted.url)
    for ask, path in ((client.pick, "/api/route"), (client.reserve, "/api/leases")):
        expected = f"{scripted.url} is not a machines-server: it answers {path} with HTTP status {status}"
        with pytest.raises(ClientError, match=re.escape(expected)):
            ask("m")


def test_a_sidecar_is_asked_whether_it_is_a_server(scripted: ScriptedServer) -> None:
    scripted.replies = [Say({"error": "not_found", "message": "Use GET /metrics."}, 404)]
    with pytest.raises(ClientError, match=r"/api/leases: is this a machines-server\? It says: Use GET"):
        Client(scripted.url).leases()


@pytest.mark.parametrize(("status", "kind"), [(429, TooMany), (502, ServerUnavailable), (403, ClientError)])
def test_a_proxy_that_refuses_is_no_other_server(
    scripted: ScriptedServer, status: int, kind: type[ClientError]
) -> None:
    scripted.replies = [Say(b"<html>", status, {"Retry-After": "60"})]
    with pytest.raises(kind, match=f"answers /api/machines with HTTP status {status}") as caught:
        Client(scripted.url).machines()
    assert type(caught.value) is kind
