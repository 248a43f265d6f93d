"""Settings from the environment: every default, every bound, and one clear line for each bad value."""

import ast
import os
import subprocess
import sys
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

import machines_server
from machines_server.errors import MachinesError, SettingsError
from machines_server.settings import Settings, load_settings, variable
from tests.running import clean_environment

DEFAULTS: dict[str, Any] = {
    "MACHINES_DIR": Path("machines"),
    "MACHINES_DATA_DIR": Path("var"),
    "MACHINES_HOST": "127.0.0.1",
    "MACHINES_PORT": 3038,
    "MACHINES_WORKERS": 2,
    "MACHINES_ALLOWED_HOSTS": (),
    "MACHINES_TRUSTED_PROXIES": (),
    "MACHINES_MAX_CONNECTIONS_PER_ADDRESS": 1000,
    "MACHINES_THREADS": 8,
    "MACHINES_POLL_INTERVAL_S": 5,
    "MACHINES_POLL_TIMEOUT_S": 2,
    "MACHINES_POLLER": "auto",
    "SERVICES_YAML": Path("services.yaml"),
    "MACHINES_CREDENTIALS_DIR": None,
    "MACHINES_CA_DIR": None,
    "MACHINES_RETENTION_RAW": timedelta(hours=48),
    "MACHINES_RETENTION_1M": timedelta(days=30),
    "MACHINES_RETENTION_1H": timedelta(days=730),
    "MACHINES_ON_DAMAGE": "stop",
    "MACHINES_LOG_LEVEL": "info",
    "MACHINES_LOG_FORMAT": "text",
    "MACHINES_TLS_CERT": None,
    "MACHINES_TLS_KEY": None,
    "AUTH_MODE": "off",
    "AUTH_KEYS_DIR": None,
    "KEY_SERVER_URL": None,
    "AUTH_WRITERS": None,
    "AUTH_ADMINS": (),
    "AUTH_OBSERVE_LOG": Path("logs/auth-observe.log"),
    "MACHINES_METRICS_TOKEN_FILE": None,
    "AUTH_VERIFY_TIMEOUT": 2,
    "MACHINES_DATABASE_URL": None,
    "MACHINES_DATABASE_PASSWORD_FILE": None,
    "MACHINES_REMOTE_WRITE_URL": None,
    "MACHINES_REMOTE_WRITE_CREDENTIAL_FILE": None,
    "MACHINES_QUERY_URL": None,
    "MACHINES_QUERY_CREDENTIAL_FILE": None,
    "MACHINES_SITE": "default",
}
CLUSTER = {
    "MACHINES_DATABASE_URL": "postgresql://machines@db1,db2:5433/machines",
    "MACHINES_REMOTE_WRITE_URL": "http://vm:8428/api/v1/write",
    "MACHINES_QUERY_URL": "http://vm:8428",
}


def value(name: str, text: str) -> Any:
    """What the setting of that variable becomes."""
    settings, warnings = load_settings({name: text, **ROOM.get(name, {})})
    assert warnings == []
    field = next(one for one in Settings.model_fields if variable(one) == name)
    return getattr(settings, field)


ROOM = {
    "MACHINES_POLL_INTERVAL_S": {"MACHINES_POLL_TIMEOUT_S": "0.1"},
    "MACHINES_POLL_TIMEOUT_S": {"MACHINES_POLL_INTERVAL_S": "3600"},
}
"""What must be set too, since the timeout must be less than the interval."""


def refusal(**environ: str) -> str:
    """Why the settings are refused: one line."""
    with pytest.raises(SettingsError) as caught:
        load_settings(environ)
    message = str(caught.value)
    assert len(message.splitlines()) == 1
    assert message.isprintable()
    return message


READS_THE_ENVIRONMENT = {
    "settings.py",
    "cli/checks.py",  # hands it to doctor, which examines it
    "cli/completion.py",  # the shell says in it what was typed
    "cli/main.py",
    "cli/leased_command.py",  # hands it to the command
    "cli/output.py",  # NO_COLOR and TERM
    "cli/top.py",
    "process/tracing.py",  # OpenTelemetry's own variables
    "web/prometheus_api.py",  # WSGI's, of a request
    "web/routing_api.py",
}
READS_SETTINGS = {"cli/installation.py", "cli/doctor.py", "process/gunicorn_conf.py"}


