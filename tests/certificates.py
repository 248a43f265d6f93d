"""Certificates as openssl makes them, and what speaks TLS with them."""

import ssl
import subprocess
from pathlib import Path

from tests.tools import tool


def authority(folder: Path) -> Path:
    """An authority that vouches for others; its certificate, whose key lies beside it."""
    return _made(folder, "authority", "basicConstraints=critical,CA:TRUE")


def signed(folder: Path, by: Path, name: str) -> ssl.SSLContext:
    """A server whose certificate is for `name` (`IP:...` or `DNS:...`), and vouched for by that authority."""
    words = ["-CA", str(by), "-CAkey", str(by.with_suffix(".key"))]
    certificate = _made(folder, "server", f"subjectAltName={name}", *words)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, certificate.with_suffix(".key"))
    return context


def _made(folder: Path, name: str, extension: str, *words: str) -> Path:
    folder.mkdir(exist_ok=True)
    certificate = folder / f"{name}.pem"
    command = [
        tool("openssl"),
        "req",
        "-x509",
        "-newkey",
        "ec",
        "-pkeyopt",
        "ec_paramgen_curve:prime256v1",
        "-nodes",
    ]
    command += ["-keyout", str(certificate.with_suffix(".key")), "-out", str(certificate), "-days", "1"]
    command += ["-subj", f"/CN={name}", "-addext", extension, *words]
    subprocess.run(command, check=True, capture_output=True)
    return certificate
