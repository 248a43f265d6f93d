"""Folders of machine files that are closed after each test."""

from collections.abc import Iterator
from contextlib import ExitStack, closing
from pathlib import Path

import pytest

from machines_server.inventory.folder import RegistryFiles
from tests.inventory.texts import OpenFiles, write


@pytest.fixture
def open_files() -> Iterator[OpenFiles]:
    """Makes RegistryFiles, with the same arguments."""
    with ExitStack() as stack:
        yield lambda folder, **options: stack.enter_context(closing(RegistryFiles(folder, **options)))


@pytest.fixture
def files(tmp_path: Path, open_files: OpenFiles) -> RegistryFiles:
    """A folder with the machines alpha and beta."""
    write(tmp_path, "beta")
    write(tmp_path, "alpha")
    return open_files(tmp_path)
