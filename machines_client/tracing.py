"""Passes on the caller's trace, so that the server's work becomes part of it."""

import sys


def trace_headers() -> dict[str, str]:
    """The header `traceparent`, if the program uses OpenTelemetry and is within a span; else nothing."""
    headers: dict[str, str] = {}
    if "opentelemetry.trace" in sys.modules:
        from opentelemetry import propagate

        propagate.inject(headers)
    return headers
