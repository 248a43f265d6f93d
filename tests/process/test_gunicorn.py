"""All internals of gunicorn that we use: this fails if a new version lacks one."""

import ast
import inspect
import textwrap
from pathlib import Path

import pytest
from gunicorn.arbiter import Arbiter
from gunicorn.asgi import protocol
from gunicorn.asgi.protocol import ASGIProtocol
from gunicorn.config import KNOWN_SETTINGS
from gunicorn.glogging import Logger
from gunicorn.sock import BaseSocket
from gunicorn.workers import base
from gunicorn.workers.gasgi import ASGIWorker
from gunicorn.workers.workertmp import WorkerTmp

from machines_server.process.gunicorn_worker import Heartbeat, Worker
from machines_server.web.connections import Connection

OURS: dict[type, type] = {Connection: ASGIProtocol, Worker: ASGIWorker}
"""By class of ours the one of gunicorn's that it extends."""
OVERRIDDEN: dict[type, set[str]] = {
    Connection: {
        *("connection_made", "connection_lost", "data_received", "eof_received"),
        *("_on_headers_complete", "_on_body", "_on_message_complete", "_build_http_scope"),
        *("_arm_keepalive_timer", "_send_error_response"),
    },
    Worker: {"init_signals", "load_wsgi", "handle_exit_signal", "handle_quit_signal", "_serve"},
}
"""Methods of gunicorn's for which we have our own."""
USED: dict[type, set[str]] = {
    Connection: {
        *("_current_request", "_closed", "transport"),
        *("_keepalive_timeout", "_safe_write", "_get_reason_phrase"),
    },
    Worker: {
        *("SIGNALS", "alive", "cfg", "log", "loop", "ppid", "servers", "sockets"),
        *("notify", "_quick_shutdown"),
    },
}
"""Attributes of gunicorn's that ours read, set or call."""
OF_ARBITER = {"WORKERS", "LISTENERS", "num_workers", "spawn_worker"}
CONF = Path(inspect.getfile(Worker)).with_name("gunicorn_conf.py")


def of_self(kind: type) -> set[str]:
    """The attributes of `self` that the source of a class names."""
    return {
        node.attr
        for node in ast.walk(ast.parse(textwrap.dedent(inspect.getsource(kind))))
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id == "self"
    }


def there(kind: type) -> set[str]:
    """The attributes that instances of a class of gunicorn's have."""
    classes = [one for one in kind.__mro__ if one.__module__.startswith("gunicorn")]
    return set(dir(kind)).union(*map(of_self, classes))


@pytest.mark.parametrize("ours", OURS)
def test_what_ours_override_is_there_with_the_same_parameters(ours: type) -> None:
    theirs = OURS[ours]
    own = {name for name, value in vars(ours).items() if inspect.isfunction(value)}
    assert {name for name in own & set(dir(theirs)) if not name.startswith("__")} == OVERRIDDEN[ours]
    for name in OVERRIDDEN[ours] - {"_build_http_scope"}:  # which passes on whatever it is given
        parameters = [list(inspect.signature(getattr(one, name)).parameters) for one in (ours, theirs)]
        assert len(parameters[0]) == len(parameters[1]), name
        assert parameters[0][2:] == parameters[1][2:], name


@pytest.mark.parametrize("ours", OURS)
def test_what_ours_use_is_there_and_no_more_is_used(ours: type) -> None:
    theirs = there(OURS[ours])
    assert of_self(ours) & theirs - set(vars(ours)) == USED[ours]
    assert theirs >= USED[ours]


def test_what_tells_how_a_connection_is_doing_is_set_by_the_protocol() -> None:
    source = inspect.getsource(ASGIProtocol)
    assert "self._current_request = None" in source
    assert "self._closed = True" in source
    assert "worker" in inspect.signature(ASGIProtocol).parameters
    assert vars(protocol)["_REASON_PHRASES"][421] == "Misdirected Request"


def test_heartbeats_have_what_those_of_gunicorn_have() -> None:
    assert base.WorkerTmp is Heartbeat
    assert "WorkerTmp(" in inspect.getsource(base)
    for name in ("notify", "last_update", "fileno", "close"):
        assert name in vars(WorkerTmp)
        assert name in vars(Heartbeat)


def test_what_the_hooks_read_of_the_main_process_is_there() -> None:
    tree = ast.parse(CONF.read_text())
    read = {
        node.attr
        for node in ast.walk(tree)
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id == "server"
    }
    assert read == OF_ARBITER
    assert there(Arbiter) >= OF_ARBITER
    assert hasattr(Logger, "access_log_enabled")
    assert "sock" in there(BaseSocket)


def test_every_setting_of_ours_is_one_that_gunicorn_has() -> None:
    names = set()
    for node in ast.parse(CONF.read_text()).body:
        if isinstance(node, ast.Assign):
            names |= {one.id for one in node.targets if isinstance(one, ast.Name)}
        elif isinstance(node, ast.FunctionDef):
            names.add(node.name)
    public = {name for name in names if not name.startswith("_")} - {"make_application"}
    assert public <= {setting.name for setting in KNOWN_SETTINGS}
    assert {"pre_fork", "child_exit", "control_socket_disable", "asgi_lifespan"} <= public


def test_the_version_of_gunicorn_has_an_upper_bound() -> None:
    lines = (CONF.parents[2] / "requirements.txt").read_text().splitlines()
    (line,) = (line for line in lines if line.startswith("gunicorn"))
    assert ",<" in line
