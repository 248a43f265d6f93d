"""Who may import whom, and that nothing happens at import."""

import ast
import subprocess
import sys
from collections.abc import Iterator, Sequence
from functools import cache
from pathlib import Path

import pytest

from tests.running import clean_environment

ROOT = Path(__file__).parents[1]
SERVER, SIDECAR, CLIENT = "machines_server", "sidecar", "machines_client"
SHARED = "host_facts", "log_limit", "request_signing", "tls_files"
"""What both of them import."""

ANYTHING = {""}
_OF_A_DATABASE = {
    "core",
    "errors",
    "failure_log",
    "store.api",
    "store.batches",
    "store.group_commit",
    "store.lease_limits",
    "store.migration_files",
    "store.sql",
    "store.values",
}
MAY_IMPORT: dict[str, set[str]] = {
    "core": set(),
    "errors": {"core"},
    "failure_log": set(),
    "folder_file": set(),
    "settings": {"core", "errors"},
    "contract": {"core", "errors"},
    "credentials": {"core", "errors", "folder_file"},
    "inventory": {"core", "errors", "folder_file"},
    "runtimes": {"core", "errors"},
    "poll": {"core", "errors", "failure_log", "runtimes", "store.api", "store.values"},
    "store": set(),
    "store.values": {"core"},
    "store.api": {"core", "store.values"},
    "store.lease_limits": {"core", "errors", "store.values"},
    "store.migration_files": {"errors"},
    "store.group_commit": set(),
    "store.batches": {"core", "errors", "failure_log", "store.values"},
    "store.sql": {"core", "store.values"},
    "store.sqlite": _OF_A_DATABASE,
    "store.postgres": _OF_A_DATABASE,
    "store.promql": {"core", "errors", "failure_log", "store.values"},
    "copying": {
        "core",
        "errors",
        "store.postgres",
        "store.promql",
        "store.sql",
        "store.sqlite",
        "store.values",
    },
    "counts": set(),
    "exposition": {"contract", "core", "counts", "errors", "services", "store.api", "store.values"},
    "services": {"contract", "core", "errors", "failure_log", "inventory", "store.api", "store.values"},
    "auth": {"core", "errors", "failure_log", "store.api"},
    "auth.verify_key": set(),
    "mcp": {"contract", "core", "errors"},
    "web": {"auth", "contract", "core", "counts", "errors", "exposition", "mcp", "services"},
    "client": set(),
    "cli": {"client", "core", "errors"},
    "cli.checks": ANYTHING,
    "cli.copying": ANYTHING,
    "cli.database": ANYTHING,
    "cli.doctor": ANYTHING,
    "cli.doctor_of_cluster": ANYTHING,
    "cli.doctor_of_keys": ANYTHING,
    "cli.doctor_of_credentials": {"cli", "core", "credentials"},
    "cli.installation": ANYTHING,
    "cli.main": ANYTHING,
    "cli.mcp": {"cli", "client", "errors", "mcp"},
    "cli.serve": ANYTHING,
    "cli.shared_database": ANYTHING,
    "cli.validation": ANYTHING,
    "process": ANYTHING,
    "__main__": ANYTHING,
}
"""By room (a folder or a module), the rooms and modules that it may import beside itself."""
COMPOSITION = {name for name, allowed in MAY_IMPORT.items() if allowed is ANYTHING}

LIBRARIES: dict[str, set[str]] = {
    "core": set(),
    "errors": set(),
    "failure_log": set(),
    "folder_file": set(),
    "settings": {"pydantic"},
    "contract": {"msgspec", "pydantic"},
    "credentials": set(),
    "inventory": {"pydantic", "pydantic_core", "ruamel"},
    "runtimes": {"msgspec", "orjson"},
    "poll": {"apscheduler", "orjson", "pycurl"},
    "store.api": set(),
    "store.values": set(),
    "store.lease_limits": set(),
    "store.migration_files": set(),
    "store.batches": set(),
    "store.sql": {"msgspec", "orjson"},
    "store.promql": {"cramjam", "msgspec", "pycurl"},
    "store.sqlite": {"msgspec", "orjson"},
    "store.postgres": {"msgspec", "orjson", "psycopg", "psycopg_pool"},
    "store": set(),
    "copying": {"orjson"},
    "counts": set(),
    "exposition": {"msgspec", "prometheus_client"},
    "services": {"host_facts", "msgspec"},
    "auth": {"msgspec", "pycurl", "request_signing"},
    "auth.verify_key": {"cryptography", "nacl"},
    "client": {"machines_client"},
    "mcp": {"anyio", "mcp", "msgspec", "orjson"},
}
"""The only libraries beside Python's own of the rooms that have a few."""


def modules(package: str) -> list[Path]:
    return sorted((ROOT / package).rglob("*.py"))


@cache
def parsed(path: Path) -> ast.Module:
    """What a file says; many tests ask for it."""
    return ast.parse(path.read_text())


@cache
def imported(path: Path) -> Sequence[str]:
    """The full names of all that a file imports, wherever in it."""
    found: list[str] = []
    for node in ast.walk(parsed(path)):
        if isinstance(node, ast.Import):
            found += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: imports are absolute"
            found += [f"{node.module}.{alias.name}" for alias in node.names]
    return found


def name_of(path: Path) -> str:
    """The name of a module within the package."""
    return ".".join(path.relative_to(ROOT / SERVER).with_suffix("").parts)


