"""Who may import whom, and that nothing happens at import."""

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.running import clean_environment

ROOT = Path(__file__).parents[1]
SERVER, SIDECAR = "machines_server", "sidecar"

ANYTHING = {""}
COMPOSITION = ("__main__", "cli", "doctor", "gunicorn_conf", "wsgi")
"""What puts the parts together may import anything."""
MAY_IMPORT: dict[str, set[str]] = {
    "core": {"core"},
    "errors": set(),
    "config": {"errors"},
    "logs": {"core"},
    "system": {"core"},
    "allocator": set(),
    "poller_lock": set(),
    "yaml_document": {"core", "errors"},
    "machine_file": {"core", "errors", "yaml_document"},
    "parse_aside": {"core", "machine_file", "yaml_document"},
    "yaml_dump": {"yaml_document"},
    "folder_watch": set(),
    "registry_files": {"core", "errors", "folder_watch", "machine_file", "yaml_document"},
    "poll": {"core", "errors", "poll", "poller_lock"},
    "store": {"core", "errors", "store"},
    "auth": {"core", "errors", "auth"},
    "bodies": {"core"},
    "service": {"bodies", "core", "errors", "store", "registry_files", "poller_lock", "system", "yaml_dump"},
    "history": {"core", "errors", "store", "registry_files"},
    "route_parameters": {"core", "errors"},
    "routing": {"core", "errors", "store", "route_parameters"},
    "web": {"bodies", "core", "errors", "service", "history", "routing", "auth", "web"},
    "mcp_tools": {"core", "errors", "service", "history", "routing"},
    "client": set(),
    "cli_client": {"core", "errors", "client"},
    "cli_history": {"core", "errors", "cli_client"},
    "cli_pick": {"errors", "cli_client", "client"},
    **dict.fromkeys(COMPOSITION, ANYTHING),
}
"""By part of the package (a module or a folder), the parts that it may import."""

STANDARD_LIBRARY_ONLY = ("core", "errors", "poller_lock", "logs", "allocator")
LIBRARIES: dict[str, set[str]] = {
    "config": {"pydantic", "pydantic_settings"},
    "system": {"psutil"},
    "yaml_document": {"ruamel"},
    "yaml_dump": {"ruamel"},
    "machine_file": {"pydantic", "pydantic_core"},
    "route_parameters": {"pydantic"},
    "routing": {"orjson"},
    "poll": {"pycurl", "orjson", "msgspec", "apscheduler"},
    "store": {"orjson", "msgspec"},
    "bodies": {"orjson"},
    "service": {"orjson"},
    "client": {"requests"},
    **{name: set() for name in STANDARD_LIBRARY_ONLY},
}
"""The foreign libraries of the parts that have a few and no others."""


def modules(package: str) -> list[Path]:
    return sorted((ROOT / package).rglob("*.py"))


def imported(path: Path) -> Iterator[str]:
    """The full names of all that a file imports, wherever in it."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: imports are absolute"
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def part(path: Path) -> str:
    """The module or folder of the package that a file belongs to."""
    return path.relative_to(ROOT / SERVER).parts[0].removesuffix(".py")


def of_server(path: Path) -> set[str]:
    """The parts of the server that a file imports, without its own package's version."""
    found = {name.split(".")[1] for name in imported(path) if name.startswith(f"{SERVER}.")}
    return found - {"__version__"}


SERVER_FILES = [path for path in modules(SERVER) if path != ROOT / SERVER / "__init__.py"]


@pytest.mark.parametrize("path", SERVER_FILES, ids=lambda path: str(path.relative_to(ROOT)))
def test_a_part_imports_only_what_lies_below_it(path: Path) -> None:
    allowed = MAY_IMPORT.get(part(path))
    assert allowed is not None, f"say in {__name__} what {part(path)} may import"
    if allowed is not ANYTHING:
        assert of_server(path) - {part(path)} <= allowed


