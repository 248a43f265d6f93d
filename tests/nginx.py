"""The real nginx, in front of an Ollama with TLS, a path and a secret, or of this server."""

import ssl
from collections.abc import Sequence
from pathlib import Path

import requests

from tests.certificates import certificate_for
from tests.ports import free_port
from tests.programs import Program
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


class Nginx(Program):
    """An nginx that runs as a context manager; subclasses say what it serves and when it does."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir(exist_ok=True)
        super().__init__(folder / "nginx.log")
        self.port, self._folder = free_port(), folder

    def asked(self) -> list[str]:
        """One line for each request: protocol, request, status and Authorization."""
        return (self._folder / "access.log").read_text().splitlines()

    def _start(self) -> Sequence[str]:
        config = self._folder / "nginx.conf"
        config.write_text(_CONFIG.format(folder=self._folder, server=self._server()))
        return [tool("nginx"), "-p", str(self._folder), "-e", "stderr", "-c", str(config)]

    def _server(self) -> str:
        """The configuration of what it serves."""
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

    def _is_ready(self) -> bool:
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
