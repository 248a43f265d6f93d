"""Warnings about keys and values that are probably not what their author meant."""

import logging
from pathlib import Path

import pytest

from machines_server.inventory.machine_file import parse_machine
from tests.inventory.texts import GOOD, OpenFiles, error, errors, good, machine, warnings

SIMILAR = "has no effect and looks like"


@pytest.mark.parametrize(
    ("more", "key", "line", "column", "meant"),
    [
        ("limits: {max_lease: 2}\n", "limits.max_lease", 7, 10, "max_leases"),
        ("limits:\n  reserved_vram_gb: 4\n", "limits.reserved_vram_gb", 8, 3, "reserve_vram_gb"),
        ("runtimes:\n  - kind: vllm\n    hots: h\n    prot: 1\n", "runtimes[0].prot", 10, 5, "port"),
        ("runtimes: [{}, {model: [m]}]\n", "runtimes[1].model", 7, 17, "models"),
        ("services: [{name: a, port: 1, Path: /}]\n", "services[0].Path", 7, 31, "path"),
        ("limit: {max_leases: 2}\n", "limit", 7, 1, "limits"),
        ("runtime: [{kind: vllm}]\n", "runtime", 7, 1, "runtimes"),
    ],
)
def test_a_key_that_is_nearly_one_of_ours_is_a_warning(
    more: str, key: str, line: int, column: int, meant: str
) -> None:
    (problem,) = warnings(good("box", more=more))
    assert (problem.key, problem.line, problem.column, problem.severity) == (key, line, column, "warning")
    ours = f"{key.rpartition('.')[0]}.{meant}".lstrip(".")
    assert f"{SIMILAR} {ours}; expected {meant}" in problem.message


def test_a_key_of_the_network_that_is_nearly_one_of_ours_is_a_warning_and_comes_back_unmodified() -> None:
    text = GOOD.replace("box.lan", "box.lan\n  sidecar_prot: 3040\n  host: 10.0.0.1\n  mac: aa:bb\n  vlan: 7")
    assert [(one.key, one.line) for one in warnings(text)] == [
        ("network.sidecar_prot", 6),
        ("network.host", 7),
    ]
    assert machine(text).declared["network"]["sidecar_prot"] == 3040
    assert machine(text).endpoints["sidecar"].port == 3039


def test_keys_of_the_operators_own_at_the_top_may_have_such_names() -> None:
    assert warnings(good("box", more="model: R740\nservice: web\nruntime: docker\nlimit: 3\nhost: h\n")) == []


@pytest.mark.parametrize(
    ("old", "new", "key", "found"),
    [
        ("name: box", "Name: box", "name", "is it Name?"),
        ("models: []", "model: []", "models", "is it model?"),
        ("hostname: box.lan", "hostnme: box.lan", "network.hostname", "is it hostnme?"),
    ],
)
def test_a_required_key_that_is_misspelt_is_missing_and_the_misspelt_one_is_named(
    old: str, new: str, key: str, found: str
) -> None:
    (problem,) = [one for one in errors(GOOD.replace(old, new, 1)) if one.severity == "error"]
    assert problem.key == key
    assert problem.message.endswith(found)


@pytest.mark.parametrize(
    ("more", "key", "line", "column"),
    [
        ("ipmi: {user: admin, password: hunter2}\n", "ipmi.password", 7, 21),
        ("notes:\n  - {hf: {apiKey: hunter2}}\n", "notes[0].hf.apiKey", 8, 11),
        ("HF_TOKEN: hunter2\n", "HF_TOKEN", 7, 1),
        ("private key: |\n  hunter2\n", "private key", 7, 1),
        ("services: [{name: a, port: 1, client-secret: hunter2}]\n", "services[0].client-secret", 7, 31),
        ("a: {b: {c: {d: {e: {passphrase: hunter2}}}}}\n", "a.b.c.d.e.passphrase", 7, 21),
    ],
)
def test_a_secret_in_a_file_is_a_warning_that_does_not_repeat_it(
    more: str, key: str, line: int, column: int
) -> None:
    (problem,) = warnings(good("box", more=more))
    assert (problem.key, problem.line, problem.column, problem.severity) == (key, line, column, "warning")
    assert "a secret" in problem.message
    assert "hunter2" not in str(problem)