@pytest.mark.parametrize("path", SERVER_FILES, ids=lambda path: str(path.relative_to(ROOT)))
def test_a_part_uses_only_its_own_libraries(path: Path) -> None:
    foreign = {name.split(".")[0] for name in imported(path)} - sys.stdlib_module_names - {SERVER}
    if part(path) in LIBRARIES:
        assert foreign <= LIBRARIES[part(path)]
    assert not foreign & {"tests", "sidecar"}


def test_poll_store_and_files_know_nothing_of_each_other() -> None:
    groups = {
        "poll": {"poll"},
        "store": {"store"},
        "files": {"registry_files", "machine_file", "yaml_document", "parse_aside", "folder_watch"},
    }
    for path in SERVER_FILES:
        for group, parts in groups.items():
            if part(path) in parts:
                others = set().union(*(found for other, found in groups.items() if other != group))
                assert not of_server(path) & others, path


def test_the_rules_have_no_circle() -> None:
    done: set[str] = set()
    while left := {one for one in MAY_IMPORT if MAY_IMPORT[one] is not ANYTHING} - done:
        ready = {one for one in left if MAY_IMPORT[one] - {one} <= done}
        assert ready, f"a circle among {sorted(left)}"
        done |= ready


def test_nobody_imports_what_puts_the_parts_together_but_its_own_kind() -> None:
    for path in SERVER_FILES:
        if part(path) not in COMPOSITION:
            assert not of_server(path) & set(COMPOSITION), path


def test_sidecar_and_server_never_import_each_other() -> None:
    for path in modules(SIDECAR):
        assert not [name for name in imported(path) if name.split(".")[0] in (SERVER, "tests", "migrations")]
    for path in modules(SERVER):
        assert not [name for name in imported(path) if name.split(".")[0] in (SIDECAR, "tests")]


def at_import(tree: ast.Module) -> Iterator[ast.AST]:
    """All that runs when a module is imported: not what stands in functions."""
    waiting: list[ast.AST] = [tree]
    while waiting:
        node = waiting.pop()
        yield node
        inner: list[ast.AST] = list(ast.iter_child_nodes(node))
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            inner = [*node.decorator_list, *node.args.defaults]
        elif isinstance(node, ast.Lambda):
            inner = []
        waiting += inner


READS = {"load_settings", "read_settings", "getenv", "environ", "open", "connect", "socket"}


@pytest.mark.parametrize(
    "path", [*SERVER_FILES, *modules(SIDECAR)], ids=lambda path: str(path.relative_to(ROOT))
)
def test_nothing_is_read_at_import_but_by_gunicorns_settings(path: Path) -> None:
    used = set()
    for node in at_import(ast.parse(path.read_text())):
        if isinstance(node, ast.If) and ast.unparse(node.test) == "__name__ == '__main__'":
            continue
        if isinstance(node, ast.Call):
            called = node.func
            used.add(called.attr if isinstance(called, ast.Attribute) else getattr(called, "id", ""))
        elif isinstance(node, ast.Attribute) and node.attr == "environ":
            used.add("environ")
    allowed = {"load_settings"} if path == ROOT / SERVER / "gunicorn_conf.py" else set()
    assert used & READS == allowed


IMPORT_ALL = """
import importlib, os, sys, threading
TELLTALE = "socket.connect", "socket.getaddrinfo", "sqlite3.connect", "subprocess.Popen", "os.fork"
seen = []
sys.addaudithook(lambda event, args: seen.append((event, args)) if event in TELLTALE else None)
before = dict(os.environ), os.listdir("/proc/self/fd")
for name in sys.argv[1:]:
    importlib.import_module(name)
assert threading.active_count() == 1, threading.enumerate()
assert (dict(os.environ), os.listdir("/proc/self/fd")) == before
assert not seen, seen
"""


def test_importing_everything_starts_no_thread_and_opens_nothing(tmp_path: Path) -> None:
    names = [
        ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")
        for path in [*modules(SERVER), *modules(SIDECAR)]
        if path.name not in ("__main__.py", "gunicorn_conf.py", "gpu_child.py")
    ]
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", IMPORT_ALL, *names],
        cwd=tmp_path,
        env=clean_environment(PYTHONPATH=str(ROOT), MACHINES_PORT="none", AUTH_MODE="none"),
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert list(tmp_path.iterdir()) == []
