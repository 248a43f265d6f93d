"""Where a machine file says its endpoints are, and what requests to them carry."""

from typing import Any

import pytest

from machines_server.core.machine import Endpoint
from tests.inventory.texts import ALL, GOOD, editor_schema, error, machine, warnings


def endpoints(**network: Any) -> tuple[Endpoint, Endpoint]:
    """The sidecar and the Ollama of a machine with these keys under `network`."""
    lines = "".join(f"  {key}: {value}\n" for key, value in network.items())
    found = machine(GOOD.replace("models", f"{lines}models")).endpoints
    return found["sidecar"], found["ollama"]


@pytest.mark.parametrize(
    ("path", "url"),
    [
        ("/", "https://box.lan:443"),
        ("/ollama", "https://box.lan:443/ollama"),
        ("/ollama/", "https://box.lan:443/ollama"),
        ("/a/b-c_d.e~f/%20/:@", "https://box.lan:443/a/b-c_d.e~f/%20/:@"),
        ("/..a/b..", "https://box.lan:443/..a/b.."),
    ],
)
def test_the_url_of_an_ollama_has_scheme_port_and_prefix(path: str, url: str) -> None:
    sidecar, ollama = endpoints(scheme="https", port=443, path=f"'{path}'")
    assert ollama.url == url
    assert sidecar.url == "http://box.lan:3039"


@pytest.mark.parametrize(
    ("path", "hint"),
    [
        ("ollama", "put a / before it"),
        ("", "expected a path"),
        ("/a?b=c", "remove the query"),
        ("/a#b", "remove the fragment"),
        ("http://box.lan/a", "remove the scheme and the host"),
        ("//a", "empty part"),
        ("/a//b", "empty part"),
        ("/a//", "empty part"),
        ("/..", "without . and .."),
        ("/a/../b", "without . and .."),
        ("/./a", "without . and .."),
        ("/a/%2e%2E/b", "without . and .."),
        ("/a/.%2e", "without . and .."),
        ("/a b", "remove the space"),
        ("/a%2", "two hexadecimal digits"),
        ("/%zz", "two hexadecimal digits"),
        ("/ä", "expected a path"),
        ("/" + "a" * 512, "over 512 characters"),
    ],
)
def test_a_path_that_is_no_plain_path_is_refused_with_the_reason(path: str, hint: str) -> None:
    text = ALL.replace("path: /ollama", f'path: "{path}"')
    problem = error(text)
    assert (problem.key, problem.line) == ("network.path", 11)
    assert hint in problem.message
    network = {**machine(ALL).declared["network"], "path": path}
    assert not editor_schema().is_valid({**machine(ALL).declared, "network": network})


@pytest.mark.parametrize(
    ("name", "hint"),
    [
        ("a/b", "without a folder"),
        ("../token", "without a folder"),
        ("/etc/shadow", "without a folder"),
        ("a\\\\b", "without a folder"),
        ("..", "a hidden file is not read"),
        (".token", "a hidden file is not read"),
        ("a b", "remove the space"),
        ("", "expected the name of a file"),
        ("-token", "expected the name of a file"),
        ("a" * 256, "expected the name of a file"),
    ],
)
def test_the_name_of_a_file_is_a_plain_one(name: str, hint: str) -> None:
    for old, key in (("ca: own-ca.pem", "ca"), ("credential: proxy-token", "credential")):
        problem = error(ALL.replace(old, f'{key}: "{name}"', 1))
        assert problem.key == f"network.{key}"
        assert hint in problem.message
        network = {**machine(ALL).declared["network"], key: name.replace("\\\\", "\\")}
        assert not editor_schema().is_valid({**machine(ALL).declared, "network": network})


def test_no_line_break_gets_into_a_request() -> None:
    assert error(ALL.replace("path: /ollama", 'path: "/a\\n"')).key == "network.path"
    assert error(ALL.replace("credential: proxy-token", 'credential: "a\\n"', 1)).key == "network.credential"


def test_a_sidecar_may_be_elsewhere_and_trusts_the_same_authorities() -> None:
    sidecar, ollama = endpoints(sidecar_hostname="fd00::7", sidecar_scheme="https", ca="own.pem")
    assert sidecar.url == "https://[fd00::7]:3039"
    assert (sidecar.ca, ollama.ca) == ("own.pem", None)
    assert ollama.url == "http://box.lan:11434"


@pytest.mark.parametrize(
    ("more", "shares"),
    [
        ({}, False),
        ({"sidecar_port": 443}, False),
        ({"sidecar_scheme": "https"}, False),
        ({"sidecar_port": 443, "sidecar_scheme": "https"}, True),
        ({"sidecar_port": 443, "sidecar_scheme": "https", "sidecar_hostname": "other.lan"}, False),
    ],
)
def test_a_credential_is_for_ollama_alone_unless_a_proxy_has_both_at_one_place(
    more: dict[str, Any], shares: bool
) -> None:
    sidecar, ollama = endpoints(scheme="https", port=443, credential="token", **more)
    assert ollama.credential == "token"
    assert sidecar.credential == ("token" if shares else None)


@pytest.mark.parametrize(
    ("hostname", "more", "is_warned"),
    [
        ("box.lan", "", True),
        ("10.0.0.1", "", True),
        ("box.lan", "  scheme: https\n", False),
        ("box.lan", "  ollama: false\n", False),
        ("127.0.0.1", "", False),
        ("localhost", "", False),
        ("'::1'", "", False),
    ],
)
def test_a_credential_that_others_can_read_on_its_way_is_a_warning(
    hostname: str, more: str, is_warned: bool
) -> None:
    text = GOOD.replace("box.lan", hostname).replace("models", f"  credential: token\n{more}models")
    found = [(one.key, one.line) for one in warnings(text)]
    assert found == ([("network.credential", 6)] if is_warned else [])


def test_two_ollamas_behind_one_proxy_are_not_one_host() -> None:
    one, other = (endpoints(scheme="https", port=443, path=path)[1] for path in ("/one", "/other"))
    assert one.url != other.url
    assert one != other