def test_settings_are_read_once_where_a_process_starts() -> None:
    package = Path(machines_server.__file__).parent
    environment, settings = set(), set()
    for path in package.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Attribute) and node.attr in ("environ", "environb", "getenv"):
                environment.add(str(path.relative_to(package)))
            if isinstance(node, ast.Call) and ast.unparse(node.func) == "load_settings":
                settings.add(str(path.relative_to(package)))
    assert environment == READS_THE_ENVIRONMENT
    assert settings == READS_SETTINGS


def test_every_default_is_the_one_that_is_promised() -> None:
    settings, warnings = load_settings({})
    defaults = {variable(field): getattr(settings, field) for field in Settings.model_fields}
    assert defaults.keys() - DEFAULTS.keys() == set(), "promise their defaults in DEFAULTS"
    assert defaults == DEFAULTS
    assert warnings == []


def test_the_files_of_the_data_folder_follow_from_it() -> None:
    settings, _ = load_settings({"MACHINES_DATA_DIR": "/srv/machines"})
    assert settings.telemetry_db == Path("/srv/machines/telemetry.db")
    assert settings.poller_lock == Path("/srv/machines/poller.lock")


@pytest.mark.parametrize(
    ("name", "text", "becomes"),
    [
        ("MACHINES_DIR", "/etc/machines", Path("/etc/machines")),
        ("MACHINES_DIR", "with space", Path("with space")),
        ("MACHINES_HOST", "0.0.0.0", "0.0.0.0"),
        ("MACHINES_HOST", "::", "::"),
        ("MACHINES_PORT", "1", 1),
        ("MACHINES_PORT", "65535", 65535),
        ("MACHINES_WORKERS", "1", 1),
        ("MACHINES_THREADS", "32", 32),
        ("MACHINES_POLL_INTERVAL_S", "0.5", 0.5),
        ("MACHINES_POLL_INTERVAL_S", "3600", 3600),
        ("MACHINES_POLL_INTERVAL_S", "1e1", 10),
        ("MACHINES_POLL_TIMEOUT_S", "0.1", 0.1),
        ("MACHINES_POLL_TIMEOUT_S", "600", 600),
        ("MACHINES_POLLER", "off", "off"),
        ("MACHINES_RETENTION_RAW", "90s", timedelta(seconds=90)),
        ("MACHINES_RETENTION_RAW", "15m", timedelta(minutes=15)),
        ("MACHINES_RETENTION_1M", "48h", timedelta(hours=48)),
        ("MACHINES_RETENTION_1H", "10y", timedelta(days=3650)),
        ("MACHINES_LOG_LEVEL", "debug", "debug"),
        ("MACHINES_LOG_FORMAT", "json", "json"),
        ("AUTH_MODE", "off", "off"),
        ("AUTH_KEYS_DIR", "/", Path("/")),
        ("KEY_SERVER_URL", "https://keys.example.com:8443/below", "https://keys.example.com:8443/below"),
        ("AUTH_VERIFY_TIMEOUT", "0.5", 0.5),
        ("AUTH_WRITERS", "ann, bob@desk,", ("ann", "bob@desk")),
        ("AUTH_ADMINS", "boss", ("boss",)),
    ],
)
def test_a_good_value_is_taken(name: str, text: str, becomes: Any) -> None:
    assert value(name, text) == becomes


@pytest.mark.parametrize("name", sorted(DEFAULTS))
def test_an_empty_variable_is_one_that_is_not_set(name: str) -> None:
    assert value(name, "") == DEFAULTS[name]


SPAN = "must be a number of up to six digits and one of s, m, h, d, y, such as 48h"


