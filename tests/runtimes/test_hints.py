"""The hints for operators on how to fix an endpoint that does not answer."""

import pytest

from machines_server.core import reasons
from machines_server.core.machine import Endpoint
from machines_server.core.reasons import Reason, http_status
from machines_server.core.sample import State
from machines_server.errors import BadAnswerError
from machines_server.poll.cycle import AnswerReader
from machines_server.runtimes import hints
from machines_server.runtimes.kinds import KINDS
from tests.core.machines import a_machine

SIDECAR = Endpoint("sidecar", "workstation.lan", 3039, reports_host=True)
OLLAMA = Endpoint("ollama", "workstation.lan", 8080)
SECURE = Endpoint("ollama", "workstation.lan", 443, scheme="https", ca="own-ca.pem", credential="proxy-token")
BOTH = (SIDECAR, OLLAMA)
BUSY = Reason("no answer within 2 s on an open connection")


def hint(endpoint: Endpoint, state: State, reason: Reason, file: str = "one.yaml") -> str | None:
    return hints.hint(KINDS[endpoint.kind], endpoint, file, state, reason.code)


def refused(endpoint: Endpoint, body: bytes) -> Reason:
    """Why a body is no answer of that endpoint."""
    with pytest.raises(BadAnswerError) as caught:
        KINDS[endpoint.kind]().read(body)
    return caught.value.reason


def test_a_name_that_is_not_found_points_at_the_file_whichever_the_endpoint() -> None:
    for endpoint in BOTH:
        advice = hint(endpoint, State.UNREACHABLE, Reason("name not found", reasons.NO_NAME)) or ""
        assert "network.hostname in one.yaml" in advice


def test_a_sidecar_elsewhere_points_at_the_key_of_its_own_host() -> None:
    machine = a_machine("one", hostname="gpu.lan", endpoints={"sidecar": SIDECAR, "ollama": OLLAMA})
    reason = Reason("name not found", reasons.NO_NAME)
    advice = AnswerReader().hint(machine, SIDECAR, State.UNREACHABLE, reason)
    assert "check network.sidecar_hostname in one.yaml" in (advice or "")
    advice = AnswerReader().hint(machine, OLLAMA, State.UNREACHABLE, reason)
    assert "check network.hostname in one.yaml" in (advice or "")


def test_an_unreachable_ollama_is_told_to_listen_on_its_own_port() -> None:
    advice = hint(OLLAMA, State.UNREACHABLE, reasons.REFUSED) or ""
    assert "OLLAMA_HOST=0.0.0.0:8080" in advice


@pytest.mark.parametrize("hostname", ["localhost", "127.0.0.1", "::1"])
def test_an_ollama_on_this_very_machine_need_not_listen_elsewhere(hostname: str) -> None:
    advice = hint(Endpoint("ollama", hostname, 1), State.UNREACHABLE, reasons.REFUSED)
    assert advice == "start Ollama, or set network.ollama: false"


def test_an_unreachable_sidecar_is_to_be_started() -> None:
    advice = hint(SIDECAR, State.UNREACHABLE, reasons.REFUSED) or ""
    assert "make run-sidecar" in advice
    assert "network.sidecar: false" in advice


def test_a_busy_ollama_is_loading_a_model_and_a_busy_sidecar_is_not() -> None:
    assert "loading" in (hint(OLLAMA, State.BUSY, BUSY) or "")
    assert hint(SIDECAR, State.BUSY, BUSY) is None


@pytest.mark.parametrize(
    "reason", [Reason("no connection within 2 s", reasons.NO_CONNECTION), reasons.TIMED_OUT, reasons.NO_ROUTE]
)
def test_a_host_that_does_not_answer_at_all_is_off_or_behind_a_firewall(reason: Reason) -> None:
    for endpoint, port in ((OLLAMA, 8080), (SIDECAR, 3039)):
        advice = hint(endpoint, State.UNREACHABLE, reason) or ""
        assert f"firewall let port {port} through" in advice
        assert "start" not in advice


