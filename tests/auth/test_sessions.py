"""People sign in with a link, and their sessions only read."""

import re
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import msgspec
import pytest
import requests

from machines_server.contract.sessions import LoggedOut, LoginLink
from tests.auth.agents import send
from tests.auth.enforcing import Enforcing
from tests.running import RunningServer, command

FLEET = "/api/infrastructure"
HTML = {"Accept": "text/html,application/xhtml+xml"}


def variables(enforcing: Enforcing) -> dict[str, str]:
    return {
        "MACHINES_URL": enforcing.server.url,
        "MACHINES_AGENT_ID": "me",
        "MACHINES_PRIVATE_KEY": str(enforcing.agent.private_key),
    }


@pytest.fixture
def link(enforcing: Enforcing) -> str:
    done = command("login", **variables(enforcing))
    assert done.returncode == 0, done.stderr
    assert "open it once, before" in done.stderr
    return done.stdout.strip()


@pytest.fixture
def signed_in(link: str) -> Iterator[requests.Session]:
    with requests.Session() as session:
        begin(session, link)
        yield session


def begin(session: requests.Session, link: str) -> requests.Response:
    """Press the button of the page behind a link."""
    page = session.get(link)
    token = re.search(r'name="token" value="([^"]+)"', page.text)
    assert token is not None
    return session.post(link.partition("?")[0], {"token": token[1]}, allow_redirects=False)


def test_a_visitor_reads_how_to_sign_in(enforcing: Enforcing) -> None:
    for path in ("/", "/models", "/machines/secret-machine", "/nothing"):
        answer = requests.get(f"{enforcing.server.url}{path}", headers=HTML, timeout=20)
        assert answer.status_code == 401
        assert answer.headers["Content-Type"].startswith("text/html")
        assert answer.headers["Cache-Control"] == "no-store"
        assert "machines-server login" in answer.text
        assert "secret-machine" not in answer.text
    assert requests.get(f"{enforcing.server.url}/login", timeout=20).status_code == 200


def test_a_link_makes_one_session_that_only_reads(enforcing: Enforcing, link: str) -> None:
    with requests.Session() as session, requests.Session() as other:
        for _ in range(2):  # opening the page uses nothing up
            assert session.get(link).status_code == 200
        begun = begin(session, link)
        assert (begun.status_code, begun.headers["Location"]) == (303, "/")
        cookie = begun.headers["Set-Cookie"]
        assert "HttpOnly" in cookie
        assert "SameSite=Strict" in cookie
        assert "Max-Age=43200" in cookie
        assert "Secure" not in cookie
        for path in (FLEET, "/api/machines/secret-machine", "/", "/api/leases"):
            assert session.get(f"{enforcing.server.url}{path}").status_code == 200
        refused = session.post(f"{enforcing.server.url}/api/leases", json={"model": "m"})
        assert (refused.status_code, refused.json()["error"]) == (403, "forbidden")
        assert session.post(f"{enforcing.server.url}/api/login").status_code == 403
        assert begin(other, link).status_code == 403
        assert other.get(f"{enforcing.server.url}{FLEET}").status_code == 401


def test_the_answers_are_what_their_classes_say(enforcing: Enforcing) -> None:
    for path, kind in (("/api/login", LoginLink), ("/api/logout", LoggedOut)):
        answer = send(enforcing.port, "POST", path, enforcing.agent.sign("POST", path))
        assert answer.status == 200
        decoded = msgspec.json.decode(answer.body, type=kind)
        assert msgspec.json.encode(decoded) == answer.body.strip()


@pytest.mark.parametrize("end", ["agent", "logout"])
def test_sessions_end(enforcing: Enforcing, end: str) -> None:
    agent = enforcing.agents.add("leaving")
    unused, used = (
        msgspec.json.decode(send(enforcing.port, "POST", "/api/login", agent.sign("POST", "/api/login")).body)
        for _ in range(2)
    )
    with requests.Session() as session, requests.Session() as late:
        begin(session, f"{enforcing.server.url}{used['path']}")
        assert session.get(f"{enforcing.server.url}{FLEET}").status_code == 200
        if end == "agent":
            enforcing.agents.remove("leaving")
        else:
            assert command("logout", **variables(enforcing)).returncode == 2
            assert command("logout", "--all", **variables(enforcing)).returncode == 0
        for _ in range(6):  # by either worker
            assert session.get(f"{enforcing.server.url}{FLEET}").status_code == 401
        assert begin(late, f"{enforcing.server.url}{unused['path']}").status_code == 403


@pytest.mark.parametrize("value", ["", "x", "x.y", "W10.", ".", "\u00e9", "a" * 5000, "W10.W10"])
def test_a_made_up_session_is_none(enforcing: Enforcing, value: str) -> None:
    headers = {"Cookie": f"a=b; machines_session={value}"}
    assert send(enforcing.port, "GET", FLEET, headers).reason == "missing_headers"
    page = send(enforcing.port, "POST", "/login", {"Content-Type": "application/x-www-form-urlencoded"})
    assert page.status == 403


def test_a_session_survives_a_flipped_bit_nowhere(enforcing: Enforcing, signed_in: requests.Session) -> None:
    cookie = signed_in.cookies["machines_session"]
    for place in range(0, len(cookie), 7):
        changed = cookie[:place] + ("A" if cookie[place] != "A" else "B") + cookie[place + 1 :]
        answer = send(enforcing.port, "GET", FLEET, {"Cookie": f"machines_session={changed}"})
        assert answer.status == 401, place
    assert send(enforcing.port, "GET", FLEET, {"Cookie": f"machines_session={cookie}"}).status == 200


def test_links_and_sessions_are_not_each_other(enforcing: Enforcing, link: str) -> None:
    token = link.partition("token=")[2]
    headers = {"Cookie": f"machines_session={token}"}
    assert send(enforcing.port, "GET", FLEET, headers).status == 401


def test_a_foreign_page_cannot_sign_a_browser_in(enforcing: Enforcing, link: str) -> None:
    token = link.partition("token=")[2]
    headers = {"Origin": "http://evil.example", "Content-Type": "application/x-www-form-urlencoded"}
    answer = send(enforcing.port, "POST", "/login", headers, f"token={token}".encode())
    assert answer.status == 400


@pytest.mark.parametrize("form", [b"token=" + b"x" * 5000, b"a=b&" * 200_000])
def test_a_form_that_anybody_may_send_is_small(enforcing: Enforcing, form: bytes) -> None:
    headers = {"Content-Type": "application/x-www-form-urlencoded"}
    assert send(enforcing.port, "POST", "/login", headers, form).status == 413


def test_with_off_nobody_needs_to_sign_in(tmp_path: Path) -> None:
    with RunningServer(tmp_path) as server:
        done = command("login", MACHINES_URL=server.url)
        assert (done.returncode, done.stdout) == (2, "")
        assert done.stderr == "machines-server: AUTH_MODE is off: nobody needs to sign in.\n"


def test_a_link_that_is_used_many_times_at_once_makes_one_session(enforcing: Enforcing, link: str) -> None:
    token = link.partition("token=")[2]
    headers = {"Content-Type": "application/x-www-form-urlencoded"}

    def use(_: int) -> int:
        return send(enforcing.port, "POST", "/login", headers, f"token={token}".encode()).status

    with ThreadPoolExecutor(8) as pool:
        assert sorted(pool.map(use, range(16))) == [303] + [403] * 15
