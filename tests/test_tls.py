"""Server and sidecar speak HTTPS, and take renewed certificates without a restart."""

import shutil
import socket
import ssl
from collections.abc import Callable, Iterator
from contextlib import ExitStack, suppress
from functools import partial
from pathlib import Path

import pytest
import requests

from tests import certificates
from tests.fakes import wait_until
from tests.running import RunningServer, command
from tests.sidecar.running import Sidecar
from tls_files import TlsFiles, TlsFilesError

NAME = "IP:127.0.0.1"


class Files:
    """A certificate and its key at fixed paths, and the authority that vouches for it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.authority = certificates.authority(folder)
        self.certificate, self.key = folder / "live.pem", folder / "live.key"
        self.renew()

    def renew(self) -> bytes:
        """Put another certificate in place, as an ACME client does; returns its DER."""
        made = certificates.certificate_for(self.folder, self.authority, NAME)
        for new, live in ((made.with_suffix(".key"), self.key), (made, self.certificate)):
            shutil.copy(new, live.with_suffix(".new"))
            live.with_suffix(".new").replace(live)
        return ssl.PEM_cert_to_DER_cert(made.read_text())


@pytest.fixture
def files(tmp_path: Path) -> Files:
    return Files(tmp_path)


def served(port: int, authority: Path) -> bytes:
    """The certificate that a port shows, in DER; raises OSError if it is not vouched for."""
    trusting = ssl.create_default_context(cafile=str(authority))
    with (
        socket.create_connection(("127.0.0.1", port), timeout=20) as plain,
        trusting.wrap_socket(plain, server_hostname="127.0.0.1") as connection,
    ):
        return connection.getpeercert(binary_form=True) or b""


def all_show(port: int, authority: Path, certificate: bytes) -> bool:
    """Whether each of the workers that take a few connections shows this certificate."""
    return all(served(port, authority) == certificate for _ in range(8))


@pytest.fixture
def server(files: Files) -> Iterator[RunningServer]:
    settings = {"MACHINES_TLS_CERT": str(files.certificate), "MACHINES_TLS_KEY": str(files.key)}
    with RunningServer(files.folder, authority=str(files.authority), **settings) as running:
        yield running


def test_the_server_speaks_https_and_nothing_else(server: RunningServer, files: Files) -> None:
    assert server.url.startswith("https://")
    answer = server.get("/health")
    assert (answer.status_code, answer.json()["status"]) == (200, "ok")
    assert server.get("/api/infrastructure").status_code == 200
    assert server.get("/").status_code == 200
    port = int(server.settings["MACHINES_PORT"])
    with pytest.raises(requests.ConnectionError):
        requests.get(f"http://127.0.0.1:{port}/health", timeout=20)
    assert server.get("/health").status_code == 200
    assert f"https://127.0.0.1:{port}/" in server.log.read_text()
    done = command("list", MACHINES_URL=server.url, REQUESTS_CA_BUNDLE=str(files.authority))
    assert done.returncode == 0


def test_the_server_takes_a_renewed_certificate(server: RunningServer, files: Files) -> None:
    port = int(server.settings["MACHINES_PORT"])
    before = served(port, files.authority)
    for _ in range(2):
        renewed = files.renew()
        assert renewed != before
        # Each of the workers takes it.
        wait_until(partial(all_show, port, files.authority, renewed))
    files.key.write_text("no key")
    wait_until(lambda: "the previous certificate stays in use" in server.log.read_text())
    assert served(port, files.authority) == renewed
    renewed = files.renew()
    wait_until(lambda: served(port, files.authority) == renewed)


def test_a_server_behind_a_handshake_that_never_ends_answers(server: RunningServer, files: Files) -> None:
    port = int(server.settings["MACHINES_PORT"])
    silent = [socket.create_connection(("127.0.0.1", port)) for _ in range(200)]
    try:
        for one in silent[::2]:
            one.sendall(b"\x16\x03\x01")
        for _ in range(10):
            assert server.get("/health").status_code == 200
        assert served(port, files.authority)
        for one in silent:
            one.settimeout(60)
            assert one.recv(1000) == b""
    finally:
        for one in silent:
            one.close()


def test_handshakes_count_as_connections_of_their_address(files: Files) -> None:
    limit = 20
    settings = {"MACHINES_TLS_CERT": str(files.certificate), "MACHINES_TLS_KEY": str(files.key)}
    settings |= {"MACHINES_MAX_CONNECTIONS_PER_ADDRESS": str(limit), "MACHINES_WORKERS": "1"}
    with (
        RunningServer(files.folder, authority=str(files.authority), **settings) as server,
        ExitStack() as stack,
    ):
        port = int(server.settings["MACHINES_PORT"])
        silent = [
            stack.enter_context(socket.create_connection(("127.0.0.1", port))) for _ in range(5 * limit)
        ]
        # Later ones have made room for themselves; those are open until the deadline of a handshake.
        wait_until(lambda: 0 < server.open_connections() <= limit)
        for one in silent[: 4 * limit]:
            one.settimeout(20)
            with suppress(ConnectionResetError):
                assert one.recv(1000) == b""
        # A client that ends its handshake is answered, also one that sends its request with it.
        for _ in range(3):
            assert server.get("/health").status_code == 200
        trusting = ssl.create_default_context(cafile=str(files.authority))
        incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        client = trusting.wrap_bio(incoming, outgoing, server_hostname="127.0.0.1")
        plain = stack.enter_context(socket.create_connection(("127.0.0.1", port), timeout=20))
        with suppress(ssl.SSLWantReadError):
            client.do_handshake()
        plain.sendall(outgoing.read())
        while True:
            incoming.write(plain.recv(65536))
            with suppress(ssl.SSLWantReadError):
                client.do_handshake()
                break
        client.write(b"GET /health HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n")
        plain.sendall(outgoing.read())
        received = b""
        while b'"ok"' not in received:
            incoming.write(plain.recv(65536))
            with suppress(ssl.SSLWantReadError):
                received += client.read(65536)


@pytest.mark.parametrize("break_it", [Path.unlink, lambda path: path.write_text("garbage")])
def test_files_that_cannot_be_used_stop_the_start(files: Files, break_it: Callable[[Path], object]) -> None:
    settings = {"MACHINES_TLS_CERT": str(files.certificate), "MACHINES_TLS_KEY": str(files.key)}
    data = {"MACHINES_DATA_DIR": str(files.folder / "var")}
    break_it(files.key)
    done = command("serve", **settings, **data)
    assert done.returncode == 2
    assert len(done.stderr.splitlines()) == 1
    assert done.stderr.startswith("machines-server: MACHINES_TLS_CERT, MACHINES_TLS_KEY: ")
    assert command("serve", MACHINES_TLS_CERT=str(files.certificate), **data).returncode == 2


def test_a_key_with_a_passphrase_is_refused_without_asking(files: Files) -> None:
    certificates.protect(files.key, "open sesame")
    with pytest.raises(TlsFilesError, match="protected by a passphrase"):
        TlsFiles(files.certificate, files.key, pytest.fail)


def test_a_sidecar_speaks_https_and_is_polled(files: Files) -> None:
    folder = files.folder / "sidecar"
    folder.mkdir()
    authorities = files.folder / "authorities"
    authorities.mkdir()
    shutil.copy(files.authority, authorities / "ours.pem")
    environ = {"SIDECAR_TLS_CERT": str(files.certificate), "SIDECAR_TLS_KEY": str(files.key)}
    sidecar = Sidecar(folder, environ)
    network = f"hostname: 127.0.0.1, sidecar_port: {sidecar.port}, sidecar_scheme: https, ca: ours.pem"
    try:
        with RunningServer(files.folder, MACHINES_CA_DIR=str(authorities)) as server:
            server.write(
                "one.yaml",
                f"name: one\nrole: gpu\nhardware: {{}}\nmodels: []\nnetwork: {{{network}, ollama: false}}\n",
            )
            wait_until(lambda: server.fleet().get("one", {}).get("status") == "online")
            renewed = files.renew()
            wait_until(lambda: served(sidecar.port, files.authority) == renewed)
    finally:
        sidecar.end()
