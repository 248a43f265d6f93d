"""Firefox without a window, driven over Marionette, the protocol that it speaks itself: it needs no driver.

Each message is its length, a colon and JSON: [0, id, command, parameters] there, [1, id, error, result] back.
The commands are those of WebDriver (https://www.w3.org/TR/webdriver2/).
"""

import json
import re
import socket
import subprocess
from pathlib import Path
from typing import Any

from tests.fakes import wait_until
from tests.tools import tool

START_S = 90
_ELEMENT = "element-6066-11e4-a52e-4f735466cecf"
"""The key under which WebDriver gives the id of an element."""
_PREFERENCES = {
    "marionette.port": 0,  # any that is free; a file in the profile says which
    "devtools.console.stdout.content": True,
    "browser.dom.window.dump.enabled": True,
    # It connects only to what it is told to open.
    "network.proxy.type": 1,
    "network.proxy.http": "127.0.0.1",
    "network.proxy.http_port": 9,
    "network.proxy.ssl": "127.0.0.1",
    "network.proxy.ssl_port": 9,
    "network.captive-portal-service.enabled": False,
    "network.connectivity-service.enabled": False,
}

_COMPLAINT = re.compile(r'JavaScript error: http|console\.(error|warn): ["(]')
"""An uncaught error of a page, or what its scripts log; what Firefox itself logs begins with a bare word."""


class Firefox:
    """A running Firefox with one page, as a context manager; `profile` is an empty folder."""

    def __init__(self, profile: Path) -> None:
        self._profile = profile
        self._log = profile / "output.log"
        self._sent = 0
        self._process: subprocess.Popen[bytes]
        self._socket: socket.socket

    def __enter__(self) -> "Firefox":
        lines = (f"user_pref({json.dumps(name)}, {json.dumps(one)});\n" for name, one in _PREFERENCES.items())
        (self._profile / "user.js").write_text("".join(lines))
        words = [tool("firefox-esr"), "--headless", "--no-remote", "--marionette"]
        with self._log.open("wb") as log:
            self._process = subprocess.Popen(
                [*words, "--profile", str(self._profile)], stdout=log, stderr=subprocess.STDOUT
            )
        try:
            port = wait_until(self._port, START_S)
            self._socket = socket.create_connection(("127.0.0.1", port), timeout=START_S)
            self._receive()  # its greeting
            self.command("WebDriver:NewSession")
        except BaseException:
            self._process.kill()
            self._process.wait()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self._socket.close()
        self._process.terminate()
        try:
            self._process.wait(timeout=30)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()

    def command(self, name: str, **parameters: object) -> Any:
        """What a command of WebDriver returns; fails with what Firefox says."""
        self._sent += 1
        message = json.dumps([0, self._sent, name, parameters]).encode()
        self._socket.sendall(b"%d:%s" % (len(message), message))
        _, _, error, result = self._receive()
        assert error is None, f"{name}: {error['message']}"
        return result["value"] if isinstance(result, dict) and "value" in result else result

    def open(self, url: str) -> None:
        """Open a page."""
        self.command("WebDriver:Navigate", url=url)

    def run(self, script: str, *arguments: object) -> Any:
        """What the body of a function returns in the page."""
        return self.command("WebDriver:ExecuteScript", script=script, args=list(arguments))

    def text(self, css: str = "main") -> str:
        """The visible text of the first such element, "" if there is none."""
        return str(self.run("return document.querySelector(arguments[0])?.innerText ?? ''", css))

    def wait_for(self, text: str, css: str = "main") -> None:
        """Return when the first such element has that text."""
        wait_until(lambda: text in self.text(css))

    def click(self, xpath: str) -> None:
        """Click the first such element as the mouse does."""
        self.command("WebDriver:ElementClick", id=self._element(xpath))

    def fill(self, xpath: str, text: str) -> None:
        """Type into the first such element."""
        self.command("WebDriver:ElementSendKeys", id=self._element(xpath), text=text)

    def drag(self, xpath: str, from_x: float, to_x: float) -> None:
        """Drag the mouse across an element, between two shares of its width."""
        origin = {_ELEMENT: self._element(xpath)}
        self.run("arguments[0].scrollIntoView({block: 'center'})", origin)
        width = self.run("return arguments[0].getBoundingClientRect().width", origin)
        places = [round(width * (share - 0.5)) for share in (from_x, (from_x + to_x) / 2, to_x)]
        moves = [{"type": "pointerMove", "duration": 50, "origin": origin, "x": x, "y": 0} for x in places]
        down, up = ({"type": kind, "button": 0} for kind in ("pointerDown", "pointerUp"))
        mouse = {"type": "pointer", "id": "mouse", "parameters": {"pointerType": "mouse"}}
        actions = [moves[0], down, *moves[1:], up]
        self.command("WebDriver:PerformActions", actions=[mouse | {"actions": actions}])

    def complaints(self) -> list[str]:
        """What scripts of pages complained of so far."""
        return [line for line in self._log.read_text(errors="replace").splitlines() if _COMPLAINT.match(line)]

    def _element(self, xpath: str) -> str:
        found = wait_until(lambda: self.command("WebDriver:FindElements", using="xpath", value=xpath))
        return str(found[0][_ELEMENT])

    def _port(self) -> int:
        assert self._process.poll() is None, self._log.read_text(errors="replace")
        try:
            return int((self._profile / "MarionetteActivePort").read_text())
        except (FileNotFoundError, ValueError):
            return 0

    def _receive(self) -> Any:
        length = b""
        while not length.endswith(b":"):
            length += self._some(1)
        missing, text = int(length[:-1]), b""
        while len(text) < missing:
            text += self._some(missing - len(text))
        return json.loads(text)

    def _some(self, most: int) -> bytes:
        data = self._socket.recv(most)
        assert data, "Firefox has closed the connection"
        return data
