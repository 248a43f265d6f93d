"""A database with a past, and a client that asks for it over HTTP."""

import json
import time
from pathlib import Path
from typing import Any

from flask.testing import FlaskClient

from machines_server.core.sample import (
    Cycle,
    State,
)
from machines_server.process.compose import make_app
from machines_server.settings import load_settings
from tests.store.sqlite.telemetry.database import Database


class Past:
    """A client, and the database behind it."""

    def __init__(self, folder: Path) -> None:
        (folder / "machines").mkdir()
        (folder / "machines" / "two.yaml").write_text(
            "name: two\nrole: r\nhardware: {}\nnetwork: {hostname: 127.0.0.1}\nmodels: [llama3.1:70b, phi3]\n"
        )
        self.now = time.time()
        self.database = Database(folder / "var" / "telemetry.db")
        given = {"MACHINES_DIR": str(folder / "machines"), "MACHINES_DATA_DIR": str(folder / "var")}
        self.client: FlaskClient = make_app(load_settings(given)[0]).test_client()

    def get(self, path: str, status: int = 200) -> Any:
        response = self.client.get(path)
        assert response.status_code == status, response.data
        assert response.mimetype == "application/json"
        return json.loads(response.data)

    def write_cycles(self, *states: State, every_s: float = 5) -> None:
        """One cycle after another, the last of them now."""
        for number, state in enumerate(states):
            at = self.now - every_s * (len(states) - 1 - number)
            self.database.add(at, float(number), state=state)
            self.database.writer.write([Cycle(at - 0.1, at, every_s, 2)])
