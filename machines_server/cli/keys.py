"""Keys of agents, and headers that they sign."""

import os
import sys
from pathlib import Path

import click

from machines_server.cli.command import command
from machines_server.cli.http import client_of
from machines_server.cli.output import echo
from machines_server.errors import BadRequestError, ServerError


@command(
    "keygen",
    examples=[
        ("machines-server keygen night-watch", "Make night-watch and night-watch.pub in this folder"),
        ("machines-server keygen night-watch --folder ~/.ssh --passphrase", "Protect the private key"),
    ],
)
@click.argument("agent")
@click.option(
    "--folder",
    type=click.Path(file_okay=False, path_type=Path),
    default=Path(),
    help="Where the files are made; by default this folder.",
)
@click.option("--passphrase", "is_protected", is_flag=True, help="Ask for a passphrase for the private key.")
def keygen(agent: str, folder: Path, *, is_protected: bool) -> None:
    """Make a pair of keys for AGENT, as OpenSSH writes them.

    AGENT is the private key, which only this user can read; AGENT.pub is for the server's AUTH_KEYS_DIR.
    Existing files are never replaced.
    """
    from request_signing.keys import is_agent_name, make_pair

    if not is_agent_name(agent) or agent.endswith(".pub"):
        raise BadRequestError(f"{agent!r} cannot be the name of an agent: use letters, digits and . _ @ + -")
    private_path, public_path = folder / agent, folder / f"{agent}.pub"
    for path in (private_path, public_path):
        if path.exists() or path.is_symlink():
            raise ServerError(f"{path} exists already")
    passphrase: str | None = None
    if is_protected:
        passphrase = click.prompt("Passphrase", hide_input=True, confirmation_prompt=True, err=True)
    private, public = make_pair(agent, passphrase)
    _write(private_path, private, 0o600)
    _write(public_path, public, 0o644)
    echo(f"{private_path}: the path for MACHINES_PRIVATE_KEY, together with MACHINES_AGENT_ID={agent}")
    echo(f"{public_path}: the public key; copy it to the server's AUTH_KEYS_DIR")


@command(
    "sign",
    examples=[
        (
            "machines-server sign GET /api/leases | curl -H @- http://127.0.0.1:3038/api/leases",
            "Send it with curl",
        ),
        ("machines-server sign POST /api/leases @lease.json", "Sign a request whose body is in a file"),
    ],
)
@click.argument("method")
@click.argument("path")
@click.argument("body", required=False)
@click.option(
    "--signature-version",
    type=click.IntRange(1, 2),
    default=2,
    show_default=True,
    help="1 signs the path without its query.",
)
def sign(method: str, path: str, body: str | None, signature_version: int) -> None:
    """Print the headers that sign one request, for curl.

    MACHINES_AGENT_ID and MACHINES_PRIVATE_KEY say who signs. PATH includes the query, spelled as it will be
    sent; BODY is the body, @FILE the file that holds it, and @- standard input. The headers are valid for one
    request within five minutes.
    """
    if not path.startswith("/"):
        raise BadRequestError(f"PATH must begin with /, such as /api/leases; it is {path}")
    signed = client_of(None).session.sign
    if signed is None:
        raise BadRequestError("set MACHINES_AGENT_ID and MACHINES_PRIVATE_KEY, to say who signs")
    headers = signed(method.upper(), path, _body(body), version=signature_version)
    for name, value in headers.items():
        echo(f"{name}: {value}")


def _body(given: str | None) -> bytes:
    if given is None:
        return b""
    if not given.startswith("@"):
        return os.fsencode(given)
    if given == "@-":
        return sys.stdin.buffer.read()
    return Path(given[1:]).read_bytes()


def _write(path: Path, content: bytes, mode: int) -> None:
    fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, mode)
    with os.fdopen(fd, "wb") as file:
        file.write(content)
