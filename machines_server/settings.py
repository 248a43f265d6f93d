"""Settings, read once from the environment when a process starts."""

import os
import re
from collections.abc import Mapping
from datetime import timedelta
from functools import partial
from ipaddress import IPv4Network, IPv6Network, ip_network
from pathlib import Path
from typing import Annotated, Literal, Self
from urllib.parse import urlsplit

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError, model_validator

from machines_server.core.hosts import parse_allowed_hosts
from machines_server.core.text import printable
from machines_server.errors import SettingsError

_SECONDS = {"days": 86_400, "hours": 3600, "minutes": 60, "seconds": 1}
_AGENT_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._@+-]{0,127}")
_SITE = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
_UNITS = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days"}


def _parse_span(text: object) -> object:
    """Parse a time span such as `48h`, `30d`, `2y`; a year is 365 days."""
    if isinstance(text, timedelta):
        return text
    match = re.fullmatch(r"(\d{1,6})([smhdy])", str(text))
    if match is None:
        raise ValueError("a number of up to six digits and one of s, m, h, d, y, such as 48h")
    number, unit = int(match[1]), match[2]
    return timedelta(days=365 * number) if unit == "y" else timedelta(**{_UNITS[unit]: number})


def _format_span(span: timedelta) -> str:
    """Format a span in the largest unit that gives a whole number."""
    seconds = int(span.total_seconds())
    unit = next(unit for unit in ("days", "hours", "minutes", "seconds") if not seconds % _SECONDS[unit])
    return f"{seconds // _SECONDS[unit]}{unit[0]}"


def _parse_networks(text: object) -> object:
    """Parse addresses and networks separated by commas."""
    if not isinstance(text, str):
        return text
    try:
        return tuple(ip_network(part.strip(), strict=False) for part in text.split(",") if part.strip())
    except ValueError:
        raise ValueError("addresses or networks separated by commas, such as 127.0.0.1,10.0.0.0/8") from None


def _parse_hosts(text: object) -> object:
    return parse_allowed_hosts(text) if isinstance(text, str) else text


def _parse_agents(text: object) -> object:
    """Parse names of agents separated by commas."""
    if not isinstance(text, str):
        return text
    names = tuple(name.strip() for name in text.split(",") if name.strip())
    if not all(map(_AGENT_NAME.fullmatch, names)):
        raise ValueError("names of agents separated by commas")
    return names


def _parse_database(text: object) -> object:
    """Check that a URL is one of PostgreSQL that names a host."""
    parts = urlsplit(str(text))
    if parts.scheme not in ("postgresql", "postgres") or not parts.netloc.rpartition("@")[2].strip("/:"):
        raise ValueError("a URL such as postgresql://machines@db1,db2/machines")
    if parts.netloc.count("@") > 1:
        raise ValueError("a URL in which an @ of the password is written as %40")
    return text


def _parse_site(text: object) -> object:
    if not _SITE.fullmatch(str(text)):
        raise ValueError("a name of up to 64 letters, digits, `.`, `_` and `-`")
    return text


def _parse_http(example: str, text: object) -> object:
    """Check that a URL is one of HTTP without query, fragment or credentials."""
    parts = urlsplit(str(text))
    if parts.scheme not in ("http", "https") or not parts.hostname or parts.query or parts.fragment:
        raise ValueError(f"a URL such as {example}")
    if parts.username is not None or parts.password is not None:
        raise ValueError("a URL without user and password")
    return text


Span = Annotated[timedelta, BeforeValidator(_parse_span), Field(gt=timedelta(0))]
Port = Annotated[int, Field(ge=1, le=65535)]
Networks = Annotated[tuple[IPv4Network | IPv6Network, ...], BeforeValidator(_parse_networks)]
KeyServerUrl = Annotated[str, BeforeValidator(partial(_parse_http, "https://keys.example.com"))]
EngineUrl = Annotated[str, BeforeValidator(partial(_parse_http, "http://127.0.0.1:8428"))]
DatabaseUrl = Annotated[str, BeforeValidator(_parse_database)]
Site = Annotated[str, BeforeValidator(_parse_site)]
Agents = Annotated[tuple[str, ...], BeforeValidator(_parse_agents)]
Hosts = Annotated[tuple[str, ...], BeforeValidator(_parse_hosts)]


_CLUSTER = "database_url", "remote_write_url", "query_url"


