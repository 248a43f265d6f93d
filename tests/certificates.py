"""Certificates as openssl makes them, and servers that use them."""

import ssl
import subprocess
from pathlib import Path

from tests.tools import tool


def authority(folder: Path, *, days: int = 1) -> Path:
    """An authority that vouches for others for `days`; its certificate, whose key lies beside it."""
    return _made(folder, "authority", "basicConstraints=critical,CA:TRUE", days=days)


def signed(folder: Path, by: Path, name: str) -> ssl.SSLContext:
    """A server whose certificate is for `name` (`IP:...` or `DNS:...`), and vouched for by that authority."""
    certificate = certificate_for(folder, by, name)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, certificate.with_suffix(".key"))
    return context


def certificate_for(folder: Path, by: Path, name: str) -> Path:
    """A certificate for `name`, vouched for by that authority; its key lies beside it."""
    words = ["-CA", str(by), "-CAkey", str(by.with_suffix(".key"))]
    return _made(folder, "server", f"subjectAltName={name}", *words)


_CA = """
[ca]
default_ca = own
[own]
database = {folder}/index.txt
new_certs_dir = {folder}
rand_serial = yes
default_md = sha256
policy = any
[any]
commonName = supplied
[names]
subjectAltName = {name}
"""


def expired_for(folder: Path, by: Path, name: str) -> Path:
    """A certificate for `name` of that authority that was valid in 2020; its key lies beside it."""
    certificate, request, config = (folder / f"expired.{suffix}" for suffix in ("pem", "csr", "cnf"))
    (folder / "index.txt").touch()
    config.write_text(_CA.format(folder=folder, name=name))
    key = certificate.with_suffix(".key")
    words = ["req", "-new", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"]
    _openssl(*words, "-keyout", str(key), "-out", str(request), "-subj", "/CN=expired")
    words = [
        "ca",
        "-batch",
        "-config",
        str(config),
        "-cert",
        str(by),
        "-keyfile",
        str(by.with_suffix(".key")),
    ]
    dates = ["-startdate", "20200101000000Z", "-enddate", "20200201000000Z"]
    _openssl(*words, *dates, "-in", str(request), "-out", str(certificate), "-extensions", "names", "-notext")
    return certificate


def protect(key: Path, passphrase: str) -> None:
    """Protect a private key by a passphrase."""
    _openssl("pkey", "-in", str(key), "-aes256", "-passout", f"pass:{passphrase}", "-out", f"{key}.protected")
    Path(f"{key}.protected").replace(key)


def _openssl(*words: str) -> None:
    subprocess.run([tool("openssl"), *words], check=True, capture_output=True)


def _made(folder: Path, name: str, extension: str, *words: str, days: int = 1) -> Path:
    folder.mkdir(exist_ok=True)
    certificate = folder / f"{name}.pem"
    command = ["req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"]
    command += ["-keyout", str(certificate.with_suffix(".key")), "-out", str(certificate), "-days", str(days)]
    _openssl(*command, "-subj", f"/CN={name}", "-addext", extension, *words)
    return certificate
