"""The sidecar as a process: settings, address, signals, what it leaves behind."""

import os
import signal
import socket
import subprocess
import sys
from collections.abc import Callable
from importlib.metadata import entry_points, version

import psutil
import pytest

import sidecar as package
from sidecar.exposure import warnings
from sidecar.payload import to_json
from sidecar.settings import BadSettingError, Settings, read_settings, unknown_variables
from tests.sidecar.running import Scenario, Sidecar, card, is_gone, wait_until

Start = Callable[..., Sidecar]


def run(**environ: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-W", "error", "-m", "sidecar"]
    return subprocess.run(
        command, env={**os.environ, **environ}, capture_output=True, text=True, timeout=20, check=False
    )


def test_settings_have_defaults() -> None:
    assert read_settings({}) == Settings("0.0.0.0", 3039, 1.0, ())


def test_settings_come_from_the_environment() -> None:
    environ = {
        "SIDECAR_HOST": "::1",
        "SIDECAR_PORT": "65535",
        "SIDECAR_SAMPLE_INTERVAL_S": "0.5",
        "SIDECAR_ALLOWED_HOSTS": " GPU.example.com., .example.org ,",
    }
    assert read_settings(environ) == Settings("::1", 65535, 0.5, ("gpu.example.com", ".example.org"))
    assert unknown_variables(environ) == []


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("SIDECAR_HOST", "http://here"),
        ("SIDECAR_HOST", "two words"),
        ("SIDECAR_PORT", "-1"),
        ("SIDECAR_PORT", "65536"),
        ("SIDECAR_PORT", "3_039"),
        ("SIDECAR_PORT", "٣"),
        ("SIDECAR_SAMPLE_INTERVAL_S", "0"),
        ("SIDECAR_SAMPLE_INTERVAL_S", "61"),
        ("SIDECAR_SAMPLE_INTERVAL_S", "nan"),
        ("SIDECAR_SAMPLE_INTERVAL_S", "inf"),
        ("SIDECAR_SAMPLE_INTERVAL_S", "1s"),
        ("SIDECAR_ALLOWED_HOSTS", "http://gpu.example.com"),
        ("SIDECAR_ALLOWED_HOSTS", "gpu.example.com:3039"),
        ("SIDECAR_ALLOWED_HOSTS", "a.example, *.example.com"),
        ("SIDECAR_ALLOWED_HOSTS", "."),
    ],
)
def test_a_wrong_setting_is_refused_by_name_and_value(name: str, value: str) -> None:
    with pytest.raises(BadSettingError, match="is not allowed; expected a") as refused:
        read_settings({name: value})
    assert f"{name}={value!r}" in str(refused.value)


def test_a_wrong_setting_ends_the_start_with_status_2_and_one_line() -> None:
    ended = run(SIDECAR_PORT="http")
    assert ended.returncode == 2
    assert ended.stderr == (
        "machines-sidecar: SIDECAR_PORT='http' is not allowed; "
        "expected a whole number from 0 to 65535 (0: any free port)\n"
    )


def test_a_port_in_use_ends_the_start_with_status_2_and_one_line() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        ended = run(SIDECAR_HOST="127.0.0.1", SIDECAR_PORT=port)
    assert ended.returncode == 2
    assert ended.stderr == (
        f"machines-sidecar: port {port} of 127.0.0.1 is in use: "
        "stop what listens there, or set SIDECAR_PORT to another port\n"
    )


@pytest.mark.parametrize("host", ["192.0.2.1", "no-such-host.invalid", "a..b"])
def test_an_address_that_is_not_ours_ends_the_start_with_status_2_and_one_line(host: str) -> None:
    ended = run(SIDECAR_HOST=host, SIDECAR_PORT="0")
    assert ended.returncode == 2
    assert ended.stderr.count("\n") == 1
    assert f"cannot listen on port 0 of {host}: " in ended.stderr


def test_an_unknown_variable_is_a_warning(start: Start) -> None:
    sidecar = start(SIDECAR_PROT="3040")
    assert "WARNING SIDECAR_PROT is not a setting of the sidecar and has no effect" in sidecar.log


def test_an_allowed_host_is_answered(start: Start) -> None:
    sidecar = start(SIDECAR_ALLOWED_HOSTS="gpu.example.com,.example.org")
    asked = {
        host: sidecar.get("/health", Host=host).status
        for host in ("GPU.example.com:1", "a.example.org", "a.example")
    }
    assert asked == {"GPU.example.com:1": 200, "a.example.org": 200, "a.example": 421}