def rule_of(name: str) -> str:
    """The room with rules of its own that a module belongs to: the innermost one."""
    while name and name not in MAY_IMPORT:
        name = name.rpartition(".")[0]
    return name


def is_in(name: str, rooms: set[str]) -> bool:
    """Whether a module belongs to one of the rooms."""
    return any(f"{name}.".startswith(f"{room}.") for room in rooms)


def of_server(path: Path) -> set[str]:
    """The modules of the server that a file imports, and what it takes of them."""
    found = {name.partition(".")[2] for name in imported(path) if name.startswith(f"{SERVER}.")}
    return found - {"__version__"}


SHARED_FILES = [path for package in SHARED for path in modules(package)]
CLIENT_FILES = sorted((ROOT / CLIENT).glob("*.py"))  # a build leaves copies in a folder below
SERVER_FILES = [path for path in modules(SERVER) if path != ROOT / SERVER / "__init__.py"]


@pytest.mark.parametrize("path", SERVER_FILES, ids=name_of)
def test_a_room_imports_only_what_lies_below_it(path: Path) -> None:
    rule = rule_of(name_of(path))
    assert rule, f"say in {__name__} what {name_of(path)} may import"
    if MAY_IMPORT[rule] is not ANYTHING:
        allowed = MAY_IMPORT[rule] | {rule}
        assert not {name for name in of_server(path) if not is_in(name, allowed)}


@pytest.mark.parametrize("path", SERVER_FILES, ids=name_of)
def test_a_room_uses_only_its_own_libraries(path: Path) -> None:
    foreign = {name.split(".")[0] for name in imported(path)} - sys.stdlib_module_names - {SERVER}
    assert foreign <= LIBRARIES.get(rule_of(name_of(path)), foreign)
    assert not foreign & {"tests", "sidecar"}


def test_each_room_and_module_that_a_rule_names_is_there() -> None:
    there = {name_of(path) for path in SERVER_FILES}
    rooms = {name.rpartition(".")[0] for name in there if "." in name} | there
    rooms |= {name.partition(".")[0] for name in rooms}
    for name in {*MAY_IMPORT, *LIBRARIES, *set().union(*MAY_IMPORT.values())} - {""}:
        assert name in rooms, f"there is no {name}"


def test_the_rules_have_no_circle() -> None:
    done: set[str] = set()
    rules = {
        name: {rule_of(one) for one in MAY_IMPORT[name]} - {name}
        for name in MAY_IMPORT
        if name not in COMPOSITION
    }
    while left := set(rules) - done:
        ready = {one for one in left if rules[one] - COMPOSITION <= done}
        assert ready, f"a circle among {sorted(left)}"
        done |= ready


def test_no_modules_import_each_other_in_a_circle() -> None:
    there = {name_of(path).removesuffix(".__init__"): path for path in SERVER_FILES}
    needs = {
        name: {
            next((one for one in (found, found.rpartition(".")[0]) if one in there), name)
            for found in of_server(path)
        }
        - {name}
        for name, path in there.items()
    }
    while ready := {name for name, needed in needs.items() if not needed & set(needs)}:
        for name in ready:
            del needs[name]
    assert not needs, f"a circle among {sorted(needs)}"


def test_nobody_imports_what_puts_the_parts_together_but_its_own_kind() -> None:
    for path in SERVER_FILES:
        if rule_of(name_of(path)) not in COMPOSITION:
            assert not {name for name in of_server(path) if is_in(name, COMPOSITION - {"process"})}, path


def test_sidecar_and_server_never_import_each_other() -> None:
    for path in modules(SIDECAR):
        assert not [name for name in imported(path) if name.split(".")[0] in (SERVER, "tests", "migrations")]
    for path in modules(SERVER):
        assert not [name for name in imported(path) if name.split(".")[0] in (SIDECAR, "tests")]


def test_what_both_import_knows_neither_of_them() -> None:
    for package in SHARED:
        for path in modules(package):
            foreign = {name.split(".")[0] for name in imported(path)} - sys.stdlib_module_names
            assert foreign <= {package, "psutil", "cryptography"}, path


def test_the_client_knows_nothing_of_the_server_and_needs_requests_or_httpx() -> None:
    for path in CLIENT_FILES:
        foreign = {name.split(".")[0] for name in imported(path)} - sys.stdlib_module_names - {CLIENT}
        more = {"signing.py": {"request_signing"}, "tracing.py": {"opentelemetry"}}.get(path.name, set())
        allowed = {"httpx"} if path.name.startswith("async_") else {"requests", "urllib3", *more}
        assert foreign <= allowed, path


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
    "path",
    [*SERVER_FILES, *modules(SIDECAR), *SHARED_FILES, *CLIENT_FILES],
    ids=lambda path: str(path.relative_to(ROOT)),
)
def test_nothing_is_read_at_import_but_by_gunicorns_settings(path: Path) -> None:
    used = set()
    for node in at_import(parsed(path)):
        if isinstance(node, ast.If) and ast.unparse(node.test) == "__name__ == '__main__'":
            continue
        if isinstance(node, ast.Call):
            called = node.func
            used.add(called.attr if isinstance(called, ast.Attribute) else getattr(called, "id", ""))
        elif isinstance(node, ast.Attribute) and node.attr == "environ":
            used.add("environ")
    allowed = {"load_settings"} if path == ROOT / SERVER / "process" / "gunicorn_conf.py" else set()
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
        for path in [*modules(SERVER), *modules(SIDECAR), *SHARED_FILES, *CLIENT_FILES]
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
