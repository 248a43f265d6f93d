"""machines-client as a separate distribution, built from the checkout and installed elsewhere."""

import shutil
import subprocess
import sys
import zipfile
from importlib.metadata import distribution
from pathlib import Path

import pytest
from packaging.requirements import Requirement

import machines_client
from tests.client.two import LLAMA, Two
from tests.running import clean_environment, copy_checkout

ROOT = Path(__file__).parents[2]


def build(source: Path, target: Path) -> Path:
    """Build a wheel with what is installed here."""
    options = ("--quiet", "--no-deps", "--no-build-isolation", "--wheel-dir", str(target))
    subprocess.run(
        [sys.executable, "-m", "pip", "wheel", *options, str(source)],
        env=clean_environment(PYTHONWARNINGS="", PIP_NO_INDEX="1"),
        check=True,
    )
    (wheel,) = target.glob("*.whl")
    return wheel


@pytest.fixture(scope="module")
def checkout(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy, since a build leaves files beside its sources."""
    folder = tmp_path_factory.mktemp("distribution") / "checkout"
    copy_checkout(folder)
    return folder


def needed(requirement: str, found: set[str]) -> set[str]:
    """The distributions that a requirement means here, with those that they need."""
    wanted = Requirement(requirement)
    if wanted.name not in found and (wanted.marker is None or wanted.marker.evaluate({"extra": ""})):
        found.add(wanted.name)
        for one in distribution(wanted.name).requires or ():
            needed(one, found)
    return found


def python_with(folder: Path, wheel: Path, *extra: str) -> Path:
    """The Python of a new environment that has the wheel, and of ours only what the wheel requires."""
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", folder], check=True)
    (site,) = folder.glob("lib/python*/site-packages")
    zipfile.ZipFile(wheel).extractall(site)
    (metadata,) = site.glob("machines_client-*/METADATA")
    lines = metadata.read_text().splitlines()
    required = [line.partition(": ")[2] for line in lines if line.startswith("Requires-Dist: ")]
    found = set[str]()
    for one in required:
        marker = Requirement(one).marker
        if marker is None or any(marker.evaluate({"extra": name}) for name in extra):
            needed(one.partition(";")[0], found)
    for name in found:
        of = distribution(name)
        for top in {file.parts[0] for file in of.files or () if file.parts[0] not in ("..", "__pycache__")}:
            if not (site / top).exists():
                (site / top).symlink_to(Path(str(of.locate_file(top))))
    return folder / "bin" / "python"


SYNC = f"""
import machines_client, sys
from machines_client import Client
with Client().lease("{LLAMA}") as lease:
    print(lease.name, machines_client.VERSION)
assert "httpx" not in sys.modules and "machines_server" not in sys.modules
"""
SIGNED = """
from machines_client import Client
Client(agent="me", private_key="key")
"""
ASYNC = f"""
import asyncio
from machines_client import AsyncClient
async def main():
    async with AsyncClient() as client, client.lease("{LLAMA}") as lease:
        print(lease.name)
asyncio.run(main())
"""


def run(python: Path, program: str, url: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [python, "-I", "-c", program],
        cwd=python.parent,
        env=clean_environment(MACHINES_URL=url),
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def test_its_wheel_works_with_nothing_but_what_it_requires(checkout: Path, tmp_path: Path, two: Two) -> None:
    wheel = build(checkout / "machines_client", tmp_path / "wheels")
    names = zipfile.ZipFile(wheel).namelist()
    assert "machines_client/py.typed" in names
    sources = {
        f"{package}/{path.name}"
        for package in ("machines_client", "request_signing")
        for path in (ROOT / package).glob("*.py")
    }
    assert {name for name in names if name.endswith(".py")} == sources
    plain, full = python_with(tmp_path / "plain", wheel), python_with(tmp_path / "full", wheel, "async")
    done = run(plain, SYNC, two.server.url)
    assert (done.stdout, done.stderr) == (f"more {machines_client.VERSION}\n", "")
    assert "needs httpx" in run(plain, ASYNC, two.server.url).stderr
    assert "signing needs the package cryptography" in run(plain, SIGNED, two.server.url).stderr
    done = run(full, ASYNC, two.server.url)
    assert (done.stdout, done.stderr) == ("more\n", "")


@pytest.fixture(scope="module")
def server_wheel(checkout: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What is in the wheel of the server."""
    folder = tmp_path_factory.mktemp("server")
    shutil.unpack_archive(build(checkout, folder), folder / "unpacked", "zip")
    return folder / "unpacked"


def test_the_servers_wheel_has_the_same_code_and_version(server_wheel: Path) -> None:
    for path in (ROOT / "machines_client").glob("*.py"):
        assert (server_wheel / "machines_client" / path.name).read_bytes() == path.read_bytes()
    assert (server_wheel / "machines_client" / "py.typed").exists()
    assert distribution("machines-server").version == machines_client.VERSION


def test_the_servers_wheel_installs_the_manual_pages(server_wheel: Path) -> None:
    (folder,) = server_wheel.glob("*.data/data/share/man/man1")
    found = {page.name: page.read_text() for page in folder.iterdir()}
    assert found == {page.name: page.read_text() for page in (ROOT / "man").iterdir()}
    assert "machines-server-pick.1" in found