@pytest.mark.parametrize(
    ("address", "is_root", "said"),
    [
        ("127.0.0.1", False, []),
        ("127.8.9.1", True, ["runs as root"]),
        ("::1", False, []),
        ("0.0.0.0", False, ["anyone who can reach 0.0.0.0"]),
        ("::", True, ["anyone who can reach ::", "runs as root"]),
        ("fe80::1%eth0", False, ["anyone who can reach fe80::1%eth0"]),
        ("192.0.2.1", False, ["anyone who can reach 192.0.2.1"]),
    ],
)
def test_what_is_open_is_said_in_one_line_each(address: str, is_root: bool, said: list[str]) -> None:
    found = warnings(address, is_root=is_root)
    assert len(found) == len(said)
    assert all(words in line for words, line in zip(said, found, strict=True))


def test_an_open_sidecar_says_so_at_its_start(start: Start) -> None:
    sidecar = start(SIDECAR_HOST="0.0.0.0")
    sidecar.sample()
    assert sidecar.log.count("WARNING anyone who can reach 0.0.0.0 can read this host's metrics") == 1
    assert sidecar.log.count("WARNING it runs as root") == (os.geteuid() == 0)


def test_a_closed_sidecar_warns_of_nothing_of_that(sidecar: Sidecar) -> None:
    sidecar.sample()
    assert "anyone who can reach" not in sidecar.log


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_the_sidecar_and_its_child(number: int, start: Start, scenario: Scenario) -> None:
    scenario.show(card(0, "GPU-a"))
    sidecar = start()
    sidecar.sample()
    child = sidecar.child()
    log = sidecar.log
    sidecar.process.send_signal(number)
    assert sidecar.process.wait(timeout=30) == 0
    assert is_gone(child)
    assert sidecar.log == log


def test_two_signals_at_once_are_one_end(start: Start) -> None:
    sidecar = start()
    sidecar.sample()
    log = sidecar.log
    for number in (signal.SIGSTOP, signal.SIGINT, signal.SIGTERM, signal.SIGCONT):
        sidecar.process.send_signal(number)
    assert sidecar.process.wait(timeout=30) == 0
    assert sidecar.log == log


def test_a_signal_ends_the_sidecar_while_the_driver_hangs(start: Start, scenario: Scenario) -> None:
    scenario.show(card(0, "GPU-a"), hang="init")
    sidecar = start()
    child = sidecar.child()
    assert sidecar.end() == 0
    assert is_gone(child)


@pytest.mark.parametrize("hang", [None, "memory_v2"])
def test_a_killed_sidecar_leaves_no_child(hang: str | None, start: Start, scenario: Scenario) -> None:
    scenario.show(card(0, "GPU-a"))
    sidecar = start()
    sidecar.sample()
    child = sidecar.child()
    scenario.change(hang=hang)
    sidecar.process.kill()
    sidecar.process.wait(timeout=30)
    wait_until(lambda: is_gone(child), "the child ends itself")


def test_the_port_is_free_again_at_once(start: Start) -> None:
    first = start()
    first.sample()
    assert first.end() == 0
    assert start(SIDECAR_PORT=str(first.port)).sample()["version"] == 1


def test_the_sidecar_stays_small(sidecar: Sidecar) -> None:
    for _ in range(50):
        sidecar.sample()
    assert psutil.Process(sidecar.process.pid).memory_info().rss <= 25 * 2**20


def test_the_package_imports_only_what_a_host_has() -> None:
    code = "import sys, sidecar.__main__; print(' '.join(sys.modules))"
    loaded = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    ).stdout.split()
    assert "h11" in loaded
    assert not {"prometheus_client", "pynvml", "machines_server", "importlib.metadata"} & set(loaded)


def test_the_console_script_is_the_module() -> None:
    (script,) = entry_points(group="console_scripts", name="machines-sidecar")
    assert script.value == "sidecar.__main__:main"


def test_the_version_is_that_of_the_distribution() -> None:
    assert package.__version__ == version("machines-server")


def test_what_a_driver_says_acts_on_no_terminal() -> None:
    body = to_json({"model": "\x1b[2J\x9b31m\u202e\x7f"})
    assert body == rb'{"model":"\u001b[2J\u009b31m\u202e\u007f"}'
