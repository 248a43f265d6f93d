"""The host names under which the sidecar answers."""

import socket

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sidecar.hosts import HostRule, host_name
from tests.sidecar.running import Sidecar
from tests.sidecar.serving import Said, ask_raw

FOREIGN = [
    "example.com",
    "attacker.example",
    "local.example.com",
    "localhost.example.com",
    "127.0.0.1.example.com",
    "home.arpa",
    "1.2.3.4.5",
]
OURS = [
    "127.0.0.1",
    "192.0.2.7",
    "[::1]",
    "[2001:DB8::7]",
    "[fe80::1%eth0]",
    "localhost",
    "LocalHost",
    "app.localhost",
    "workstation",
    "workstation.local",
    "workstation.LAN",
    "gpu.rack.internal",
    "box.home.arpa",
    socket.gethostname(),
]
MALFORMED = [
    "",
    ":80",
    "a b",
    "a/b",
    "user@a",
    "a..b",
    ".a",
    "[::1",
    "::1",
    "[1.2.3.4.5]",
    "[x]",
    "a:x",
    "a:1:2",
    "é",
    "%61",
    "a,b",
    300 * "a",
]


def ask(port: int, *headers: str, target: str = "/health") -> Said:
    lines = "".join(f"{header}\r\n" for header in headers)
    return ask_raw(port, f"GET {target} HTTP/1.1\r\n{lines}\r\n".encode("latin-1"))[0]


@pytest.mark.parametrize("ending", ["", ":3039", ":"])
@pytest.mark.parametrize("name", [*OURS, "localhost.", "Workstation.local."])
def test_addresses_and_names_that_public_dns_cannot_hold_are_answered(name: str, ending: str) -> None:
    assert HostRule(()).refusal("/", {"host": name + ending}, "1.1") is None


@pytest.mark.parametrize("ending", ["", ":3039", ".", ".:3039"])
@pytest.mark.parametrize("name", FOREIGN)
def test_any_other_name_is_misdirected(name: str, ending: str) -> None:
    refusal = HostRule(("other.example",)).refusal("/", {"host": name.upper() + ending}, "1.1")
    assert refusal is not None
    assert refusal[:2] == (421, "misdirected_request")
    assert "SIDECAR_ALLOWED_HOSTS" in refusal[2]


@pytest.mark.parametrize("host", MALFORMED)
def test_what_is_no_host_is_a_bad_request_whoever_asks(host: str) -> None:
    refusal = HostRule(()).refusal("/", {"host": host, "sec-machines-client": "x/1"}, "1.1")
    assert refusal is not None
    assert refusal[:2] == (400, "bad_request")


def test_names_and_domains_can_be_allowed() -> None:
    rule = HostRule(("gpu.example.com", ".example.org"))
    for name, is_allowed in {
        "gpu.example.com": True,
        "a.gpu.example.com": False,
        "example.com": False,
        "example.org": True,
        "a.example.org": True,
        "a.b.example.org": True,
        "badexample.org": False,
    }.items():
        assert rule.allows(name) is is_allowed, name


@given(st.text(max_size=40) | st.from_regex(r"[\[\]a-zA-Z0-9.:%_-]{0,40}", fullmatch=True))
def test_whatever_a_host_header_says_a_name_is_plain_or_there_is_none(host: str) -> None:
    name = host_name(host)
    assert name is None or (
        name.isascii() and name == name.lower() and name.isprintable() and " " not in name
    )


def test_a_rebound_name_reads_nothing(sidecar: Sidecar) -> None:
    for target in ("/metrics", "/health", "/none"):
        said = ask(sidecar.port, "Host: rebound.example:3039", target=target)
        assert (said.status, said.json["error"]) == (421, "misdirected_request")
        assert "SIDECAR_ALLOWED_HOSTS" in said.json["message"]
    assert ask(sidecar.port, "Host: rebound.example", "Sec-Machines-Client: machines-server/1").status == 200
    assert ask(sidecar.port, "Host: rebound.example", "Sec-Machines-Client:").status == 421


def test_the_host_of_a_whole_target_counts_more_than_the_header(sidecar: Sidecar) -> None:
    assert ask(sidecar.port, "Host: rebound.example", target="http://127.0.0.1/health").status == 200
    assert ask(sidecar.port, "Host: 127.0.0.1", target="http://rebound.example:3039/health?a=b").status == 421
    assert ask(sidecar.port, "Host: 127.0.0.1", target="HTTP://u@127.0.0.1/health").status == 400
    old = ask_raw(sidecar.port, b"GET http://rebound.example/health HTTP/1.0\r\n\r\n")
    assert [said.status for said in old] == [421]


def test_no_page_of_another_origin_may_read_an_answer(sidecar: Sidecar) -> None:
    said = ask(
        sidecar.port, "Host: 127.0.0.1", "Origin: http://rebound.example", "Sec-Fetch-Site: cross-site"
    )
    assert said.status == 200
    assert not [name for name in said.headers if name.lower().startswith("access-control-")]
    assert said.headers["Cross-Origin-Resource-Policy"] == "same-origin"
    assert said.headers["X-Content-Type-Options"] == "nosniff"