@pytest.mark.parametrize(
    ("name", "texts", "allowed"),
    [
        ("MACHINES_PORT", ["0", "65536", "-1", "http", "80.5", "3038 x"], "a whole number from 1 to 65535"),
        ("MACHINES_WORKERS", ["0", "65", "-2", "two", "1.5", "nan"], "a whole number from 1 to 64"),
        ("MACHINES_THREADS", ["0", "257", "many", "inf"], "a whole number from 1 to 256"),
        (
            "MACHINES_POLL_INTERVAL_S",
            ["0", "0.4", "-5", "3601", "5s", "nan", "inf", "1e999"],
            "a number from 0.5 to 3600",
        ),
        (
            "MACHINES_POLL_TIMEOUT_S",
            ["0", "0.09", "-1", "601", "2s", "nan", "-inf"],
            "a number from 0.1 to 600",
        ),
        ("MACHINES_POLLER", ["on", "yes", "AUTO", "0"], "'auto' or 'off'"),
        ("MACHINES_LOG_LEVEL", ["verbose", "INFO", "10"], "'debug', 'info', 'warning' or 'error'"),
        ("MACHINES_LOG_FORMAT", ["xml", "JSON"], "'text' or 'json'"),
        *(
            (name, ["48", "h", "48 h", "1.5h", "-1h", "48H", "2w", "forever", "1h30m", "9999999h"], SPAN)
            for name in ("MACHINES_RETENTION_RAW", "MACHINES_RETENTION_1M", "MACHINES_RETENTION_1H")
        ),
        ("MACHINES_RETENTION_RAW", ["0h", "0s", "0y"], "must be"),
        ("AUTH_MODE", ["on", "OFF", "true", "none"], "'off', 'observe' or 'enforce'"),
        ("AUTH_WRITERS", ["ann bob", "../ann", "-ann"], "names of agents separated by commas"),
        ("AUTH_VERIFY_TIMEOUT", ["0", "61", "2s", "nan"], "a number from 0.1 to 60"),
        (
            "KEY_SERVER_URL",
            ["keys", "ftp://keys", "http://", "http://keys?a", "http://keys#a"],
            "a URL such as https://keys.example.com",
        ),
        ("KEY_SERVER_URL", ["http://user@keys"], "without user and password"),
        ("MACHINES_QUERY_URL", ["vm:8428", "http://vm?x=1", "http://"], "a URL such as"),
        (
            "MACHINES_DATABASE_URL",
            ["db", "mysql://db/x", "postgresql:///machines", "postgresql://user@/x", "host=db"],
            "a URL such as postgresql://",
        ),
        ("MACHINES_SITE", ["a b", "-a", "a/b", "x" * 65, "ü"], "a name of up to 64"),
    ],
)
def test_a_bad_value_is_one_line_with_variable_value_and_what_is_allowed(
    name: str, texts: list[str], allowed: str
) -> None:
    for text in texts:
        message = refusal(**{name: text, **ROOM.get(name, {})})
        shown = "" if name.endswith("_URL") else f"={text}"
        assert message.startswith(f"{name}{shown} is refused: it must be ")
        assert allowed in message


@pytest.mark.parametrize(
    ("name", "urls"),
    [
        ("KEY_SERVER_URL", "http://u:secret@keys"),
        ("MACHINES_DATABASE_URL", "x://u:secret@db|host=db password=secret|postgresql://u:se@secret@db/x"),
        ("MACHINES_QUERY_URL", "http://h/w?token=secret|http://h/w#secret|u:secret@h/w"),
    ],
)
def test_a_secret_in_a_url_is_not_repeated(name: str, urls: str) -> None:
    for url in urls.split("|"):
        message = refusal(**{name: url})
        assert message.startswith(f"{name} is refused: it must be a URL")
        assert "secret" not in message


@pytest.mark.parametrize("missing", CLUSTER)
def test_what_several_servers_share_goes_together(missing: str) -> None:
    some = {name: text for name, text in CLUSTER.items() if name != missing}
    assert refusal(**some) == (
        "MACHINES_DATABASE_URL, MACHINES_REMOTE_WRITE_URL, MACHINES_QUERY_URL go together:"
        f" {missing} must be set, too"
    )
    assert not load_settings({})[0].is_cluster
    assert load_settings(CLUSTER)[0].is_cluster


def test_what_is_coarser_is_kept_as_long_as_what_is_finer() -> None:
    assert refusal(MACHINES_RETENTION_1M="90m", MACHINES_RETENTION_RAW="2h") == (
        "MACHINES_RETENTION_RAW=2h, MACHINES_RETENTION_1M=90m, MACHINES_RETENTION_1H=730d:"
        " none may be shorter than the one before"
    )