class Settings(BaseModel):
    """Every setting of the server; `variable()` names the environment variable of a field."""

    model_config = ConfigDict(frozen=True)

    dir: Path = Field(Path("machines"), description="folder of the machine files")
    data_dir: Path = Field(Path("var"), description="folder of the databases and the poller's lock")
    host: str = Field("127.0.0.1", min_length=1, description="address on which the server listens")
    port: Port = Field(3038, description="port on which the server listens")
    workers: int = Field(2, ge=1, le=64, description="processes that answer requests")
    threads: int = Field(8, ge=1, le=256, description="threads of each such process")
    allowed_hosts: Hosts = Field((), description="public host names of this server")
    trusted_proxies: Networks = Field(
        (), description="addresses of proxies whose forwarded headers are trusted"
    )
    max_connections_per_address: int = Field(
        1000, ge=1, le=1_000_000, description="most open connections from one address"
    )
    poll_interval_s: float = Field(
        5, ge=0.5, le=3600, allow_inf_nan=False, description="seconds between the starts of two poll cycles"
    )
    poll_timeout_s: float = Field(
        2, ge=0.1, le=600, allow_inf_nan=False, description="deadline of one whole poll request"
    )
    poller: Literal["auto", "off"] = Field(
        "auto", description="auto: this server polls; off: `machines-server poll` does"
    )
    services_yaml: Path = Field(
        Path("services.yaml"), description="file with the services of the server's own host"
    )
    credentials_dir: Path | None = Field(
        None, description="folder of the files that network.credential names"
    )
    ca_dir: Path | None = Field(None, description="folder of the files that network.ca names")
    retention_raw: Span = Field(timedelta(hours=48), description="how long raw samples are kept")
    retention_1m: Span = Field(timedelta(days=30), description="how long 1- and 10-minute rollups are kept")
    retention_1h: Span = Field(timedelta(days=730), description="how long 1-hour rollups are kept")
    on_damage: Literal["stop", "new"] = Field(
        "stop",
        description="when telemetry.db is damaged: stop writing to it, or new: rename it to"
        " `telemetry.db.damaged-TIME` and create a new one",
    )
    log_level: Literal["debug", "info", "warning", "error"] = Field(
        "info", description="the lowest level that is logged"
    )
    log_format: Literal["text", "json"] = Field("text", description="format of log lines")
    tls_cert: Path | None = Field(None, description="certificate chain in PEM, to serve HTTPS")
    tls_key: Path | None = Field(None, description="its private key in PEM")
    auth_mode: Literal["off", "observe", "enforce"] = Field(
        "off", description="whether requests must be signed; observe: log which would be refused"
    )
    auth_keys_dir: Path | None = Field(None, description="folder of the agents' public keys, `AGENT.pub`")
    key_server_url: KeyServerUrl | None = Field(
        None, description="the key-server that is asked instead, at `/api/verify`"
    )
    auth_writers: Agents | None = Field(None, description="agents that may take leases")
    auth_admins: Agents = Field((), description="agents that may renew and end the leases of others")
    auth_observe_log: Path = Field(
        Path("logs/auth-observe.log"), description="where observe writes what would be refused"
    )
    metrics_token_file: Path | None = Field(
        None, description="file of a bearer token with which Prometheus may read"
    )
    auth_verify_timeout: float = Field(
        2, ge=0.1, le=60, allow_inf_nan=False, description="seconds to wait for the key-server"
    )

    database_url: DatabaseUrl | None = Field(
        None, description="PostgreSQL that several servers share, for the present, leases and events"
    )
    database_password_file: Path | None = Field(None, description="file of its password")
    remote_write_url: EngineUrl | None = Field(
        None, description="where samples are written by Prometheus remote write"
    )
    remote_write_credential_file: Path | None = Field(
        None, description="file of the credential for MACHINES_REMOTE_WRITE_URL"
    )
    query_url: EngineUrl | None = Field(
        None, description="where they are queried with PromQL; the part before `/api/v1`"
    )
    query_credential_file: Path | None = Field(
        None, description="file of the credential for MACHINES_QUERY_URL"
    )
    site: Site = Field("default", description="the fleet of this server, among those in one database")

    @model_validator(mode="after")
    def _timeout_fits_the_interval(self) -> Self:
        if self.poll_timeout_s >= self.poll_interval_s:
            raise ValueError(
                f"MACHINES_POLL_TIMEOUT_S={self.poll_timeout_s:g} must be less than "
                f"MACHINES_POLL_INTERVAL_S={self.poll_interval_s:g}"
            )
        return self

    @model_validator(mode="after")
    def _a_certificate_has_its_key(self) -> Self:
        if (self.tls_cert is None) != (self.tls_key is None):
            raise ValueError("MACHINES_TLS_CERT and MACHINES_TLS_KEY go together: set both or neither")
        return self

    @model_validator(mode="after")
    def _signatures_can_be_checked(self) -> Self:
        if self.auth_keys_dir and self.key_server_url:
            raise ValueError("AUTH_KEYS_DIR and KEY_SERVER_URL are both set: keep one of them")
        if self.auth_mode != "off" and not self.auth_keys_dir and not self.key_server_url:
            raise ValueError(f"AUTH_MODE={self.auth_mode} needs AUTH_KEYS_DIR or KEY_SERVER_URL")
        if self.auth_keys_dir and not self.auth_keys_dir.is_dir():
            raise ValueError(f"AUTH_KEYS_DIR={printable(str(self.auth_keys_dir))} is not a folder")
        return self

    @model_validator(mode="after")
    def _several_servers_have_all_they_need(self) -> Self:
        """The stores of present and past are shared together, or each server would have its own past."""
        wanted = {variable(name): getattr(self, name) for name in _CLUSTER}
        missing = [name for name, value in wanted.items() if value is None]
        if len(missing) not in (0, len(wanted)):
            raise ValueError(f"{', '.join(wanted)} go together: {' and '.join(missing)} must be set, too")
        return self

    @model_validator(mode="after")
    def _coarser_is_kept_longer(self) -> Self:
        """Answers use the coarsest samples that suffice, so those must be kept longest."""
        if not self.retention_raw <= self.retention_1m <= self.retention_1h:
            spans = (
                f"{variable(name)}={_format_span(getattr(self, name))}"
                for name in ("retention_raw", "retention_1m", "retention_1h")
            )
            raise ValueError(f"{', '.join(spans)}: none may be shorter than the one before")
        return self

    @property
    def is_cluster(self) -> bool:
        """Whether several servers share a database."""
        return self.database_url is not None

    @property
    def telemetry_db(self) -> Path:
        """The database of all polls."""
        return self.data_dir / "telemetry.db"

    @property
    def coordination_db(self) -> Path:
        """The database of leases; it may be deleted."""
        return self.data_dir / "coordination.db"

    @property
    def nonces_db(self) -> Path:
        """The database of the nonces of signed requests."""
        return self.data_dir / "nonces.db"

    @property
    def session_secret(self) -> Path:
        """The file of the secret on which browser sessions depend."""
        return self.data_dir / "session.key"

    @property
    def advised(self) -> Path:
        """The file that tells the workers which machines were advised to load models."""
        return self.data_dir / "advised"

    @property
    def poller_requests(self) -> Path:
        """The file with requests to the poller; absent if there are none."""
        return self.data_dir / "wanted"

    @property
    def poller_counts(self) -> Path:
        """The file with the poller's counts."""
        return self.data_dir / "counts"

    @property
    def poller_lock(self) -> Path:
        """The file that the polling process locks."""
        return self.data_dir / "poller.lock"


