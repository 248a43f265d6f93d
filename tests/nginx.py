"""The real nginx before an Ollama: TLS, a path and a secret."""

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


class TlsProxy:
    """An nginx that serves several upstreams below paths, each with the Authorization it asks for."""

    def __init__(
        self, folder: Path, authority: Path, places: dict[str, tuple[str, str]], server: str | None = None
    ) -> None:
        """`places` has for each path the URL of an upstream and the header that requests must have.

        `server` is the configuration instead, with {port}, {certificate} and {key} in it.
        """
        folder.mkdir(exist_ok=True)
        self.port, self._folder, self._authority = free_port(), folder, authority
        self._config, self._log = folder / "nginx.conf", folder / "nginx.log"
        self._places, self._server = places, server
        self._process: subprocess.Popen[bytes]

    def url(self, path: str) -> str:
        """Where a path is served."""
        return f"https://127.0.0.1:{self.port}{path}"

    def asked(self) -> list[str]:
        """One line for each request: protocol, request, status and Authorization."""
        return (self._folder / "access.log").read_text().splitlines()

    def __enter__(self) -> Self:
        certificate = certificate_for(self._folder, self._authority, "IP:127.0.0.1")
        locations = "".join(
            _LOCATION.format(prefix=prefix, upstream=upstream, authorization=authorization)
            for prefix, (upstream, authorization) in self._places.items()
        )
        server = self._server or _SERVER.replace(
            "{locations}", locations.replace("{", "{{").replace("}", "}}")
        )
        server = server.format(port=self.port, certificate=certificate, key=certificate.with_suffix(".key"))
        self._config.write_text(_CONFIG.format(folder=self._folder, server=server))
        words = [tool("nginx"), "-p", str(self._folder), "-e", "stderr", "-c", str(self._config)]
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