@pytest.mark.parametrize("mode", ["observe", "enforce"])
def test_signatures_need_exactly_one_source_of_keys(mode: str, tmp_path: Path) -> None:
    assert refusal(AUTH_MODE=mode) == f"AUTH_MODE={mode} needs AUTH_KEYS_DIR or KEY_SERVER_URL"
    both = {"AUTH_KEYS_DIR": str(tmp_path), "KEY_SERVER_URL": "https://keys.example.com"}
    assert (
        refusal(AUTH_MODE=mode, **both) == "AUTH_KEYS_DIR and KEY_SERVER_URL are both set: keep one of them"
    )
    missing = tmp_path / "missing"
    assert refusal(AUTH_MODE=mode, AUTH_KEYS_DIR=str(missing)) == f"AUTH_KEYS_DIR={missing} is not a folder"
    assert load_settings({"AUTH_MODE": mode, "AUTH_KEYS_DIR": str(tmp_path)})[0].auth_mode == mode


@pytest.mark.parametrize(("timeout_s", "interval_s"), [("5", "5"), ("6", "5"), ("2", "1.5"), ("5", "")])
def test_the_timeout_must_be_less_than_the_interval(timeout_s: str, interval_s: str) -> None:
    message = refusal(MACHINES_POLL_TIMEOUT_S=timeout_s, MACHINES_POLL_INTERVAL_S=interval_s)
    assert (
        message
        == f"MACHINES_POLL_TIMEOUT_S={timeout_s} must be less than MACHINES_POLL_INTERVAL_S={interval_s or 5}"
    )


def test_the_default_timeout_too_must_be_less_than_the_interval() -> None:
    assert "MACHINES_POLL_TIMEOUT_S=2 must be less than" in refusal(MACHINES_POLL_INTERVAL_S="1")


def test_several_bad_values_are_one_line_each() -> None:
    with pytest.raises(SettingsError) as caught:
        load_settings({"MACHINES_PORT": "x", "MACHINES_WORKERS": "0", "AUTH_MODE": "on"})
    lines = str(caught.value).splitlines()
    assert [line.partition("=")[0] for line in lines] == ["MACHINES_PORT", "MACHINES_WORKERS", "AUTH_MODE"]


def test_a_value_with_line_breaks_still_makes_one_line() -> None:
    assert "MACHINES_PORT='30\\n38'" in refusal(MACHINES_PORT="30\n38")
    assert "\\x1b" in refusal(MACHINES_LOG_LEVEL="\x1b[2J")


def test_an_unknown_variable_of_our_name_is_a_warning() -> None:
    settings, warnings = load_settings({"MACHINES_PROT": "80", "MACHINES_": "", "MACHINES_PORT": "81"})
    assert settings.port == 81
    assert warnings == [
        "MACHINES_ is not a setting of this version and has no effect",
        "MACHINES_PROT is not a setting of this version and has no effect",
    ]


@pytest.mark.parametrize("name", ["MACHINES_URL", "machines_port", "PATH", "SIDECAR_PORT", "MACHINESPORT"])
def test_variables_of_others_are_none_of_our_business(name: str) -> None:
    assert load_settings({name: "x"}) == (Settings.model_validate({}), [])


def test_settings_come_from_the_environment_of_the_process(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in list(os.environ):
        if name.startswith(("MACHINES_", "AUTH_")):
            monkeypatch.delenv(name)
    monkeypatch.setenv("MACHINES_PORT", "4444")
    assert load_settings()[0].port == 4444


def test_settings_do_not_change_once_they_are_read() -> None:
    settings, _ = load_settings({})
    with pytest.raises(ValueError, match="frozen"):
        settings.port = 1


@given(st.sampled_from(sorted(DEFAULTS)), st.text(max_size=12).filter(lambda text: "\0" not in text))
def test_any_text_is_a_setting_or_a_line_that_names_the_variable(name: str, text: str) -> None:
    try:
        load_settings({name: text})
    except MachinesError as error:
        message = str(error)
        assert name in message
        assert len(message.splitlines()) == 1


@pytest.mark.parametrize("words", [["serve"], ["poll"], ["migrate"]])
def test_a_bad_setting_stops_the_start_with_status_2(words: list[str], tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "machines_server", *words],
        env=clean_environment(MACHINES_PORT="none", MACHINES_DATA_DIR=str(tmp_path / "var")),
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )
    assert done.returncode == 2
    assert "MACHINES_PORT=none is refused: it must be a whole number from 1 to 65535" in done.stderr
    assert "Traceback" not in done.stderr
    assert not (tmp_path / "var").exists()
