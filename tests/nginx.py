"""The real nginx, before an Ollama with TLS, a path and a secret, or before this server."""

import ssl
import subprocess
from pathlib import Path
from types import TracebackType
from typing import Self

import requests

from tests.certificates import certificate_for
from tests.fakes import wait_until
from tests.ports import free_port
from tests.tools import tool

_CONFIG = """
daemon off;
master_process off;
pid {folder}/nginx.pid;
error_log stderr warn;
events {{}}
http {{
  log_format asked '$ssl_protocol $request $status $http_authorization';
  access_log {folder}/access.log asked;
  client_body_temp_path {folder}/body;
  proxy_temp_path {folder}/proxy;
  fastcgi_temp_path {folder}/fastcgi;
  scgi_temp_path {folder}/scgi;
  uwsgi_temp_path {folder}/uwsgi;
{server}
}}
"""
_SERVER = """
  server {{
    listen 127.0.0.1:{port} ssl;
    ssl_certificate {certificate};
    ssl_certificate_key {key};
{locations}
  }}
"""
_LOCATION = """
    location {prefix}/ {{
      if ($http_authorization != "{authorization}") {{ return 401; }}
      proxy_pass {upstream}/;
      proxy_set_header Authorization "";
    }}
"""


class Nginx:
    """An nginx that runs as a context manager; subclasses say what it serves and when it does."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir(exist_ok=True)
        self.port, self._folder, self._log = free_port(), folder, folder / "nginx.log"
        self._process: subprocess.Popen[bytes]

    def asked(self) -> list[str]:
        """One line for each request: protocol, request, status and Authorization."""
        return (self._folder / "access.log").read_text().splitlines()

    def __enter__(self) -> Self:
        config = self._folder / "nginx.conf"
        config.write_text(_CONFIG.format(folder=self._folder, server=self._server()))
        words = [tool("nginx"), "-p", str(self._folder), "-e", "stderr", "-c", str(config)]
        with self._log.open("wb") as log:
            self._process = subprocess.Popen(words, stderr=log, stdout=log)
        try:
            wait_until(self._answers, 60)
        except BaseException:
            self._end()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None
    ) -> None:
        self._end()

    def _end(self) -> None:
        self._process.terminate()
        self._process.wait()

    def _answers(self) -> bool:
        assert self._process.poll() is None, self._log.read_text()
        return self._serves()

    def _server(self) -> str:
        """The configuration of what it serves."""
        raise NotImplementedError

    def _serves(self) -> bool:
        """Return whether it serves that yet."""
        raise NotImplementedError


class TlsProxy(Nginx):
    """An nginx that serves several upstreams below paths, each with the Authorization it asks for."""

    def __init__(
        self, folder: Path, authority: Path, places: dict[str, tuple[str, str]], server: str | None = None
    ) -> None:
        """`places` has for each path the URL of an upstream and the header that requests must have.

        `server` is the configuration instead, with {port}, {certificate} and {key} in it.
        """
        super().__init__(folder)
        self._authority, self._places, self._given = authority, places, server

    def url(self, path: str) -> str:
        """Where a path is served."""
        return f"https://127.0.0.1:{self.port}{path}"

    def _server(self) -> str:
        certificate = certificate_for(self._folder, self._authority, "IP:127.0.0.1")
        locations = "".join(
            _LOCATION.format(prefix=prefix, upstream=upstream, authorization=authorization)
            for prefix, (upstream, authorization) in self._places.items()
        )
        server = self._given or _SERVER.replace(
            "{locations}", locations.replace("{", "{{").replace("}", "}}")
        )
        return server.format(port=self.port, certificate=certificate, key=certificate.with_suffix(".key"))

    def _serves(self) -> bool:
        try:
            ssl.get_server_certificate(("127.0.0.1", self.port), timeout=5)
        except OSError:
            return False
        return True


def get(url: str, authority: Path, authorization: str) -> requests.Response:
    """GET a URL as an agent does that has the secret."""
    return requests.get(
        url,
        headers={"Authorization": authorization},
        verify=str(authority),
        timeout=10,
        allow_redirects=False,
    )
