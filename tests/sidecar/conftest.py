"""A stand-in NVIDIA driver, compiled once, and sidecars that are ended after the test."""

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import pytest

from tests.sidecar.running import Scenario, Sidecar
from tests.tools import build_library

SOURCE = Path(__file__).with_name("nvml_stub.c")


def _compile(folder: Path, *flags: str) -> Path:
    build_library(SOURCE, folder / "libnvidia-ml.so.1", "-pthread", *flags)
    return folder


@pytest.fixture(scope="session")
def driver_library(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return _compile(tmp_path_factory.mktemp("driver"))


@pytest.fixture(scope="session")
def old_driver_library(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return _compile(tmp_path_factory.mktemp("old-driver"), "-DOLD_DRIVER")


@pytest.fixture
def scenario(tmp_path: Path, driver_library: Path) -> Scenario:
    """The hardware of this test; at first a driver without a card."""
    scenario = Scenario(tmp_path, driver_library)
    scenario.show()
    return scenario


@pytest.fixture
def start(tmp_path: Path, scenario: Scenario) -> Iterator[Callable[..., Sidecar]]:
    """Starts a sidecar on the hardware of `scenario`; keyword arguments are environment variables.

    With `program` what starts it is other than `-m sidecar`.
    """
    started: list[Sidecar] = []

    def start_one(program: Sequence[str] = (), **environ: str) -> Sidecar:
        folder = tmp_path / f"sidecar-{len(started)}"
        folder.mkdir()
        started.append(Sidecar(folder, {**scenario.environ, **environ}, program))
        return started[-1]

    yield start_one
    for sidecar in started:
        if sidecar.process.poll() is None:
            sidecar.end()


@pytest.fixture
def sidecar(start: Callable[..., Sidecar], scenario: Scenario) -> Sidecar:
    """A sidecar on a host without an NVIDIA driver."""
    scenario.show(kernel=None)
    return start()
