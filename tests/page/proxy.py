"""The real nginx in front of a server, which it serves below a path."""

from pathlib import Path

import requests

from tests.nginx import Nginx

_SERVER = """
  server {{
    listen 127.0.0.1:{port};
    location {prefix}/ {{
      proxy_pass {upstream}/;
      {headers}
    }}
  }}
"""


class Proxy(Nginx):
    """An nginx that passes `prefix`/... on to the server at `upstream` as /..., as a context manager."""

    def __init__(self, folder: Path, upstream: str, prefix: str, headers: str = "") -> None:
        super().__init__(folder)
        self.url = f"http://127.0.0.1:{self.port}{prefix}"
        self._place = {"prefix": prefix, "upstream": upstream, "headers": headers}

    def _server(self) -> str:
        return _SERVER.format(port=self.port, **self._place)

    def _is_ready(self) -> bool:
        try:
            return requests.get(f"{self.url}/health", timeout=60).ok
        except requests.ConnectionError:
            return False
