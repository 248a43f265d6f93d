"""Which names of this server are answered."""

import pytest

from machines_server.core.hosts import host_name, is_allowed_host, parse_allowed_hosts

OURS = [
    "127.0.0.1",
    "127.0.0.1:3038",
    "10.1.2.3",
    "203.0.113.9:80",
    "[::1]:3038",
    "[fe80::1]",
    "localhost",
    "LOCALHOST:3038",
    "a.localhost",
    "server",
    "server.",
    "workstation.lan:3038",
    "host.local",
    "deep.host.home.arpa",
    "vm.internal",
    "this.example.net",
    "THIS.example.net.:80",
    "listed.example.com",
    "example.org",
    "any.example.org",
    "a.b.example.org:443",
]
NOT_OURS = [
    "evil.example.com",
    "rebound.example",
    "localhost.example.com",
    "127.0.0.1.example.com",
    "notexample.org",
    "sub.listed.example.com",
    "example.lan.com",
    "xlan.example",
    "xn--e1afmkfd.example",
]
NO_HOST = [
    "",
    ":",
    "a b",
    "a/b",
    "a@b",
    "[::1",
    "::1",
    "[x]",
    "a..b",
    ".a",
    "-a.example",
    "a\x00",
    "ä",
    "a:b:c",
    "a:x",
]


@pytest.mark.parametrize("host", OURS)
def test_addresses_private_names_and_listed_ones_are_ours(host: str) -> None:
    name = host_name(host)
    assert name is not None
    assert is_allowed_host(name, {"this.example.net"}, ("listed.example.com", ".example.org"))


@pytest.mark.parametrize("host", NOT_OURS)
def test_any_other_public_name_is_not(host: str) -> None:
    name = host_name(host)
    assert name is not None
    assert not is_allowed_host(name, {"this.example.net"}, ("listed.example.com", ".example.org"))


@pytest.mark.parametrize("host", NO_HOST)
def test_what_is_neither_name_nor_address_has_no_name(host: str) -> None:
    assert host_name(host) is None


def test_the_setting_takes_names_and_domains() -> None:
    assert parse_allowed_hosts(" a.example, .B.example. ,,") == ("a.example", ".b.example")
    for text in ("http://a", "a:80", "a b", "*", "*.example.com", "a/b"):
        with pytest.raises(ValueError, match="separated by commas"):
            parse_allowed_hosts(text)
