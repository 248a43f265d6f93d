"""Text from callers comes back shortened, odd requests are a 400, and answers only grow with the fleet."""

import json
from pathlib import Path
from typing import Any
from urllib.parse import quote

import orjson
import pytest
from flask.testing import FlaskClient
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from machines_server.process.compose import make_app
from machines_server.settings import load_settings
from machines_server.store.sqlite.migrate import migrate
from tests.seen import say

MACHINES = 200
LONG = "ü" * 20_000


@pytest.fixture(scope="module")
def client(tmp_path_factory: pytest.TempPathFactory) -> FlaskClient:
    """A server of many machines that nobody polls, each with a long text of its own."""
    folder: Path = tmp_path_factory.mktemp("budgets")
    (folder / "machines").mkdir()
    for number in range(MACHINES):
        declared = {
            "name": f"m{number:03}",
            "role": "r" * 500,
            "hardware": {},
            "network": {"hostname": f"127.0.1.{number + 1}"},
            "models": [],
            "note": LONG[:2000],
            "tags": [LONG[:500]],
        }
        (folder / "machines" / f"m{number:03}.yaml").write_text(json.dumps(declared))
    settings_, _ = load_settings(
        {"MACHINES_DIR": str(folder / "machines"), "MACHINES_DATA_DIR": str(folder / "var")}
    )
    migrate(settings_.telemetry_db)
    return make_app(settings_).test_client()


LARGE: dict[str, dict[str, Any]] = {
    "a long value": {"where": [f"note:{LONG[:512]}"]},
    "a long path": {"where": [f"{LONG[:512]}:x"]},
    "a hundred conditions": {"where": {f"{'p' * 250}{number}": "v" * 250 for number in range(100)}},
    "a value of the file": {"where": ["note:x"]},
    "a path of many parts": {"where": [f"{'a.' * 255}a:x"]},
    "a hundred tags": {"tag": ["t" * 500 + str(number) for number in range(100)]},
    "a long role": {"role": "r" * 512},
    "a long model": {"model": f"{'h' * 250}/{'n' * 80}/{'m' * 80}:{'t' * 80}", "cold": True},
    "many excluded": {"exclude": ["e" * 500 + str(number) for number in range(100)]},
}


@pytest.mark.parametrize("what", LARGE)
def test_an_answer_is_as_large_as_the_fleet_makes_it(client: FlaskClient, what: str) -> None:
    body = orjson.dumps({"model": "m"} | LARGE[what])
    small = client.post("/api/leases", json={"model": "m"})
    response = client.post("/api/leases", data=body)
    assert response.status_code == 503
    say(f"{what}: {len(body)} bytes asked, {len(response.data)} answered; {len(small.data)} for a plain one")
    assert len(response.data) < MACHINES * 1000
    assert len(response.get_json()["message"]) < 2000
    reasons = [one["reason"] for one in response.get_json()["rejected"]]
    assert len(reasons) == MACHINES
    assert max(map(len, reasons)) <= 500


@pytest.mark.parametrize(
    ("body", "parameter"),
    [
        ({"where": [f"note:{'x' * 513}"]}, "where"),
        ({"where": [f"{'a.' * 257}b:x"]}, "where"),
        ({"where": {"note": "x" * 513}}, "where"),
        ({"where": {"a.b": {"c": 1}}}, "where"),
        ({"where": {"note": [[[]]]}}, "where"),
        ({"role": "r" * 513}, "role"),
        ({"tag": ["t" * 513]}, "tag"),
        ({"tag": ["t"] * 101}, "tag"),
        ({"exclude": ["e"] * 10_001}, "exclude"),
        ({"min_context": 2**63}, "min_context"),
        ({"ttl_s": 1e300}, "ttl_s"),
        ({LONG[:9000]: 1}, f"{'ü' * 99}…"),
    ],
)
def test_what_is_too_long_is_a_400_that_is_short(
    client: FlaskClient, body: dict[str, Any], parameter: str
) -> None:
    response = client.post("/api/leases", json={"model": "m"} | body)
    assert (response.status_code, response.get_json()["parameter"]) == (400, parameter)
    assert len(response.data) < 1500


def nested(depth: int, kind: str) -> bytes:
    return b"[" * depth + b"]" * depth if kind == "list" else b'{"a":' * depth + b"1" + b"}" * depth


ODD = [
    *(nested(depth, kind) for depth in (5, 200, 900, 1020, 8000) for kind in ("list", "mapping")),
    b"1" + b"0" * 5000,
    b"1e999",
    b"-1e999",
    b"NaN",
    b"Infinity",
    b'"\\ud800"',
    b'"\\udfff\\ud800"',
    b'"\xff\xfe"',
    b'"\xed\xa0\x80"',
    b'"\\u0000"',
    b"9" * 4301,
    b"-0.0",
    b"{}",
    b"[[],{}]",
]


