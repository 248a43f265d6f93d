"""The recipes that need no extra package, and rules that hold for all of them."""

import os
import re
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from tests.fakes import FakeFleet, machine_yaml, wait_until
from tests.recipes.fake_ollama import Job
from tests.recipes.running import LLAMA, PHI, RECIPES, SCATTERED, Fleet
from tests.running import RunningServer, clean_environment, wait_for_status
from tests.tools import tool

GENERATED = Job("/api/generate", LLAMA, "Why is the sky blue?", [""])
"""The job of most recipes, at a time when the recipe has a lease."""


def without_package(name: str) -> list[str]:
    """The command that runs a recipe which needs no package but requests."""
    path = str(RECIPES / name)
    if name.endswith(".py"):
        return [sys.executable, path]
    if name.endswith(".mjs"):
        return [tool("node"), path]
    tool("curl")
    tool("jq")
    return ["sh", path]


@pytest.mark.parametrize("name", ["plain_requests.py", "curl.sh", "fetch.mjs"])
def test_a_program_without_our_client_has_a_lease_while_its_job_runs(fleet: Fleet, name: str) -> None:
    assert fleet.run(*without_package(name)) == f"{SCATTERED}\n"
    assert fleet.workstation.jobs == [GENERATED]


def test_a_url_may_lack_its_scheme(fleet: Fleet) -> None:
    for name in ("plain_requests.py", "fetch.mjs"):
        address = fleet.server.url.removeprefix("http://")
        assert fleet.run(*without_package(name), MACHINES_URL=address) == f"{SCATTERED}\n"


def test_work_in_javascript_is_told_that_its_lease_is_lost(fleet: Fleet) -> None:
    path = (RECIPES / "lease.mjs").as_uri()
    program = f"""
        import {{ withLease }} from "{path}";
        await withLease({{ model: "{LLAMA}" }}, async (lease, signal) => {{
          await fetch("{fleet.server.url}/api/leases/" + lease.lease, {{ method: "DELETE" }});
          await new Promise((resolve) => signal.addEventListener("abort", resolve));
          console.log(signal.reason.message);
        }}, 1.5);
        """
    said = fleet.run(tool("node"), "--input-type=module", "--eval", program)
    assert "expired or was released" in said


def test_such_a_program_says_that_nobody_has_the_model(server: RunningServer, fakes: FakeFleet) -> None:
    server.write("one.yaml", machine_yaml("one", fakes.sidecar(), None, ("llama3.1:8b",)))
    wait_for_status(server, "one", "online")
    environment = clean_environment(MACHINES_URL=server.url)
    for name in ("plain_requests.py", "curl.sh", "fetch.mjs"):
        words = without_package(name)
        done = subprocess.run(words, env=environment, capture_output=True, text=True, timeout=60, check=False)
        assert done.returncode == 1, name
        assert LLAMA in done.stderr, name
        assert "llama3.1:8b" in done.stderr, name
        assert done.stdout == "", name


def test_the_writer_works_on_a_gpu_and_the_reviewer_on_a_cpu(fleet: Fleet) -> None:
    said = fleet.run(*without_package("writer_and_reviewer.py"))
    assert said == f"{SCATTERED}\n\nNotes of the reviewer: {fleet.office.reply}\n"
    for ollama, model, holder in ((fleet.workstation, LLAMA, "writer"), (fleet.office, PHI, "reviewer")):
        assert [(job.model, job.holders) for job in ollama.jobs] == [(model, [holder])] * 2
    assert fleet.workstation.jobs[0].prompt.endswith("\nWhy the sky is blue")
    assert fleet.workstation.jobs[1].prompt.endswith(f"\nNotes of the reviewer: {fleet.office.reply}")
    assert fleet.office.jobs[0].prompt.endswith(f"\n{SCATTERED}")


def test_the_dispatcher_does_every_job_under_a_lease(fleet: Fleet) -> None:
    said = fleet.run(*without_package("dispatcher.py"))
    assert (said.count(SCATTERED), said.count(fleet.office.reply)) == (4, 4)
    for ollama, model in ((fleet.workstation, LLAMA), (fleet.office, PHI)):
        assert {job.model for job in ollama.jobs} == {model}
        assert sorted(job.prompt for job in ollama.jobs) == [f"Write page {n}." for n in range(1, 5)]
        assert all(job.holders for job in ollama.jobs)


def test_the_dispatcher_says_that_nobody_can_load_a_model(server: RunningServer, fakes: FakeFleet) -> None:
    server.write("one.yaml", machine_yaml("one", fakes.sidecar(), fakes.ollama("llama3.1:8b")))
    wait_until(lambda: server.fleet()["one"].get("loaded_models"))
    environment, words = clean_environment(MACHINES_URL=server.url), without_package("dispatcher.py")
    done = subprocess.run(words, env=environment, capture_output=True, text=True, timeout=60, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (1, "", f"no machine can load {LLAMA}\n")


def test_the_line_for_cron_runs(fleet: Fleet) -> None:
    tool("curl")
    tool("jq")
    lines = [line for line in (RECIPES / "crontab").read_text().splitlines() if line and line[0] != "#"]
    environment = dict(line.split("=", 1) for line in lines[:-1])  # cron expands nothing in it
    *_, command = lines[-1].split(maxsplit=5)
    assert "%" not in command  # which cron takes for the end of a line
    installed = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    environment |= {"PATH": installed, "MACHINES_URL": fleet.server.url, "HOME": os.environ.get("HOME", "/")}
    done = subprocess.run(
        ["/bin/sh", "-c", command], env=environment, capture_output=True, text=True, timeout=60, check=False
    )
    assert done.stdout == f"{SCATTERED}\n", done.stderr
    assert fleet.workstation.jobs == [replace(GENERATED, holders=["nightly"])]
    (lease,) = fleet.server.get("/api/leases").json()["leases"]
    assert lease["ttl_s"] == 600
    assert f"leases release {lease['lease']} " in done.stderr
    fleet.release(lease["lease"])


def test_the_night_watch_tells_what_goes_offline_also_after_the_server_was_away(
    tmp_path: Path, fakes: FakeFleet
) -> None:
    server, sidecar, output = RunningServer(tmp_path), fakes.sidecar(), tmp_path / "output"
    server.write("one.yaml", machine_yaml("one", sidecar, None))
    environment = clean_environment(MACHINES_URL=server.url)
    with server:
        wait_for_status(server, "one", "online")
        with output.open("w") as file:
            words = without_package("night_watch.py")
            watch = subprocess.Popen(words, env=environment, stdout=file, stderr=subprocess.STDOUT)
        wait_until(lambda: "watching" in output.read_text())
    try:
        wait_until(lambda: "no news: " in output.read_text())
        with server:
            sidecar.stop()
            wait_until(lambda: " one offline sidecar: connection refused" in output.read_text())
            sidecar.start()
            wait_until(lambda: " one online" in output.read_text())
        assert watch.poll() is None
    finally:
        watch.kill()
        watch.wait()


def test_every_recipe_is_short_listed_and_run_by_a_test() -> None:
    listed = re.findall(r"^\| `([^`]+)` \|", (RECIPES / "README.md").read_text(), re.MULTILINE)
    files = [path for path in RECIPES.iterdir() if path.name != "README.md"]
    assert sorted(listed) == sorted(path.name for path in files)
    tests = "".join(path.read_text() for path in Path(__file__).parent.glob("test_*.py"))
    for path in files:
        assert f'"{path.name}"' in tests, f"tests/recipes: run {path.name}"
        assert len(path.read_text().splitlines()) <= 25, path.name
