"""Errors as the API writes them."""

import socket
from typing import Any

import orjson
from flask import Response

JSON = "application/json"


def error_response(status: int, code: str, message: str, more: dict[str, Any] | None = None) -> Response:
    """An error in an application that answers."""
    return Response(_body(code, message, more), status, mimetype=JSON)


def write_json_error(sock: socket.socket, status_int: int, reason: str, mesg: str) -> None:
    """An error of gunicorn's own, before there is a request; replaces `gunicorn.util.write_error`."""
    body = _body(reason.lower().replace(" ", "_"), mesg or reason, None)
    head = f"HTTP/1.1 {status_int} {reason}\r\nConnection: close\r\nContent-Type: {JSON}\r\n"
    sock.sendall(f"{head}Content-Length: {len(body)}\r\n\r\n".encode("latin-1") + body)


def _body(code: str, message: str, more: dict[str, Any] | None) -> bytes:
    return orjson.dumps({"error": code, "message": message} | (more or {}))
