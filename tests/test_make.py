"""The make targets, as a person uses them, and the package, as pip installs it."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import psutil
import requests

from tests.fakes import wait_until
from tests.ports import free_port
from tests.running import clean_environment, copy_checkout
from tests.tools import tool

ROOT = Path(__file__).parent.parent


def children_of(process: subprocess.Popen[bytes]) -> list[psutil.Process]:
    return psutil.Process(process.pid).children(recursive=True)


def test_make_run_shows_this_machine_live_and_ends_without_a_trace(
    tmp_path: Path,
) -> None:
    machines = tmp_path / "machines"
    machines.mkdir()
    sidecar_port, ollama_port, port = free_port(), free_port(), free_port()
    text = (ROOT / "machines" / "localhost.yaml").read_text()
    ports = f"hostname: 127.0.0.1\n  port: {ollama_port}\n  sidecar_port: {sidecar_port}"
    (machines / "localhost.yaml").write_text(text.replace("hostname: 127.0.0.1", ports))
    log = tmp_path / "log"
    environment = clean_environment(
        MACHINES_DIR=str(machines),
        MACHINES_DATA_DIR=str(tmp_path / "var"),
        MACHINES_PORT=str(port),
        SIDECAR_PORT=str(sidecar_port),
        SIDECAR_HOST="127.0.0.1",
        MACHINES_POLL_INTERVAL_S="1",
        MACHINES_POLL_TIMEOUT_S="0.9",
    )
    del environment["PYTHONWARNINGS"]  # what pip warns of is not ours
    with log.open("wb") as out:
        process = subprocess.Popen(
            [tool("make"), f"PYTHON={sys.executable}", "run"],
            cwd=ROOT,
            env=environment,
            stdout=out,
            stderr=out,
            start_new_session=True,
        )
    try:
        url = f"http://127.0.0.1:{port}"

        def online() -> bool:
            assert process.poll() is None, log.read_text()
            try:
                machines = requests.get(f"{url}/api/infrastructure", timeout=60).json()["machines"]
            except requests.ConnectionError:
                return False
            return machines[0]["status"] == "online" and machines[0]["ollama"]["state"] is not None

        wait_until(online, 60)
        assert f"machines-server: {url}/\n" in log.read_text()
        (machine,) = requests.get(f"{url}/api/infrastructure", timeout=60).json()["machines"]
        assert machine["telemetry"]["ram_total_gb"] > 0
        assert machine["status_reason"] == "ollama: connection refused"
        assert machine["ollama"] == {
            "state": "unreachable",
            "message": "connection refused: start Ollama, or set network.ollama: false",
            "models": [],
        }
        started = children_of(process)
        os.killpg(process.pid, signal.SIGINT)  # what Ctrl-C does in a terminal
        process.wait(timeout=20)
        _, left = psutil.wait_procs(started, timeout=30)
        assert left == []
    finally:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
    assert "Traceback" not in log.read_text()


def test_make_run_sidecar_works_with_nothing_but_the_sidecars_packages(tmp_path: Path) -> None:
    copy_checkout(tmp_path / "checkout")
    port = free_port()
    environment = clean_environment(SIDECAR_PORT=str(port), SIDECAR_HOST="127.0.0.1")
    del environment["PYTHONWARNINGS"]  # what pip warns of is not ours
    process = subprocess.Popen(
        [tool("make"), f"PYTHON={sys.executable}", "run-sidecar"],
        cwd=tmp_path / "checkout",
        env=environment,
        start_new_session=True,
    )
    try:

        def answers() -> bool:
            assert process.poll() is None
            try:
                return requests.get(f"http://127.0.0.1:{port}/metrics?format=json", timeout=60).ok
            except requests.ConnectionError:
                return False

        wait_until(answers, 120)
    finally:
        started = children_of(process)
        os.killpg(process.pid, signal.SIGINT)
        process.wait(timeout=20)
    _, left = psutil.wait_procs(started, timeout=30)
    assert left == []
    packages = subprocess.run(
        [tmp_path / "checkout" / ".venv-sidecar" / "bin" / "pip", "list", "--format=freeze"],
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    names = {line.partition("==")[0].lower().replace("_", "-") for line in packages.splitlines()}
    assert names <= {"h11", "nvidia-ml-py", "prometheus-client", "psutil", "pip", "setuptools", "wheel"}


def test_the_installed_package_brings_its_migrations_and_both_commands(tmp_path: Path) -> None:
    site = tmp_path / "site"
    copy_checkout(tmp_path / "checkout")
    pip = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--no-build-isolation"]
    subprocess.run([*pip, "--target", str(site), str(tmp_path / "checkout")], check=True)
    assert {"machines-server", "machines-sidecar"} <= {path.name for path in (site / "bin").iterdir()}
    environment = clean_environment(PYTHONPATH=str(site), MACHINES_DATA_DIR=str(tmp_path / "var"))

    def run(*words: str) -> str:
        return subprocess.run(
            [sys.executable, *words],
            cwd=tmp_path,
            env=environment,
            capture_output=True,
            text=True,
            check=True,
        ).stdout

    where = run("-c", "import machines_server; print(machines_server.__file__)")
    assert where.strip() == str(site / "machines_server" / "__init__.py")
    assert "applied 0001_samples.sql" in run(str(site / "bin" / "machines-server"), "migrate")
