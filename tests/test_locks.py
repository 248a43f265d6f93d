"""The lock files name exactly what is installed, and known vulnerabilities are reported."""

import configparser
import json
import re
import subprocess
import sys
import tomllib
import zipfile
from base64 import urlsafe_b64encode
from collections.abc import Iterator
from hashlib import sha256
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from importlib.metadata import distributions
from pathlib import Path
from threading import Thread

import pytest
from packaging.requirements import Requirement
from packaging.utils import NormalizedName, canonicalize_name

from tests.running import clean_environment, copy_checkout
from tests.tools import tool

ROOT = Path(__file__).parent.parent
LOCKS = sorted((ROOT / "locks").glob("*.txt"))
SERVER = ("requirements.txt", "sidecar/requirements.txt")
OSV = ROOT / "tests" / "fixtures" / "osv"


def locked(name: str, checkout: Path = ROOT) -> dict[NormalizedName, Requirement]:
    """What a lock file pins."""
    text = (checkout / "locks" / f"{name}.txt").read_text().replace("\\\n", "")
    lines = [line for line in text.splitlines() if line and not line.lstrip().startswith("#")]
    requirements = [Requirement(line.partition("--hash")[0]) for line in lines]
    found = {canonicalize_name(one.name): one for one in requirements}
    assert len(found) == len(requirements)
    return found


def version(pin: Requirement) -> str:
    (only,) = pin.specifier
    assert only.operator == "=="
    return only.version


def pins(name: str, checkout: Path = ROOT) -> dict[NormalizedName, str]:
    """The versions of a lock file."""
    return {package: version(pin) for package, pin in locked(name, checkout).items()}


def required(*files: str) -> list[Requirement]:
    lines = [line for file in files for line in (ROOT / file).read_text().splitlines()]
    return [Requirement(line) for line in lines if not line.startswith("#")]


def dev_requirements() -> list[Requirement]:
    setup = configparser.ConfigParser()
    setup.read(ROOT / "setup.cfg")
    return [Requirement(line) for line in setup["options.extras_require"]["dev"].split()]


def build_requirements() -> list[Requirement]:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    return [Requirement(line) for line in project["build-system"]["requires"]]


@pytest.mark.parametrize(
    ("name", "requirements"),
    [
        ("sidecar", required(SERVER[1])),
        ("server", required(*SERVER)),
        ("dev", [*required(*SERVER), *dev_requirements()]),
        ("build", build_requirements()),
    ],
)
def test_each_requirement_is_locked_at_a_version_that_fits(
    name: str, requirements: list[Requirement]
) -> None:
    lock = locked(name)
    wrong = [
        str(one)
        for one in requirements
        if (pin := lock.get(canonicalize_name(one.name))) is None or version(pin) not in one.specifier
    ]
    assert wrong == [], "run `make lock`"


def test_what_is_tested_is_what_the_server_and_the_sidecar_run_with() -> None:
    dev, server, sidecar = (pins(name) for name in ("dev", "server", "sidecar"))
    assert sidecar.items() < server.items() < dev.items()


def test_the_installed_packages_are_the_locked_ones_and_lack_none_of_theirs() -> None:
    dev = locked("dev") | locked("build")
    installed = {canonicalize_name(one.metadata["Name"]): one.version for one in distributions()}
    expected = {
        name: version(pin) for name, pin in dev.items() if pin.marker is None or pin.marker.evaluate()
    }
    assert {name: installed.get(name) for name in expected} == expected
    check = subprocess.run(
        [sys.executable, "-m", "pip", "check"], capture_output=True, text=True, check=False
    )
    assert check.returncode == 0, check.stdout


@pytest.mark.parametrize("path", LOCKS, ids=lambda path: path.stem)
def test_every_package_of_a_lock_has_hashes_and_no_lock_says_where_it_came_from(path: Path) -> None:
    text = path.read_text()
    entries = re.split(r"^(?=[a-z0-9])", text, flags=re.MULTILINE)[1:]
    assert entries
    assert [entry for entry in entries if not re.search(r"--hash=sha256:[0-9a-f]{64}\b", entry)] == []
    assert re.findall(r"://|^ *-[^-]|index|find-links", text, re.MULTILINE) == []