NOT_SETTINGS = frozenset(f"MACHINES_{name}" for name in ("URL", "AGENT_ID", "PRIVATE_KEY", "KEY_PASSPHRASE"))
"""Variables with our prefix that are settings of clients, not of the server."""


def has_own_key(environ: Mapping[str, str] | None = None) -> bool:
    """Return whether the environment names an agent or a private key to sign with."""
    environ = os.environ if environ is None else environ
    return bool(environ.get("MACHINES_AGENT_ID") or environ.get("MACHINES_PRIVATE_KEY"))


def variable(field: str) -> str:
    """The environment variable of a field of Settings."""
    return (
        field.upper()
        if field.startswith(("auth_", "key_server_", "services_"))
        else f"MACHINES_{field.upper()}"
    )


def load_settings(environ: Mapping[str, str] | None = None) -> tuple[Settings, list[str]]:
    """The settings, and warnings about unknown variables; raises SettingsError with a line per bad value."""
    environ = os.environ if environ is None else environ
    known = {variable(name) for name in Settings.model_fields} | NOT_SETTINGS
    warnings = [
        f"{name} is not a setting of this version and has no effect"
        for name in sorted(environ)
        if name.startswith("MACHINES_") and name not in known
    ]
    given = {name: value for name in Settings.model_fields if (value := environ.get(variable(name)))}
    try:
        return Settings.model_validate(given), warnings
    except ValidationError as error:
        raise SettingsError(
            "\n".join(_sentence(dict(failure), given) for failure in error.errors())
        ) from None


def _sentence(error: dict[str, object], given: Mapping[str, str]) -> str:
    message = str(error["msg"]).removeprefix("Value error, ").removeprefix("Input should be ")
    location = error["loc"]
    if not isinstance(location, tuple) or not location:
        return message
    name = str(location[0])
    return f"{variable(name)}{_shown(name, given[name])} is refused: it must be {_range(name) or message}"


def _shown(name: str, value: str) -> str:
    """A value for a message: printable, and nothing if it may contain a secret, as URLs do in many ways."""
    if name.endswith("_url"):
        return ""
    return f"={value if value.isprintable() else repr(value)}"


def _range(name: str) -> str | None:
    """The range that a field accepts, in words; None if it is not a number."""
    field = Settings.model_fields[name]
    bounds = {
        bound: getattr(limit, bound)
        for limit in field.metadata
        for bound in ("ge", "le")
        if hasattr(limit, bound)
    }
    if not bounds:
        return None
    kind = "a whole number" if field.annotation is int else "a number"
    return f"{kind} from {bounds['ge']} to {bounds['le']}"
