"""The page's JavaScript: who imports whom, what the first page loads, and its functions under node."""

import json
import re
import shutil
import subprocess
from pathlib import Path

import pytest

from tests.running import clean_environment
from tests.tools import ALL_TOOLS, tool

ROOT = Path(__file__).parent.parent
STATIC = ROOT / "machines_server" / "web" / "static"
NODE_TESTS = sorted((ROOT / "tests" / "javascript").glob("*.test.mjs"))
MODULES = [path for path in STATIC.rglob("*.js") if path.parent.name != "vendor" and path.name != "theme.js"]
"""All but foreign scripts, and the one that runs before the page is painted, which is no module."""

STATIC_IMPORT = re.compile(r'^(?:import|export)\b(?:[^;"]*?\bfrom)?\s*"([^"]+)";', re.MULTILINE)
DYNAMIC_IMPORT = re.compile(r'\bimport\(\s*"([^"]+)"\s*\)')
ANY_IMPORT = re.compile(r"^import\b|\bimport\(|^export\s*[*{]", re.MULTILINE)

FOLDERS_BELOW = {
    "base": {"base"},
    "shared": {"base", "shared"},
    "fleet": {"base", "shared", "fleet"},
    "models": {"base", "shared", "models"},
    "machine": {"base", "shared", "machine"},
    "compare": {"base", "shared", "compare"},
    "events": {"base", "shared", "events"},
    "leases": {"base", "shared", "leases"},
    "pages": {"base", "shared", "fleet", "models", "machine", "compare", "events", "leases"},
    "": {"base", "shared", "pages", ""},
}
"""From which folders the modules of a folder may import; "" is the folder of app.js."""


def imports_of(module: Path, *patterns: re.Pattern[str]) -> set[Path]:
    """The modules that one names in its imports of these kinds."""
    text = module.read_text()
    return {(module.parent / name).resolve() for pattern in patterns for name in pattern.findall(text)}


def folder_of(module: Path) -> str:
    return "" if module.parent == STATIC else str(module.parent.relative_to(STATIC))


def reachable(module: Path, *patterns: re.Pattern[str]) -> set[Path]:
    """All modules that importing this one loads, without itself unless there is a circle."""
    found: set[Path] = set()
    waiting = imports_of(module, *patterns)
    while waiting:
        found |= waiting
        waiting = {name for one in waiting for name in imports_of(one, *patterns)} - found
    return found


def test_every_import_is_understood_and_leads_to_a_module() -> None:
    for module in MODULES:
        named = imports_of(module, STATIC_IMPORT, DYNAMIC_IMPORT)
        assert named <= set(MODULES), module
        text = module.read_text()
        count = len(STATIC_IMPORT.findall(text)) + len(DYNAMIC_IMPORT.findall(text))
        assert count == len(ANY_IMPORT.findall(text)), f"{module} has an import that this test cannot read"


def test_no_module_imports_itself_in_a_circle() -> None:
    circles = [
        str(one.relative_to(STATIC))
        for one in MODULES
        if one in reachable(one, STATIC_IMPORT, DYNAMIC_IMPORT)
    ]
    assert circles == []


def test_imports_lead_only_to_the_folders_below() -> None:
    for module in MODULES:
        for imported in imports_of(module, STATIC_IMPORT, DYNAMIC_IMPORT):
            assert folder_of(imported) in FOLDERS_BELOW[folder_of(module)], f"{module} imports {imported}"


def test_the_first_page_preloads_exactly_the_modules_that_it_needs() -> None:
    index = (STATIC / "index.html").read_text()
    preloaded = re.findall(r'<link rel="modulepreload" href="\./static/([^"]+)">', index)
    needed = {str(one.relative_to(STATIC)) for one in reachable(STATIC / "app.js", STATIC_IMPORT)}
    assert sorted(preloaded) == sorted(needed)


@pytest.mark.parametrize("path", NODE_TESTS, ids=lambda path: path.stem)
def test_functions_of_the_page_do_under_node_what_they_should(path: Path) -> None:
    # The language and time zone of the reader decide how numbers and times are written.
    reader = clean_environment(LC_ALL="en_GB.UTF-8", TZ="Europe/Warsaw")
    done = subprocess.run(
        [tool("node"), "--test", path], cwd=ROOT, env=reader, stdout=subprocess.PIPE, text=True, check=False
    )
    assert done.returncode == 0, done.stdout


def test_what_is_installed_is_pinned_by_version_and_hash_and_names_no_registry() -> None:
    wanted = json.loads((ROOT / "package.json").read_text())["devDependencies"]
    packages = json.loads((ROOT / "package-lock.json").read_text())["packages"]
    del packages[""]  # this project
    assert {name: packages[f"node_modules/{name}"]["version"] for name in wanted} == wanted
    assert all(package["integrity"].startswith("sha512-") for package in packages.values())
    assert not any("resolved" in package for package in packages.values())


@pytest.mark.parametrize(("settings", "status"), [({}, 0), ({ALL_TOOLS: "1"}, 1)])
def test_without_npm_the_check_is_left_out_with_a_reason_and_fails_in_ci(
    tmp_path: Path, settings: dict[str, str], status: int
) -> None:
    for program in ("dirname", "node", "sed", "sh"):
        (tmp_path / program).symlink_to(
            tool("node") if program == "node" else shutil.which(program) or program
        )
    environment = clean_environment(PATH=str(tmp_path), **settings)
    words = ["sh", str(ROOT / "tools" / "javascript.sh")]
    done = subprocess.run(words, env=environment, stderr=subprocess.PIPE, text=True, check=False)
    assert done.returncode == status
    assert done.stderr.endswith("npm is not installed (Debian: npm)\n")