def test_the_sidecars_lock_serves_windows_and_macos_as_well() -> None:
    """waitress, prometheus-client and nvidia-ml-py are pure Python; psutil has wheels for each system."""
    text = (ROOT / "locks" / "sidecar.txt").read_text()
    psutil = text.partition("psutil==")[2].partition("# via")[0]
    assert psutil.count("--hash") > 10
    assert str(locked("server")[canonicalize_name("tzdata")].marker) == 'sys_platform == "win32"'


def wheel(folder: Path, text: str) -> Path:
    """A package of one module, `pinned`."""
    info = "pinned-1.0.dist-info"
    files = {
        "pinned.py": text,
        f"{info}/METADATA": "Metadata-Version: 2.1\nName: pinned\nVersion: 1.0\n",
        f"{info}/WHEEL": "Wheel-Version: 1.0\nGenerator: tests\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
    }
    record = [
        f"{name},sha256={urlsafe_b64encode(sha256(content.encode()).digest()).rstrip(b'=').decode()},{len(content)}"
        for name, content in files.items()
    ]
    path = folder / "pinned-1.0-py3-none-any.whl"
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in (files | {f"{info}/RECORD": "\n".join([*record, f"{info}/RECORD,,"])}).items():
            archive.writestr(zipfile.ZipInfo(name), content)  # with the same time always
    return path


