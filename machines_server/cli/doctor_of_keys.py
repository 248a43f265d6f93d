"""Checks keys, the server's own certificate and the clocks of hosts, and says how to fix each fault."""

import logging
import os
import stat
from collections.abc import Iterator
from pathlib import Path

from machines_server.cli.doctor_of_credentials import WARN_BEFORE_EXPIRY_S
from machines_server.cli.finding import Check
from machines_server.core.text import clip_list, printable
from machines_server.core.times import rfc3339
from machines_server.errors import SettingsError
from machines_server.process.own_key import own_signing
from machines_server.settings import Settings
from request_signing.message import SIGNATURE_AHEAD_S
from tls_files import TlsFiles, TlsFilesError

log = logging.getLogger(__name__)


def check_keys(settings: Settings) -> Iterator[Check]:
    """Check the key with which this server signs, and the folder of the agents' public keys."""
    try:
        if own_signing():
            yield Check("own key", "ok", "requests to sidecars are signed")
    except SettingsError as error:
        yield Check("own key", "error", str(error))
    if settings.auth_keys_dir:
        yield from _check_folder(settings.auth_keys_dir)


def _check_folder(folder: Path) -> Iterator[Check]:
    what, found = "keys of agents", folder.stat()
    if _others_may_write(found):
        finding = f"{folder} (mode {stat.S_IMODE(found.st_mode):04o}) lets other users add keys"
        yield Check(what, "error", finding, f"chown it, and chmod go-w {folder}")
    files = sorted(folder.glob("*.pub"))
    if replaceable := [one.name for one in files if one.exists() and _others_may_write(one.stat())]:
        finding = f"other users may replace the key in {_listed(replaceable)}"
        yield Check(what, "error", finding, "chown it, and chmod go-w")
    unusable = [one.name for one in files if not _is_usable(one)]
    if unusable:
        why = "not a usable ssh-ed25519 public key, or not an agent's name"
        finding = f"no agent can sign with {_listed(unusable)}: {why}"
        yield Check(what, "warning", finding, "replace it with a key that `machines-server keygen` writes")
    else:
        yield Check(what, "ok" if files else "warning", f"{len(files)} in {folder}")


def _others_may_write(found: os.stat_result) -> bool:
    return found.st_uid not in (0, os.geteuid()) or bool(found.st_mode & 0o022)


def _is_usable(file: Path) -> bool:
    from request_signing.keys import KeyFileError, is_agent_name, read_public_keys

    try:
        read_public_keys(file)
    except KeyFileError:
        return False
    return is_agent_name(file.name.removesuffix(".pub"))


def _listed(names: list[str]) -> str:
    return clip_list([printable(name) for name in names])


def check_certificate(settings: Settings, now: float) -> Iterator[Check]:
    """Check the certificate with which this server speaks HTTPS, at `now` (epoch seconds)."""
    if settings.tls_cert is None or settings.tls_key is None:
        return
    from cryptography.x509 import load_pem_x509_certificate

    what, hint = "certificate", "renew it; the server takes the new one without a restart"
    try:
        TlsFiles(settings.tls_cert, settings.tls_key, log.error)
    except TlsFilesError as error:
        yield Check(what, "error", str(error))
        return
    if settings.tls_key.stat().st_mode & 0o077:
        finding, advice = f"other users can read {settings.tls_key}", f"chmod go= {settings.tls_key}"
        yield Check(what, "warning", finding, advice)
    expires_at = load_pem_x509_certificate(settings.tls_cert.read_bytes()).not_valid_after_utc.timestamp()
    if expires_at <= now:
        yield Check(what, "error", f"{settings.tls_cert} has expired, on {rfc3339(expires_at)}", hint)
    elif expires_at <= now + WARN_BEFORE_EXPIRY_S:
        yield Check(what, "warning", f"{settings.tls_cert} expires soon, on {rfc3339(expires_at)}", hint)
    else:
        yield Check(what, "ok", f"{settings.tls_cert}, until {rfc3339(expires_at)}")


def check_clock(what: str, ahead_s: float | None) -> Iterator[Check]:
    """Check the clock of a host that is so many seconds ahead of this one's, if that is known."""
    if ahead_s is not None and abs(ahead_s) > SIGNATURE_AHEAD_S / 2:
        off = f"{abs(ahead_s):.0f} s {'ahead of' if ahead_s > 0 else 'behind'} this host's"
        yield Check(what, "warning", f"its clock is {off}", "set both clocks with NTP; signatures need that")
