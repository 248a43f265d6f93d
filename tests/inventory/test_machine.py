"""What a good machine file becomes."""

import json
from pathlib import Path

import pytest

from machines_server.inventory.limits import MAX_MACHINE_FILE_BYTES
from machines_server.inventory.machine_file import parse_declared
from tests.inventory.texts import GOOD, good, machine, warnings

MACHINES = Path(__file__).parents[2] / "machines"


def test_ports_and_endpoints_have_their_usual_values() -> None:
    box = machine(GOOD)
    assert (box.name, box.file, box.role, box.hostname) == ("box", "box.yaml", "gpu-host", "box.lan")
    assert box.port == 11434
    assert {kind: endpoint.url for kind, endpoint in box.endpoints.items()} == {
        "sidecar": "http://box.lan:3039",
        "ollama": "http://box.lan:11434",
    }
    assert box.models == ()


def test_a_host_may_have_other_ports_and_only_one_endpoint() -> None:
    box = machine(GOOD.replace("box.lan", "box.lan\n  sidecar_port: 65535\n  ollama: false\n  port: 1"))
    assert (box.port, box.model_server) == (1, None)
    assert [endpoint.port for endpoint in box.endpoints.values()] == [65535]
    assert machine(GOOD.replace("box.lan", "box.lan\n  sidecar: false")).sidecar is None


def test_the_two_machines_of_the_examples_are_read_as_they_are_written() -> None:
    workstation = machine((MACHINES / "examples" / "workstation.yaml").read_bytes())
    gpu = {"model": "24GB consumer GPU", "vram_gb": 24}
    expected = {
        "name": "workstation",
        "role": "gpu-host",
        "hardware": {"cpu": "16-core x86_64", "ram_gb": 128, "gpu": [gpu, gpu], "storage_gb": 8000},
        "network": {"hostname": "workstation.lan", "port": 11434},
        "limits": {"max_leases": 4},
        "models": ["llama3.1:70b", "qwen2.5:32b", "nomic-embed-text"],
        "tags": ["primary", "gpu", "training"],
    }
    assert json.dumps(workstation.declared) == json.dumps(expected)
    app_host = machine((MACHINES / "examples" / "app-host.yaml").read_bytes())
    assert app_host.declared["hardware"]["gpu"] == []
    assert app_host.models == ("phi3:mini", "qwen2.5:3b")


def test_the_shipped_folder_declares_this_very_machine() -> None:
    box = machine((MACHINES / "localhost.yaml").read_bytes())
    assert (box.hostname, box.port, box.models) == ("127.0.0.1", 11434, ())
    assert [endpoint.port for endpoint in box.endpoints.values()] == [3039, 11434]


@pytest.mark.parametrize(
    "host", ["localhost", "box.lan", "my_box", "box.lan.", "3com.lan", "192.168.1.7", "::1", "fd00::17:3"]
)
def test_a_host_name_or_an_ip_address_is_taken(host: str) -> None:
    assert machine(GOOD.replace("box.lan", f"'{host}'")).hostname == host


@pytest.mark.parametrize("name", ["a", "0", "GPU-1_b.lan", "x" * 63])
def test_a_name_has_up_to_63_letters_digits_dots_and_dashes(name: str) -> None:
    assert machine(GOOD.replace("box", f"'{name}'", 1)).name == name


def test_hardware_is_in_the_operators_own_words() -> None:
    gpu = "{gpu: [{vram_gb: lots, 7: true}], vram_gb: 24, cpu: [a, b]}"
    box = machine(GOOD.replace("hardware: {}", f"hardware: {gpu}"))
    assert box.declared["hardware"] == {
        "gpu": [{"vram_gb": "lots", "7": True}],
        "vram_gb": 24,
        "cpu": ["a", "b"],
    }


def test_yaml_1_2_takes_no_and_on_as_text() -> None:
    assert machine(good("box", more="k: [no, on, yes, 010, 1:30]\n")).declared["k"] == [
        "no",
        "on",
        "yes",
        10,
        "1:30",
    ]


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
def test_a_byte_order_mark_is_understood(encoding: str) -> None:
    assert machine(good("box", more="site: Zürich\n").encode(encoding)).declared["site"] == "Zürich"


def test_the_json_of_each_key_is_made_once() -> None:
    box = machine(good("box", more="site: Zürich\nn: [1, null]\n"))
    assert list(box.declared_json) == list(box.declared)
    assert {key: json.loads(text) for key, text in box.declared_json.items()} == box.declared
    assert box.declared_json["site"] == '"Zürich"'


def test_a_key_with_the_name_of_a_live_key_is_a_warning() -> None:
    found = warnings(good("box", more="status: up\ntelemetry: {}\n_config_file: x\nmine: 1\n"))
    assert [(problem.key, problem.line, problem.severity) for problem in found] == [
        ("status", 7, "warning"),
        ("telemetry", 8, "warning"),
        ("_config_file", 9, "warning"),
    ]


def test_a_file_of_the_largest_size_is_read() -> None:
    text = good("box", more="note: ")
    text += "x" * (MAX_MACHINE_FILE_BYTES - len(text))
    assert len(text) == MAX_MACHINE_FILE_BYTES
    assert text.endswith(machine(text).declared["note"])


def test_an_ordinary_file_of_the_largest_size_is_read() -> None:
    text = good("box", more="disks:\n")
    line = "  - {model: 4TB SSD, slot: 7, serial: S6B0}\n"
    count = (MAX_MACHINE_FILE_BYTES - len(text)) // len(line)
    assert len(machine(text + line * count).declared["disks"]) == count


def test_the_kept_json_of_a_machine_gives_the_same_machine() -> None:
    box = machine(good("box", more='note: "\\x7f\\u2028"\nbig: 123456789012345678901234567890\n'))
    kept = parse_declared(json.dumps(box.declared, ensure_ascii=False), "box.yaml").machine
    assert kept is not None
    assert kept.declared == box.declared
    assert kept.declared_json == box.declared_json


@pytest.mark.parametrize("kept", ["", "[]", "{", "[" * 100_000, '{"name": NaN}', b"\xff", '{"name": "x"}'])
def test_kept_json_that_is_no_machine_is_refused(kept: str | bytes) -> None:
    parsed = parse_declared(kept, "box.yaml")
    assert parsed.machine is None
    assert parsed.problems
