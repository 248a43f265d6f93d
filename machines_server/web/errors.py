"""Every error of the Flask application as JSON."""

from flask import Flask, Response, current_app, request
from werkzeug.exceptions import HTTPException, MethodNotAllowed, RequestEntityTooLarge

from machines_server.contract.encoding import encode
from machines_server.contract.errors import answer_to, error_json
from machines_server.web.messages import JSON_TYPE, MAX_REQUEST_BYTES

_MESSAGES = {
    404: "There is no such path; GET /api/infrastructure lists the machines, docs/api.md all paths.",
}


def register_errors(app: Flask) -> None:
    """Have the application answer every exception that a view raises."""
    app.register_error_handler(HTTPException, _http_error)
    app.register_error_handler(Exception, _error)


def error_response(status: int, json: bytes, retry_after_s: int | None = None) -> Response:
    """An error response from JSON, with a Retry-After header if `retry_after_s` is given."""
    response = Response(json, status, mimetype=JSON_TYPE)
    if retry_after_s is not None:
        response.headers["Retry-After"] = str(retry_after_s)
    return response


def _error(error: Exception) -> Response:
    answer = answer_to(error)
    if answer is None:
        current_app.logger.exception("a request could not be answered", exc_info=error)
        message = "The server failed to answer; its log says why."
        return error_response(500, error_json("internal_error", message))
    return error_response(answer.status, encode(answer.content), answer.retry_after_s)


def _http_error(error: HTTPException) -> Response:
    status = error.code or 500
    message = _MESSAGES.get(status, error.description or error.name)
    if isinstance(error, RequestEntityTooLarge):
        limit_kib = (request.max_content_length or MAX_REQUEST_BYTES) // 1024
        message = f"The body is too large; this path takes at most {limit_kib} KiB."
    if isinstance(error, MethodNotAllowed):
        methods = ", ".join(sorted(error.valid_methods or ()))
        message = f"This path does not support {request.method}; it supports {methods}."
    response = error_response(status, error_json(error.name.lower().replace(" ", "_"), message))
    for name, value in error.get_headers():
        if name not in ("Content-Type", "Content-Length"):
            response.headers[name] = value
    return response