REDIRECTED, PASSWORD, GATEWAY = "a proxy there redirects requests", "asks for a password", "does not reach"
TABLE: list[tuple[tuple[Endpoint, ...], Reason, str | None]] = [
    *((BOTH, http_status(status), REDIRECTED) for status in (301, 302, 303, 307, 308)),
    *((BOTH, http_status(status, b"", b"https://x/"), "uses plain http") for status in (301, 302, 308)),
    (BOTH, http_status(400), "a proxy or a port that accepts only TLS"),
    (BOTH, http_status(400, b"plain HTTP request was sent to HTTPS port"), "uses plain http"),
    *((BOTH, http_status(status), PASSWORD) for status in (407, 511)),
    ((SIDECAR,), http_status(401), PASSWORD),
    ((SIDECAR,), http_status(401, b'{"error":"unauthorized","reason":"x"}'), "SIDECAR_AUTH_KEYS_DIR there"),
    ((OLLAMA,), http_status(401), "name that as network.credential in one.yaml"),
    *(((SECURE,), http_status(status), "the content of the credential proxy-token") for status in (401, 403)),
    ((OLLAMA,), http_status(403), "Host headers that it does not know"),
    ((SIDECAR,), http_status(403), "a proxy in front of it refuses"),
    ((OLLAMA,), http_status(404), "there is no /api/ps: a proxy that serves Ollama below a path"),
    ((SIDECAR,), http_status(404), "there is no /metrics: a proxy that serves the sidecar below a path"),
    *((BOTH, http_status(status), "another server, or a proxy") for status in (405, 406, 410, 501)),
    ((SIDECAR,), http_status(421), "add workstation.lan to SIDECAR_ALLOWED_HOSTS"),
    ((OLLAMA,), http_status(421), "a proxy there does not know the name workstation.lan"),
    (BOTH, http_status(429), "limits the rate"),
    (BOTH, http_status(500), "its own log says why"),
    *((BOTH, http_status(status), GATEWAY) for status in (502, 503, 504, 520, 521, 522, 523, 524, 527, 530)),
    ((SIDECAR,), http_status(503, b'{"error":"starting"}'), "in a second"),
    ((SIDECAR,), http_status(503, b'{"error":"sampler_stalled"}'), "restart the sidecar"),
    *(
        (BOTH, http_status(status), None)
        for status in (204, 206, 304, 402, 408, 418, 431, 451, 505, 599, 999)
    ),
    *((BOTH, reason, "accepts only TLS") for reason in (reasons.NO_HTTP, reasons.RESET, reasons.CLOSED)),
    *(((one,), refused(one, b"<html>"), "a log-in page") for one in BOTH),
    *(((one,), refused(one, b"# HELP x\nx 1\n"), "an exporter") for one in BOTH),
    *(((one,), refused(one, b"oops"), "another server") for one in BOTH),
    *(((one,), refused(one, b"[]"), "another server") for one in BOTH),
    ((OLLAMA,), refused(OLLAMA, b"{}"), "another server"),
    ((SIDECAR,), refused(SIDECAR, b'{"version": 1}'), "another server"),
    ((SIDECAR,), refused(SIDECAR, b'{"version": 2}'), "upgrade the older one"),
    *((BOTH, reason, "compresses") for reason in (reasons.ENCODED, reasons.COMPRESSED)),
    ((OLLAMA,), reasons.NO_TLS, "does not speak TLS there: set network.scheme: http in one.yaml"),
    ((SIDECAR,), reasons.NO_TLS, "does not speak TLS there: set network.sidecar_scheme: http in one.yaml"),
    ((SECURE,), http_status(301, b"", b"https://x/"), REDIRECTED),
    ((SECURE,), http_status(400, b"plain HTTP request was sent to HTTPS port"), GATEWAY),
    *(
        ((SECURE,), reason, "a port that belongs to another service")
        for reason in (reasons.NO_HTTP, reasons.CLOSED)
    ),
    (BOTH, reasons.NOT_TRUSTED, "name that file as network.ca in one.yaml"),
    ((SECURE,), reasons.NOT_TRUSTED, "is not in own-ca.pem in MACHINES_CA_DIR"),
    (BOTH, reasons.OTHER_NAME, "have it renewed with workstation.lan in it"),
    (BOTH, reasons.NOT_VALID_YET, "clock"),
    (BOTH, reasons.CUT_SHORT, None),
    (BOTH, reasons.EXPIRED, "renew it on that host"),
    ((OLLAMA,), refused(OLLAMA, b'{"models": 1}'), None),
]


@pytest.mark.parametrize(("endpoints", "reason", "words"), TABLE, ids=lambda value: str(value)[:50])
def test_each_wrong_answer_has_the_hint_that_fits_or_none(
    endpoints: tuple[Endpoint, ...], reason: Reason, words: str | None
) -> None:
    for endpoint in endpoints:
        advice = hint(endpoint, State.ERROR, reason)
        assert (advice is None) if words is None else words in (advice or "")
        assert "{" not in (advice or "")
        assert "Origin" not in (advice or "")


@pytest.mark.parametrize("status", [301, 308, 400, 401, 403, 404, 421, 429, 502, 503, 504])
def test_what_a_proxy_says_is_not_blamed_on_a_port_or_on_the_log_of_ollama(status: int) -> None:
    for endpoint in BOTH:
        advice = hint(endpoint, State.ERROR, http_status(status)) or ""
        assert "network.port" not in advice
        assert "network.sidecar_port" not in advice
        assert "its own log" not in advice


@pytest.mark.parametrize("endpoint", BOTH)
def test_a_page_in_place_of_json_points_at_the_port_in_the_file(endpoint: Endpoint) -> None:
    key = "network.port" if endpoint is OLLAMA else "network.sidecar_port"
    assert f"{key} in one.yaml" in (hint(endpoint, State.ERROR, reasons.HTML) or "")


def test_a_file_may_have_any_name() -> None:
    assert "in {port}{0}.yaml" in (hint(OLLAMA, State.ERROR, reasons.HTML, "{port}{0}.yaml") or "")


def test_words_of_the_host_do_not_choose_the_hint() -> None:
    for words in ("name not found", "HTTP status 401", "HTML, not JSON"):
        assert hint(OLLAMA, State.ERROR, Reason(f"digest: '{words}' is not a non-blank string")) is None


def test_an_endpoint_that_answers_needs_no_hint() -> None:
    assert hint(OLLAMA, State.OK, Reason("")) is None
