"""Traces of requests and poll cycles with OpenTelemetry, imported only if the OTEL_* variables ask for it.

The variables and their meaning are OpenTelemetry's own:
https://opentelemetry.io/docs/specs/otel/configuration/sdk-environment-variables/
"""

import json
import logging
import os
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from opentelemetry.sdk.trace import SpanProcessor
    from opentelemetry.trace import Span, Tracer

    from machines_server.web.messages import Application, Message, Receive, Scope, Send

log = logging.getLogger(__name__)

REPEATED_FAILURE_S = 60.0
"""How often to report that spans cannot be sent."""
SERVICE_NAME = "machines-server"
_ENDPOINTS = ("OTEL_EXPORTER_OTLP_ENDPOINT", "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT")
_NOT_INSTALLED = "OTEL_* asks for traces, which need packages: pip install 'machines-server[otel]'"
_NAMES_A_MACHINE = {("GET", "/api/route"), ("POST", "/api/leases")}
"""The requests whose answer names a machine and says why."""

TraceCycle = Callable[[int], AbstractContextManager[object]]
"""Traces the poll cycle that runs within it, with so many machines."""


def wants_traces(environ: Mapping[str, str]) -> bool:
    """Return whether the OTEL_* variables ask for traces."""
    exporter = environ.get("OTEL_TRACES_EXPORTER", "")
    is_off = environ.get("OTEL_SDK_DISABLED", "").strip().lower() == "true" or exporter == "none"
    return not is_off and (bool(exporter) or any(environ.get(name) for name in _ENDPOINTS))


def traced(
    application: "Application", route_of: Callable[[str], str], environ: Mapping[str, str] | None = None
) -> "Application":
    """The application, with a span for each request if traces are wanted; `route_of` names a path's route."""
    tracer = _tracer(environ)
    return _TracedRequests(application, tracer, route_of) if tracer else application


def cycle_tracing(environ: Mapping[str, str] | None = None) -> TraceCycle:
    """A function that traces poll cycles, or does nothing if traces are not wanted."""
    tracer = _tracer(environ)
    if tracer is None:
        return nullcontext

    @contextmanager
    def trace_cycle(machines: int) -> Iterator[None]:
        with tracer.start_as_current_span("poll cycle", attributes={"machines.polled": machines}):
            yield

    return trace_cycle


def _tracer(environ: Mapping[str, str] | None) -> "Tracer | None":
    """A tracer that exports in the background; call it in the process that uses it, after the fork."""
    environ = os.environ if environ is None else environ
    if not wants_traces(environ):
        return None
    try:
        return _make_tracer(environ)
    except ImportError:
        log.warning(_NOT_INSTALLED)
    except Exception as error:  # noqa: BLE001  what the SDK raises for values of OTEL_* that it does not accept
        log.warning("tracing is off, since an OTEL_* variable is invalid: %s", error)
    return None


def _make_tracer(environ: Mapping[str, str]) -> "Tracer":
    from opentelemetry import propagate
    from opentelemetry.sdk.resources import Resource
    from opentelemetry.sdk.trace import TracerProvider

    propagate.get_global_textmap()  # which OTEL_PROPAGATORS names
    exporters = (environ.get("OTEL_TRACES_EXPORTER") or "otlp").split(",")
    processors = [_processor(exporter.strip()) for exporter in exporters]
    name = {} if environ.get("OTEL_SERVICE_NAME") else {"service.name": SERVICE_NAME}
    provider = TracerProvider(resource=Resource.create(name))
    for processor in processors:
        provider.add_span_processor(processor)
    return provider.get_tracer("machines_server")


def _processor(exporter: str) -> "SpanProcessor":
    from opentelemetry.sdk.trace.export import BatchSpanProcessor, ConsoleSpanExporter

    if exporter == "console":
        return BatchSpanProcessor(ConsoleSpanExporter())
    if exporter != "otlp":
        raise ValueError(f"OTEL_TRACES_EXPORTER is neither otlp, console nor none, but {exporter}")
    from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter

    # It logs every failed attempt, every second or two, as long as no collector answers.
    logging.getLogger(OTLPSpanExporter.__module__).addFilter(_Seldom())
    return BatchSpanProcessor(OTLPSpanExporter())


class _Seldom(logging.Filter):
    """Passes only the first record in each REPEATED_FAILURE_S."""

    _last = float("-inf")

    def filter(self, record: logging.LogRecord) -> bool:  # noqa: ARG002  logging passes it
        """Return whether to log a record."""
        now = time.monotonic()
        if now - self._last < REPEATED_FAILURE_S:
            return False
        self._last = now
        return True


class _TracedRequests:
    """Records a span for each HTTP request, as part of its caller's trace if that is given."""

    def __init__(self, application: "Application", tracer: "Tracer", route_of: Callable[[str], str]) -> None:
        from opentelemetry import propagate
        from opentelemetry.trace import SpanKind, StatusCode

        self._application, self._tracer, self._route_of = application, tracer, route_of
        self._extract, self._kind, self._error = propagate.extract, SpanKind.SERVER, StatusCode.ERROR

    async def __call__(self, scope: "Scope", receive: "Receive", send: "Send") -> None:
        """Answer the request within a span."""
        if scope["type"] != "http":
            await self._application(scope, receive, send)
            return
        method, path, route = scope["method"], scope["path"], self._route_of(scope["path"])
        headers = {name.decode("latin-1"): value.decode("latin-1") for name, value in scope["headers"]}
        with self._tracer.start_as_current_span(
            f"{method} {route}",
            context=self._extract(headers),
            kind=self._kind,
            attributes={
                "http.request.method": method,
                "http.route": route,
                "url.path": path,
                "url.scheme": scope["scheme"],
            },
        ) as span:
            body: list[bytes] = []

            async def note(message: "Message") -> None:
                if message["type"] == "http.response.start":
                    span.set_attribute("http.response.status_code", message["status"])
                    if message["status"] >= 500:
                        span.set_status(self._error)
                elif (method, path) in _NAMES_A_MACHINE:
                    body.append(message.get("body", b""))
                await send(message)

            await self._application(scope, receive, note)
            if body:
                _note_advice(span, b"".join(body))


def _note_advice(span: "Span", body: bytes) -> None:
    """Note which machine an answer names, and why, or why it names none."""
    try:
        said: dict[str, Any] = json.loads(body)
    except ValueError:  # compressed, or not one of our answers
        return
    best: dict[str, Any] = next(iter(said.get("candidates", ())), {})
    noted = {
        "machines.machine": said.get("machine"),
        "machines.model": said.get("model"),
        "machines.warmth": best.get("warmth"),
        "machines.reason": best.get("reason") or said.get("message"),
        "machines.lease": said.get("lease"),
        "error.type": said.get("error"),
    }
    span.set_attributes({key: value for key, value in noted.items() if value is not None})
