"""Every key that has a meaning is checked, whether or not it has an effect yet."""

import pytest

from machines_server.inventory.schema import json_schema, keys_at
from tests.inventory.texts import ALL, GOOD, editor_schema, error, machine, warnings


def test_a_file_with_every_key_is_read_and_valid_for_an_editor() -> None:
    box = machine(ALL)
    assert warnings(ALL) == []
    editor_schema().validate(box.declared)
    assert list(box.declared) == list(json_schema()["properties"])
    for path in ("hardware", "network", "limits", "services", "runtimes"):
        part = box.declared[path]
        used = {*(part[0] if isinstance(part, list) else part)}
        assert used == {*keys_at((path, 0) if isinstance(part, list) else (path,))}, (
            f"{path}: use every key in ALL of tests/inventory/texts.py"
        )


@pytest.mark.parametrize(
    ("old", "new", "key"),
    [
        ("scheme: https", "scheme: ftp", "network.scheme"),
        ("scheme: https", "scheme: true", "network.scheme"),
        ("path: /ollama", "path: ollama", "network.path"),
        ("path: /ollama", "path: /a b", "network.path"),
        ("path: /ollama", "path: /a?b", "network.path"),
        ("path: /ollama", "path:", "network.path"),
        ("ca: own-ca.pem", "ca: ../own-ca.pem", "network.ca"),
        ("ca: own-ca.pem", "ca: /etc/own-ca.pem", "network.ca"),
        ("ca: own-ca.pem", "ca: ''", "network.ca"),
        ("credential: proxy-token", "credential: ..", "network.credential"),
        ("credential: proxy-token", "credential: [a]", "network.credential"),
        ("sidecar_hostname: 10.0.0.7", "sidecar_hostname: http://box", "network.sidecar_hostname"),
        ("sidecar_hostname: 10.0.0.7", "sidecar_hostname: 7", "network.sidecar_hostname"),
        ("sidecar_scheme: http", "sidecar_scheme: tcp", "network.sidecar_scheme"),
        ("services: [{name: grafana,", "services: {a: {name: grafana}}\nx: [{", "services"),
        ("services: [{", "services: [web, {", "services[0]"),
        ("name: grafana", "name: 7", "services[0].name"),
        ("port: 3000", "port: '3000'", "services[0].port"),
        ("/api/health?x=1", "api/health", "services[0].path"),
        ("description: charts", "description: [charts]", "services[0].description"),
        ("runtimes:", "runtimes: vllm\nx:", "runtimes"),
        ("  - {}", "  - vllm", "runtimes[1]"),
        ("name: chat", "name: ''", "runtimes[0].name"),
        ("kind: vllm", "kind: 1", "runtimes[0].kind"),
        ('hostname: "::1"', "hostname: a/b", "runtimes[0].hostname"),
        ("port: 8000", "port: 0", "runtimes[0].port"),
        ("scheme: https,", "scheme: wss,", "runtimes[0].scheme"),
        ("path: /v1/", "path: v1", "runtimes[0].path"),
        ("credential: k", "credential: a/k", "runtimes[0].credential"),
        ("gpus: [1]", "gpus: 1", "runtimes[0].gpus"),
        ("gpus: [1]", "gpus: [-1]", "runtimes[0].gpus[0]"),
        ("models: [m]", "models: [1]", "runtimes[0].models[0]"),
    ],
)
def test_a_value_of_another_type_is_an_error_of_its_file(old: str, new: str, key: str) -> None:
    assert old in ALL
    problem = error(ALL.replace(old, new, 1))
    assert problem.key == key
    assert "expected" in problem.message
    assert problem.line is not None


UNSPECIFIED = """
0.0.0.0 0 0.0 0.0.0 000.0.0.0 0.0.0.0. 0x0 0x00.0
:: ::0 0::0 0:0:0:0:0:0:0:0 0000:0000:0000:0000:0000:0000:0000:0000 ::0.0.0.0
::ffff:0.0.0.0 ::ffff:0:0 ::FFFF:0.0.0.0
[::] [::0] [0.0.0.0]
"""


@pytest.mark.parametrize("host", UNSPECIFIED.split())
def test_an_address_that_is_every_address_is_refused_with_the_reason(host: str) -> None:
    for text, key in (
        (GOOD.replace("box.lan", f"'{host}'"), "network.hostname"),
        (GOOD.replace("box.lan", f"box.lan\n  sidecar_hostname: '{host}'"), "network.sidecar_hostname"),
        (f"{GOOD}runtimes: [{{hostname: '{host}'}}]\n", "runtimes[0].hostname"),
    ):
        problem = error(text)
        assert problem.key == key
        assert "means every address" in problem.message


@pytest.mark.parametrize("host", ["10.0.0.0", "::1", "::ffff:10.0.0.1", "0.lan", "zero", "1::", "0x0.lan"])
def test_an_address_with_zeros_in_it_is_taken(host: str) -> None:
    assert machine(GOOD.replace("box.lan", f"'{host}'")).hostname == host
