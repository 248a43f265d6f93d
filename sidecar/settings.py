"""The settings, from environment variables whose names begin with SIDECAR_."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from sidecar.hosts import is_allowed_host

PREFIX = "SIDECAR_"


class BadSettingError(ValueError):
    """A variable has an invalid value; the text names the variable, the value and what is allowed."""


@dataclass(frozen=True, slots=True)
class Settings:
    """Where the sidecar listens, how often it reads the hardware, and whom it answers."""

    host: str = "0.0.0.0"  # noqa: S104 - the server asks from another host
    port: int = 3039
    sample_interval_s: float = 1.0
    allowed_hosts: tuple[str, ...] = ()
    auth_mode: str = "off"
    auth_keys_dir: str | None = None
    metrics_token_file: str | None = None
    tls_cert: str | None = None
    tls_key: str | None = None


def read_settings(environ: Mapping[str, str]) -> Settings:
    """Read the settings; an empty variable means the default. Raises BadSettingError."""
    defaults = Settings()
    mode, keys = environ.get(f"{PREFIX}AUTH_MODE") or "off", environ.get(f"{PREFIX}AUTH_KEYS_DIR") or None
    _check_keys(mode, keys)
    cert, key = environ.get(f"{PREFIX}TLS_CERT") or None, environ.get(f"{PREFIX}TLS_KEY") or None
    if (cert is None) != (key is None):
        raise BadSettingError(f"{PREFIX}TLS_CERT and {PREFIX}TLS_KEY go together: set both or neither")
    return Settings(
        host=_host(environ.get(f"{PREFIX}HOST") or defaults.host),
        port=_port(environ.get(f"{PREFIX}PORT") or str(defaults.port)),
        sample_interval_s=_interval(
            environ.get(f"{PREFIX}SAMPLE_INTERVAL_S") or str(defaults.sample_interval_s)
        ),
        allowed_hosts=_allowed_hosts(environ.get(f"{PREFIX}ALLOWED_HOSTS") or ""),
        auth_mode=mode,
        auth_keys_dir=keys,
        tls_cert=cert,
        tls_key=key,
        metrics_token_file=environ.get(f"{PREFIX}METRICS_TOKEN_FILE") or None,
    )


def unknown_variables(environ: Iterable[str]) -> list[str]:
    """The variables that have the prefix of the sidecar's settings but are none of them."""
    known = {f"{PREFIX}{field.upper()}" for field in Settings.__slots__}
    return sorted(name for name in environ if name.startswith(PREFIX) and name not in known)


def _check_keys(mode: str, keys: str | None) -> None:
    if mode not in ("off", "observe", "enforce"):
        raise _refused("AUTH_MODE", mode, "off, observe or enforce")
    if mode != "off" and keys is None:
        raise BadSettingError(f"{PREFIX}AUTH_MODE={mode} needs {PREFIX}AUTH_KEYS_DIR")
    if keys is not None and not Path(keys).is_dir():
        raise _refused("AUTH_KEYS_DIR", keys, "a folder of public keys")


def _host(text: str) -> str:
    if not text or any(character.isspace() or character in "/[]" for character in text):
        raise _refused("HOST", text, "an IP address or a host name of this machine")
    return text


def _port(text: str) -> int:
    if not (text.isascii() and text.isdigit() and int(text) <= 65535):
        raise _refused("PORT", text, "a whole number from 0 to 65535 (0: any free port)")
    return int(text)


def _interval(text: str) -> float:
    try:
        seconds = float(text)
    except ValueError:
        seconds = 0.0
    if not 0.1 <= seconds <= 60:
        raise _refused("SAMPLE_INTERVAL_S", text, "a number of seconds from 0.1 to 60")
    return seconds


def _allowed_hosts(text: str) -> tuple[str, ...]:
    names = tuple(name.strip().lower().rstrip(".") for name in text.split(",") if name.strip())
    if not all(map(is_allowed_host, names)):
        raise _refused("ALLOWED_HOSTS", text, "a list of host names, or .example.com for a whole domain")
    return names


def _refused(name: str, value: str, allowed: str) -> BadSettingError:
    return BadSettingError(f"{PREFIX}{name}={value!r} is not allowed; expected {allowed}")
