"""What an agent's trace shows of the server; without a request for traces, nothing is imported."""

import gzip
import re
import shlex
import socket
import subprocess
import sys
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from importlib import metadata
from pathlib import Path
from threading import Thread
from typing import Any

import pytest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from machines_client import Client
from machines_server.process.tracing import wants_traces
from tests.fakes import FakeFleet, machine_yaml, wait_until
from tests.readme import page
from tests.running import RunningServer, clean_environment, wait_for_status

MODEL = "phi3:mini"
NAMES = "GET /api/machines/NAME", "GET /api/route", "POST /api/leases"


class Collector:
    """Takes spans as a collector of OpenTelemetry does, over HTTP in protobuf."""

    def __init__(self) -> None:
        spans: list[Any] = []
        self.spans, self.services = spans, set[str]()
        services = self.services

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                if self.headers.get("Content-Encoding") == "gzip":
                    body = gzip.decompress(body)
                for resource in ExportTraceServiceRequest.FromString(body).resource_spans:
                    services.update(
                        one.value.string_value
                        for one in resource.resource.attributes
                        if one.key == "service.name"
                    )
                    for scope in resource.scope_spans:
                        spans.extend(scope.spans)
                self.send_response(200)
                self.end_headers()

            def log_message(self, *_: object) -> None:
                """Say nothing."""

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._thread = Thread(target=self._server.serve_forever, daemon=True)
        self._thread.start()
        self.url = f"http://127.0.0.1:{self._server.server_port}"

    def named(self, name: str) -> list[dict[str, Any]]:
        """The spans with that name: their attributes, trace and parent."""
        return [
            {one.key: one.value.string_value or one.value.int_value for one in span.attributes}
            | {"trace": span.trace_id.hex(), "parent": span.parent_span_id.hex()}
            for span in list(self.spans)
            if span.name == name
        ]

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


@pytest.fixture
def collector() -> Iterator[Collector]:
    collector = Collector()
    yield collector
    collector.close()


def test_an_agents_trace_shows_which_machine_was_advised_and_why(
    tmp_path: Path, collector: Collector
) -> None:
    from opentelemetry.sdk.trace import TracerProvider

    tracer = TracerProvider(shutdown_on_exit=False).get_tracer("agent")
    settings = {"OTEL_EXPORTER_OTLP_ENDPOINT": collector.url, "OTEL_BSP_SCHEDULE_DELAY": "100"}
    with FakeFleet() as fakes, RunningServer(tmp_path, **settings) as server:
        server.write("one.yaml", machine_yaml("one", fakes.sidecar(), fakes.ollama(MODEL)))
        wait_for_status(server, "one", "online")
        client = Client(server.url)
        with tracer.start_as_current_span("job") as job:
            client.pick(MODEL)
            with client.lease(MODEL):
                pass
            client.machine("one")
        trace, parent = f"{job.get_span_context().trace_id:032x}", f"{job.get_span_context().span_id:016x}"
        wait_until(lambda: all(trace in [one["trace"] for one in collector.named(name)] for name in NAMES))
        (advice,) = collector.named("GET /api/route")
        assert (advice["trace"], advice["parent"]) == (trace, parent)
        assert (advice["machines.machine"], advice["machines.warmth"]) == ("one", "warm")
        assert "in memory" in advice["machines.reason"]
        assert advice["http.response.status_code"] == 200
        (lease,) = collector.named("POST /api/leases")
        assert lease["machines.machine"] == "one"
        assert lease["machines.lease"]
        server.get("/api/route?model=nobody-has-it")
        wait_until(lambda: len(collector.named("GET /api/route")) == 2)
        missed = collector.named("GET /api/route")[1]
        assert (missed["trace"] == trace, missed["error.type"]) == (False, "no_machine")
        wait_until(lambda: [one for one in collector.named("poll cycle") if one["machines.polled"] == 1])
    assert collector.services == {"machines-server"}


def test_the_commands_of_the_page_install_and_send_traces(tmp_path: Path, collector: Collector) -> None:
    (text,) = re.findall(r"```sh\n(.*?)```", page("tracing.md"), re.DOTALL)
    install, serve = (shlex.split(line) for line in text.splitlines())
    assert install[:2] == ["pip", "install"]
    (extra,) = re.findall(r"^machines-server\[(.*)\]$", install[2])
    required = [
        one
        for one in metadata.requires("machines-server") or ()
        if f"extra == '{extra}'" in one.replace('"', "'")
    ]
    assert any(one.startswith("opentelemetry-sdk") for one in required)
    name, value = serve[0].split("=", 1)
    assert (value, serve[1:]) == ("http://127.0.0.1:4318", ["machines-server", "serve"])
    with RunningServer(tmp_path, **{name: collector.url, "OTEL_BSP_SCHEDULE_DELAY": "100"}) as server:
        server.get("/health")
        wait_until(lambda: collector.named("GET /health"))


