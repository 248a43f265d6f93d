"""The real nginx before a server, which shows it below a path of its own."""

import subprocess
from pathlib import Path

import requests

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
  access_log off;
  client_body_temp_path {folder}/body;
  proxy_temp_path {folder}/proxy;
  fastcgi_temp_path {folder}/fastcgi;
  scgi_temp_path {folder}/scgi;
  uwsgi_temp_path {folder}/uwsgi;
  server {{
    listen 127.0.0.1:{port};
    location {prefix}/ {{
      proxy_pass {upstream}/;
      {headers}
    }}
  }}
}}
"""


class Proxy:
    """An nginx that passes `prefix`/... on to the server at `upstream` as /..., as a context manager."""

    def __init__(self, folder: Path, upstream: str, prefix: str, headers: str = "") -> None:
        port = free_port()
        self.url = f"http://127.0.0.1:{port}{prefix}"
        self.log = folder / "nginx.log"
        self._config = folder / "nginx.conf"
        self._config.write_text(
            _CONFIG.format(folder=folder, port=port, prefix=prefix, upstream=upstream, headers=headers)
        )
        self._process: subprocess.Popen[bytes]

    def __enter__(self) -> "Proxy":
        words = [tool("nginx"), "-p", str(self._config.parent), "-e", "stderr", "-c", str(self._config)]
        with self.log.open("wb") as log:
            self._process = subprocess.Popen(words, stderr=log, stdout=log)
        try:
            wait_until(self._answers, 60)
        except BaseException:
            self._end()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self._end()

    def _end(self) -> None:
        self._process.terminate()
        self._process.wait()

    def _answers(self) -> bool:
        assert self._process.poll() is None, self.log.read_text()
        try:
            return requests.get(f"{self.url}/health", timeout=60).ok
        except requests.ConnectionError:
            return False
