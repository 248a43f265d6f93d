"""TypeScript types can be generated from openapi.json, and a program that uses them compiles."""

import re
import shutil
import subprocess
from pathlib import Path

import pytest

from tests.tools import tool
from tools.openapi import PATH

ROOT = Path(__file__).parents[2]
TSC = ("--noEmit", "--strict", "--exactOptionalPropertyTypes", "--module", "nodenext", "--target", "es2022")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The example and the types."""
    tool("node"), tool("npm")
    subprocess.run(["sh", "tools/node_modules.sh"], cwd=ROOT, check=True)
    folder = tmp_path_factory.mktemp("typescript")
    shutil.copy(Path(__file__).with_name("example.ts"), folder)
    run(folder, "openapi-typescript", str(PATH), "--output", "api.d.ts")
    return folder


def run(folder: Path, program: str, *words: str) -> None:
    done = subprocess.run(
        [ROOT / "node_modules" / ".bin" / program, *words],
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr


def test_a_program_with_types_of_the_api_compiles(folder: Path) -> None:
    run(folder, "tsc", *TSC, "example.ts")


def test_a_misspelt_key_does_not_compile(folder: Path) -> None:
    text = (folder / "example.ts").read_text().replace("lease.expires_at", "lease.expires")
    (folder / "wrong.ts").write_text(text)
    with pytest.raises(AssertionError, match="expires"):
        run(folder, "tsc", *TSC, "wrong.ts")


def test_the_program_of_the_docs_compiles(folder: Path) -> None:
    (text,) = re.findall("```ts\n(.*?)```", (ROOT / "docs" / "openapi.md").read_text(), re.DOTALL)
    (folder / "docs.mts").write_text(text)
    run(folder, "tsc", *TSC, "--lib", "es2022,dom", "docs.mts")