@pytest.fixture(scope="module")
def checkout(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy whose sidecar and server need only the package `pinned`, which lies beside it."""
    folder = tmp_path_factory.mktemp("locks") / "checkout"
    copy_checkout(folder)
    return folder


def make(folder: Path, *words: str, **environment: str) -> subprocess.CompletedProcess[str]:
    settings = clean_environment(PIP_FIND_LINKS=str(folder), **environment)
    del settings["PYTHONWARNINGS"]  # what pip warns of is not ours
    command = [tool("make"), f"PYTHON={sys.executable}", *words]
    return subprocess.run(command, cwd=folder, env=settings, capture_output=True, text=True, check=False)


def test_a_package_is_refused_without_a_hash_and_when_a_byte_of_it_changed(
    checkout: Path,
) -> None:
    ready, python = ".venv-sidecar/.ready", checkout / ".venv-sidecar" / "bin" / "python"
    lock = checkout / "locks" / "sidecar.txt"
    good = sha256(wheel(checkout, "x = 1").read_bytes()).hexdigest()
    lock.write_text("pinned==1.0\n")
    assert "Hashes are required" in make(checkout, ready, PIP_NO_INDEX="1").stderr
    lock.write_text(f"pinned==1.0 --hash=sha256:{good}\n")
    wheel(checkout, "x = 2")
    refused = make(checkout, ready, PIP_NO_INDEX="1")
    assert refused.returncode != 0
    assert "DO NOT MATCH THE HASHES" in refused.stderr
    assert not (checkout / ready).exists()
    assert subprocess.run([python, "-c", "import pinned"], capture_output=True, check=False).returncode == 1
    wheel(checkout, "x = 1")
    done = make(checkout, ready, PIP_NO_INDEX="1", PIP_USER="1")
    assert done.returncode == 0, done.stderr
    assert subprocess.run([python, "-c", "import pinned"], check=False).returncode == 0


def test_settings_of_pip_for_other_projects_do_not_change_what_is_installed_nor_where(checkout: Path) -> None:
    good = sha256(wheel(checkout, "x = 1").read_bytes()).hexdigest()
    (checkout / "locks" / "server.txt").write_text(f"pinned==1.0 --hash=sha256:{good}\n")
    others = checkout / "others.txt"
    others.write_text("pinned==2.0\nsetuptools<1\n")
    settings = checkout / "pip.conf"
    settings.write_text(f"[install]\nuser = true\nrequire-hashes = true\nconstraint = {others}\n")
    done = make(
        checkout,
        ".venv/.ready",
        PIP_CONFIG_FILE=str(settings),
        PIP_USER="1",
        PIP_CONSTRAINT=str(others),
        PIP_REQUIRE_HASHES="1",
        PIP_TARGET=str(checkout / "elsewhere"),
    )
    assert done.returncode == 0, done.stderr
    code = "import pinned, machines_server.migrations as ours; print(*ours.__path__)"
    python = checkout / ".venv" / "bin" / "python"
    shown = subprocess.run([python, "-c", code], cwd="/", capture_output=True, text=True, check=True)
    assert shown.stdout.strip() == str(checkout / "migrations")


class Osv(BaseHTTPRequestHandler):
    """Says of a version of a package what is recorded of it."""

    def do_POST(self) -> None:
        """The one question that there is."""
        question = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        recorded = OSV / f"{question['package']['name']}-{question['version']}.json"
        answer = recorded.read_bytes() if recorded.exists() else b"{}"
        self.send_response(200)
        self.send_header("Content-Length", str(len(answer)))
        self.end_headers()
        self.wfile.write(answer)

    def log_message(self, *_: object) -> None:
        """Be quiet."""


@pytest.fixture
def osv() -> Iterator[str]:
    """AUDIT_ARGS that ask the recorded answers."""
    with ThreadingHTTPServer(("127.0.0.1", 0), Osv) as server:
        thread = Thread(target=server.serve_forever)
        thread.start()
        yield f"AUDIT_ARGS=--osv-url http://127.0.0.1:{server.server_port}/"
        server.shutdown()
        thread.join()


def test_make_audit_lists_every_locked_package_and_ends_well_where_no_weakness_is_known(
    osv: str, tmp_path: Path
) -> None:
    done = make(ROOT, "audit", osv, f"SBOM={tmp_path}")
    assert done.returncode == 0, done.stderr
    assert "No known vulnerabilities found" in done.stderr
    for path in LOCKS:
        listed = json.loads((tmp_path / f"{path.stem}.json").read_text())
        assert listed["bomFormat"] == "CycloneDX"
        components = {canonicalize_name(one["name"]): one["version"] for one in listed["components"]}
        assert components == pins(path.stem)


def test_make_audit_fails_and_names_the_weak_package_and_the_version_that_mends_it(
    osv: str, tmp_path: Path
) -> None:
    weak = tmp_path / "weak.txt"
    weak.write_text(
        "".join(f"{name} --hash=sha256:{'0' * 64}\n" for name in ("jinja2==3.1.5", "flask==3.1.3"))
    )
    done = make(ROOT, "audit", osv, f"SBOM={tmp_path}", f"LOCKS={weak}")
    assert "Error 1" in done.stderr  # what pip-audit ended with; make itself ends with 2
    assert done.returncode == 2
    row = re.search(r"^jinja2 +3\.1\.5 +CVE-2025-27516 +3\.1\.6", done.stdout, re.MULTILINE)
    assert row, done.stdout
    assert "flask" not in done.stdout


def test_the_locks_are_those_that_make_lock_writes_whatever_a_developers_settings_are(tmp_path: Path) -> None:
    checkout = tmp_path / "checkout"
    copy_checkout(checkout)
    (checkout / "uv.toml").write_text("[pip]\nemit-index-url = true\nemit-find-links = true\n")
    before = {path.stem: pins(path.stem, checkout) for path in LOCKS}
    subprocess.run([sys.executable, "-m", "tools.lock"], cwd=checkout, env=clean_environment(), check=True)
    assert {path.stem: pins(path.stem, checkout) for path in LOCKS} == before
    assert [path.name for path in LOCKS if "://" in (checkout / "locks" / path.name).read_text()] == []
