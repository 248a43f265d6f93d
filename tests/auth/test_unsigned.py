"""Thousands of unsigned requests learn nothing about the fleet."""

import http.client
import random
from contextlib import closing

import pytest

from machines_server.process.compose import make_app
from machines_server.settings import load_settings
from machines_server.web.authentication import OPEN_PATHS
from tests.auth.enforcing import Enforcing

REQUESTS = 10_000
METHODS = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE", "PROPFIND")
SECRETS = (b"secret-machine", b"24GB consumer GPU", b"GPU-")


def paths() -> list[str]:
    """Every route, with a name or a guess for each part that varies."""
    rules = [rule.rule for rule in make_app(load_settings({})[0]).url_map.iter_rules()]
    names = ("<name>", "<lease>", "<path:name>")
    fills = ("secret-machine", "app.js", "..", "%2e%2e")
    found = []
    for rule in rules:
        for fill in fills if "<" in rule else ("",):
            path = rule
            for name in names:
                path = path.replace(name, fill)
            found.append(path)
    return found


def changed(chance: random.Random, path: str) -> str:
    """The path, often spelled in another way."""
    how = chance.randrange(8)
    if how == 0:
        return f"/{path}"
    if how == 1:
        return f"{path}?limit=1&wait_s=0"
    if how == 2 and len(path) > 1:
        place = chance.randrange(1, len(path))
        return f"{path[:place]}%{ord(path[place]):02x}{path[place + 1 :]}"
    if how == 3:
        return f"/health/..{path}"
    if how == 4:
        return f"/static/..{path}"
    return path


def is_open(method: str, target: str) -> bool:
    path = target.partition("?")[0]
    if method == "OPTIONS" or path == "/login":
        return True
    return method in ("GET", "HEAD") and (path.encode() in OPEN_PATHS or path.startswith("/static/"))


@pytest.mark.slow
def test_random_unsigned_requests_learn_nothing(enforcing: Enforcing) -> None:
    chance, known = random.Random(1), paths()
    accepts = ("*/*", "text/html", "application/json")
    answered = 0
    with closing(http.client.HTTPConnection("127.0.0.1", enforcing.port, timeout=20)) as connection:
        for _ in range(REQUESTS):
            method, target = chance.choice(METHODS), changed(chance, chance.choice(known))
            body = b'{"model": "m"}' if method in ("POST", "PUT", "PATCH") else None
            connection.request(method, target, body, {"Accept": chance.choice(accepts)})
            answer = connection.getresponse()
            content = answer.read()
            assert not [secret for secret in SECRETS if secret in content], (method, target)
            if is_open(method, target):
                answered += answer.status == 200
            else:
                assert answer.status in (401, 501), (method, target, answer.status)
    assert answered > REQUESTS / 100