@pytest.mark.parametrize(
    ("environ", "wanted"),
    [
        ({}, False),
        ({"OTEL_SERVICE_NAME": "x"}, False),
        ({"OTEL_EXPORTER_OTLP_ENDPOINT": "http://x"}, True),
        ({"OTEL_EXPORTER_OTLP_TRACES_ENDPOINT": "http://x"}, True),
        ({"OTEL_TRACES_EXPORTER": "console"}, True),
        ({"OTEL_EXPORTER_OTLP_ENDPOINT": "http://x", "OTEL_TRACES_EXPORTER": "none"}, False),
        ({"OTEL_EXPORTER_OTLP_ENDPOINT": "http://x", "OTEL_SDK_DISABLED": "true"}, False),
    ],
)
def test_traces_are_made_only_if_the_variables_ask_for_them(environ: dict[str, str], wanted: bool) -> None:
    assert wants_traces(environ) is wanted


def python(code: str, **variables: str) -> str:
    """What a program prints."""
    words = [sys.executable, "-c", code]
    done = subprocess.run(
        words, env=clean_environment(**variables), capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout + done.stderr


SEEN = "import sys; print(sorted(name for name in sys.modules if name.startswith('opentelemetry')))"
MAKE = """
from machines_server.process.compose import make_asgi, make_poller
from machines_server.settings import load_settings
settings, _ = load_settings()
make_asgi(settings); make_poller(settings)
"""
HIDE = """
import sys
sys.modules['opentelemetry.sdk.trace'] = None
"""


@pytest.mark.parametrize(
    "wrong",
    [
        {"OTEL_BSP_SCHEDULE_DELAY": "-5"},
        {"OTEL_PROPAGATORS": "nonsense"},
        {"OTEL_SPAN_ATTRIBUTE_COUNT_LIMIT": "-1"},
        {"OTEL_TRACES_EXPORTER": "zipkin"},
    ],
)
def test_with_wrong_variables_the_server_says_so_and_works(
    tmp_path: Path, fakes: FakeFleet, wrong: dict[str, str]
) -> None:
    settings = {"OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:1", **wrong}
    with RunningServer(tmp_path, **settings) as server:
        server.write("one.yaml", machine_yaml("one", fakes.sidecar(), None))
        wait_for_status(server, "one", "online")
        log = server.log.read_text()
    assert "tracing is off, since an OTEL_* variable is invalid: " in log
    assert "Traceback" not in log


def test_requests_of_any_bytes_are_traced(tmp_path: Path, collector: Collector) -> None:
    settings = {"OTEL_EXPORTER_OTLP_ENDPOINT": collector.url, "OTEL_BSP_SCHEDULE_DELAY": "100"}
    odd = [
        b"/api/machines/%ff%fe",
        b"/api/machines/\xff",
        b"/api/machines/%00",
        b"/api/route?model=%ed%a0%80",
    ]
    headers = [
        b"traceparent: \xff",
        b"traceparent: " + b"a" * 5000,
        b"tracestate: =,=",
        b"baggage: k=" + b"v" * 6000,
    ]
    with RunningServer(tmp_path, **settings) as server:
        address = ("127.0.0.1", int(server.settings["MACHINES_PORT"]))
        for path in odd:
            for header in headers:
                with socket.create_connection(address, 60) as connection:
                    connection.sendall(b"GET %s HTTP/1.1\r\nHost: localhost\r\n%s\r\n\r\n" % (path, header))
                    assert connection.recv(9) == b"HTTP/1.1 "
        server.get("/api/machines")
        wait_until(lambda: collector.named("GET /api/machines"))
        log = server.log.read_text()
    assert "Traceback" not in log
    assert len(collector.named("GET /api/machines/NAME")) >= 8


def test_without_the_variables_nothing_is_imported(tmp_path: Path) -> None:
    assert python(MAKE + SEEN, MACHINES_DATA_DIR=str(tmp_path)).strip() == "[]"
    assert (
        python(f"import machines_client.messages as m; m.Request('GET', '/').all_headers; {SEEN}").strip()
        == "[]"
    )


def test_without_the_package_the_server_says_so_and_works(tmp_path: Path) -> None:
    said = python(HIDE + MAKE, MACHINES_DATA_DIR=str(tmp_path), OTEL_TRACES_EXPORTER="otlp")
    assert "pip install 'machines-server[otel]'" in said
