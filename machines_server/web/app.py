"""The Flask application: the routes of the API and of the page, and every error as JSON."""

from math import ceil

import orjson
from flask import Flask, Response, current_app, request
from werkzeug.exceptions import BadRequest, HTTPException

from machines_server.errors import (
    BadParameterError,
    ConflictError,
    NoMachineError,
    StoreError,
    UnknownLeaseError,
    UnknownMachineError,
)
from machines_server.history import History
from machines_server.routing import Routing
from machines_server.service import Service
from machines_server.web.api import make_api
from machines_server.web.dashboard import make_dashboard
from machines_server.web.errors import JSON, error_response
from machines_server.web.history_api import make_history_api
from machines_server.web.ready import NO_GUESS, ReadyAnswers
from machines_server.web.routing_api import make_routing_api

MAX_BODY_BYTES = 2**20


def create_app(service: Service, history: History, routing: Routing) -> Flask:
    """An application that answers of the present, of the past, and with advice."""
    app = Flask(__name__, static_folder=None)
    app.response_class = _JsonResponse
    app.config["MAX_CONTENT_LENGTH"] = MAX_BODY_BYTES
    app.url_map.merge_slashes = False  # which would answer with a redirect in HTML
    ready = {"/api/infrastructure": service.infrastructure, "/api/machines": service.machines}
    app.wsgi_app = ReadyAnswers(app.wsgi_app, ready)  # type: ignore[method-assign]  # as Flask's docs have it
    app.before_request(_refuse_other_sites)
    app.after_request(_take_it_for_what_it_is)
    app.register_blueprint(make_dashboard())
    app.register_blueprint(make_api(service))
    app.register_blueprint(make_history_api(service, history))
    app.register_blueprint(make_routing_api(routing))
    app.register_error_handler(BadParameterError, _bad_parameter)
    app.register_error_handler(UnknownMachineError, _unknown_machine)
    app.register_error_handler(UnknownLeaseError, _unknown_lease)
    app.register_error_handler(ConflictError, _conflict)
    app.register_error_handler(NoMachineError, _no_machine)
    app.register_error_handler(StoreError, _store_error)
    app.register_error_handler(HTTPException, _http_error)
    app.register_error_handler(Exception, _unforeseen)
    return app


def _refuse_other_sites() -> None:
    """A page of another site in somebody's browser may not take leases with it; programs send no Origin."""
    origin = request.headers.get("Origin")
    if origin is None or request.method in ("GET", "HEAD", "OPTIONS"):
        return
    if origin.partition("://")[2] != request.host:
        raise BadRequest(f"A page of another site ({origin}) sent this; only pages of {request.host} may.")


def _take_it_for_what_it_is(response: Response) -> Response:
    """No browser may guess that JSON or CSV, with whatever hosts say in it, is HTML."""
    response.headers.set(*NO_GUESS)
    return response


_MESSAGES = {
    404: "There is no such path; GET /api/infrastructure has every machine, the README every path.",
    413: f"The body is too large; at most {MAX_BODY_BYTES // 2**20} MiB are taken.",
    405: "This path does not take that method; the Allow header says which it takes.",
}


class _JsonResponse(Response):
    """What Flask answers by itself, to OPTIONS for instance, is no HTML either."""

    default_mimetype = JSON


def _http_error(error: HTTPException) -> Response:
    code = error.code or 500
    message = _MESSAGES.get(code, error.description or error.name)
    response = error_response(code, error.name.lower().replace(" ", "_"), message)
    for name, value in error.get_headers():
        if name not in ("Content-Type", "Content-Length"):
            response.headers[name] = value
    return response


def _bad_parameter(error: BadParameterError) -> Response:
    return error_response(400, "bad_parameter", str(error), {"parameter": error.parameter})


def _unknown_machine(error: UnknownMachineError) -> Response:
    return error_response(404, "unknown_machine", str(error))


def _unknown_lease(error: UnknownLeaseError) -> Response:
    return error_response(404, "unknown_lease", str(error))


def _conflict(error: ConflictError) -> Response:
    return error_response(409, error.code, str(error))


def _no_machine(error: NoMachineError) -> Response:
    more = {"rejected": orjson.Fragment(error.rejected), "retry_after_s": error.retry_after_s}
    response = error_response(503, "no_machine", str(error), more)
    if error.retry_after_s is not None:
        response.headers["Retry-After"] = str(ceil(error.retry_after_s))
    return response


def _store_error(error: StoreError) -> Response:
    return error_response(503, "store_unavailable", f"The database cannot be used: {error}.")


def _unforeseen(error: Exception) -> Response:
    current_app.logger.exception("an answer failed", exc_info=error)
    return error_response(500, "internal_error", "The server failed to answer; its log says why.")
