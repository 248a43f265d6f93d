"""What the environment says: SIDECAR_HOST, SIDECAR_PORT, SIDECAR_SAMPLE_INTERVAL_S."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

PREFIX = "SIDECAR_"


class SettingsError(ValueError):
    """A variable has a value that is not allowed; the text names the variable, the value and what is."""


@dataclass(frozen=True, slots=True)
class Settings:
    """Where the sidecar listens and how often it reads the hardware."""

    host: str = "0.0.0.0"  # noqa: S104 - the server asks from another host
    port: int = 3039
    sample_interval_s: float = 1.0


def read_settings(environ: Mapping[str, str]) -> Settings:
    """The settings that `environ` gives; an empty one is the default; SettingsError if one is wrong."""
    defaults = Settings()
    return Settings(
        host=_host(environ.get(f"{PREFIX}HOST") or defaults.host),
        port=_port(environ.get(f"{PREFIX}PORT") or str(defaults.port)),
        sample_interval_s=_interval(
            environ.get(f"{PREFIX}SAMPLE_INTERVAL_S") or str(defaults.sample_interval_s)
        ),
    )


def unknown_variables(environ: Iterable[str]) -> list[str]:
    """The names in `environ` that look like a setting of the sidecar's but are none."""
    known = {f"{PREFIX}{field.upper()}" for field in Settings.__slots__}
    return sorted(name for name in environ if name.startswith(PREFIX) and name not in known)


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


def _refused(name: str, value: str, allowed: str) -> SettingsError:
    return SettingsError(f"{PREFIX}{name}={value!r} is not allowed: give {allowed}")