@pytest.mark.parametrize(
    "key", ["where", "model", "tag", "exclude", "role", "min_context", "ttl_s", "holder", "x"]
)
def test_odd_values_in_a_body_are_never_a_500(client: FlaskClient, key: str) -> None:
    for odd in ODD:
        for value in (odd, b'{"a":' + odd + b"}", b"[" + odd + b"]"):
            response = client.post("/api/leases", data=b'{"model":"m","%s":%s}' % (key.encode(), value))
            assert response.status_code in (400, 503), (key, value[:50], response.data[:300])
            assert len(response.data) < MACHINES * 1000
    for odd in ODD:
        for path in ("/api/leases", "/api/leases/x/renew"):
            assert client.post(path, data=odd).status_code in (400, 404)


@settings(max_examples=150, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.sampled_from(
        [
            "/api/route",
            "/api/events",
            "/api/models",
            "/api/machines/x/history",
            "/api/machines/x/availability",
        ]
    ),
    st.dictionaries(
        st.sampled_from(
            ["model", "where", "tag", "from", "to", "step", "limit", "after", "gpu", "min_context"]
        )
        | st.text(max_size=10),
        st.text(max_size=30)
        | st.integers().map(str)
        | st.floats().map(str)
        | st.sampled_from(["١٢", "-9999999w"]),
        max_size=3,
    ),
)
def test_odd_queries_are_never_a_500(client: FlaskClient, path: str, query: dict[str, str]) -> None:
    pairs = (
        f"{quote(name, errors='surrogatepass')}={quote(value, errors='surrogatepass')}"
        for name, value in query.items()
    )
    response = client.get(f"{path}?{'&'.join(pairs)}")
    assert response.status_code in (200, 400, 404, 503), response.data
    if response.status_code == 503:
        assert response.get_json()["error"] == "no_machine"


@pytest.mark.parametrize(
    "odd", ["%00", "%FF", "%ED%A0%80", "%F4%90%80%80", "%E2%80%AE", "%0D%0A", "%1B%5B2J"]
)
def test_odd_bytes_in_a_path_or_a_query_are_never_a_500(client: FlaskClient, odd: str) -> None:
    for path in (
        f"/api/machines/{odd}",
        f"/api/machines/{odd}/file",
        f"/api/machines/{odd}/history",
        f"/api/machines/m000/history?metric={odd}",
        f"/api/machines/m000/history?gpu={odd}",
        f"/api/machines/m000/availability?from={odd}",
        f"/api/events?machine={odd}",
        f"/api/events?type={odd}&{odd}=1",
        f"/api/route?model=m&{odd}=1",
        f"/api/route?model={odd}&where={odd}:{odd}&tag={odd}&exclude={odd}&role={odd}",
    ):
        response = client.get(path)
        assert response.status_code in (400, 404, 503), (path, response.data)
        assert response.get_json()["error"] != "store_unavailable", path
    assert client.delete(f"/api/leases/{odd}").status_code == 404
    assert client.post(f"/api/leases/{odd}/renew").status_code == 404


def test_a_name_that_is_not_known_comes_back_short(client: FlaskClient) -> None:
    for path in (
        f"/api/route?model=m&{'n' * 3000}=1",
        f"/api/events?{'n' * 3000}=1",
        f"/api/events?type={'n' * 3000}",
        f"/api/events?limit={'9' * 3000}",
        f"/api/events?machine={'n' * 3000}",
        f"/api/models?from={'n' * 3000}",
        f"/api/machines/{'n' * 3000}",
        f"/api/machines/{'n' * 3000}/file",
        f"/api/machines/{'n' * 3000}/history",
        f"/api/machines/m000/history?metric={'n' * 3000}",
        f"/api/machines/m000/history?step={'n' * 3000}",
        f"/api/machines/m000/history?format={'n' * 3000}",
        f"/api/machines/m000/history?gpu={'n' * 3000}",
    ):
        response = client.get(path)
        assert response.status_code in (400, 404), path
        assert len(response.data) < 1500, path
        assert response.get_json()["message"].endswith(".")
    released = client.delete(f"/api/leases/{'n' * 3000}")
    assert (released.status_code, len(released.data) < 500) == (404, True)


@pytest.mark.parametrize(
    ("method", "path"),
    [("POST", "/api/leases"), ("POST", "/api/leases/x/renew"), ("DELETE", "/api/leases/x")],
)
def test_a_body_for_leases_has_a_limit_of_its_own(client: FlaskClient, method: str, path: str) -> None:
    for size in (65_537, 65_538, 2**20 + 1):
        too_large = client.open(path, method=method, data=b" " * size)
        assert (too_large.status_code, too_large.get_json()["error"]) == (413, "request_entity_too_large")
        assert "64 KiB" in too_large.get_json()["message"]
    assert client.open(path, method=method, data=b" " * 65_536).status_code in (400, 404)