@pytest.mark.parametrize(
    "value",
    [
        *["hunter2", "!hunter2 x", "!hunter2 [x]", "!!int hunter2", "61e9540", "0042", "[0042, {a: 24.10}]"],
        *["!!float hunter2", "*hunter2", "@hunter2", "a: hunter2", "'hunter2", "!!binary hunter2", "-.inf"],
    ],
)
def test_whatever_is_wrong_with_a_secret_its_value_is_not_told(
    value: str, tmp_path: Path, caplog: pytest.LogCaptureFixture, open_files: OpenFiles
) -> None:
    (tmp_path / "box.yaml").write_text(good("box", more=f"adm: {{}}\nlogin:\n  password: {value}\n"))
    caplog.set_level(logging.DEBUG)
    files = open_files(tmp_path, on_problem=lambda problem: logging.getLogger().warning("%s", problem))
    problems = files.current(1.0).problems
    files.close()
    assert problems
    for told in (*map(str, problems), caplog.text):
        assert not any(secret in told for secret in ("hunter2", "9540", "42", "24.1", "inf"))


def test_a_secret_in_the_place_of_a_credentials_name_is_not_told() -> None:
    text = GOOD.replace("box.lan", "box.lan\n  credential: admin:hunter2")
    problem = error(text)
    assert problem.key == "network.credential"
    assert "hunter2" not in problem.message
    assert "MACHINES_CREDENTIALS_DIR" in problem.message


def test_what_speaks_of_tokens_to_count_is_no_secret() -> None:
    more = "vllm: {max_tokens: 4096, tokens_per_s: 31, tokenizer: bpe}\nteam: {secretary: Ann}\n"
    text = GOOD.replace("box.lan", "box.lan\n  scheme: https\n  credential: proxy-token") + more
    assert warnings(text) == []


@pytest.mark.parametrize(
    ("written", "printed"),
    [
        *[
            ("680841e1", "6808410.0"),
            ("24.10", "24.1"),
            ("0042", "42"),
            ("007", "7"),
            ("1.50", "1.5"),
            ("5.", "5.0"),
        ],
        *[("1e5", "100000.0"), ("1E3", "1000.0"), ("0x1F", "31"), ("0o17", "15"), ("+5", "5"), (".5", "0.5")],
        *[
            ("5.", "5.0"),
            ("-0", "0"),
            ("12345678901234567890.5", "1.2345678901234567e+19"),
        ],
        *[
            ("100000000000000000000.0", "1e+20"),
            ("1e22", "1e+22"),
            ("-007.10", "-7.1"),
            ("0.30000000000000001", "0.3"),
        ],
    ],
)
def test_a_number_that_comes_back_changed_is_a_warning(written: str, printed: str) -> None:
    text = good("box", more=f"asset:\n  - {written}\n")
    (problem,) = warnings(text)
    assert (problem.key, problem.line, problem.column) == ("asset[0]", 8, 5)
    assert f"{written} is read as the number {printed}; put it in quotes" in problem.message
    assert machine(text).declared_json["asset"] == f"[{printed}]"
    assert warnings(good("box", more=f"asset: ['{written}']\n")) == []


@pytest.mark.parametrize(
    "written", ["24.0", "0", "-7", "1.5", "-0.0", "1e+22", "123456789012345678901234567890"]
)
def test_a_number_that_comes_back_as_it_was_written_is_none(written: str) -> None:
    assert warnings(good("box", more=f"n: {written}\nf: {{a: [{written}]}}\n")) == []


def test_a_number_without_a_form_in_json_says_how_to_keep_its_text() -> None:
    (problem,) = warnings(good("box", more="build: 61e9540\n"))
    assert problem.key == "build"
    assert "put it in quotes" in problem.message


def test_a_key_that_comes_back_changed_is_a_warning() -> None:
    found = warnings(good("box", more="racks: {007: a, 1.10: b, 12: c, True: d}\n"))
    assert [(one.key, one.column) for one in found] == [("racks.7", 9), ("racks.1.1", 17), ("racks.true", 33)]
    assert all("put it in quotes" in one.message for one in found)


def test_a_number_that_only_the_server_reads_may_be_written_in_any_way() -> None:
    more = "limits: {reserve_vram_gb: 1.50, max_leases: +2}\nruntimes: [{port: 0x50, gpus: [00]}]\n"
    text = GOOD.replace("box.lan", "box.lan\n  port: 0x2CAA\n  gpus: [01]") + more
    assert machine(text).port == 11434
    assert warnings(text) == []


def test_a_number_in_the_place_of_a_text_is_told_once() -> None:
    assert error(GOOD.replace("name: box", "name: 0042")).severity == "error"


def test_of_many_numbers_the_first_are_named_and_no_secret_is_lost_among_them() -> None:
    more = f"n: [{', '.join(['007'] * 500)}]\npassword: x\n"
    found = list(parse_machine(good("box", more=more).encode(), "box.yaml").problems)
    assert len(found) == 101
    assert "401 more" in found[-1].message
    assert "password" in [one.key for one in found]
