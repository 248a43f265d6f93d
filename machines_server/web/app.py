"""The Flask application: routes from `api`, and every error as JSON."""

from flask import Flask, Response, current_app
from werkzeug.exceptions import HTTPException

from machines_server.service import Service
from machines_server.web.api import error_response, make_api


def create_app(service: Service) -> Flask:
    """An application that answers from `service`."""
    app = Flask(__name__, static_folder=None)
    app.response_class = _JsonResponse
    app.register_blueprint(make_api(service))
    app.register_error_handler(HTTPException, _http_error)
    app.register_error_handler(Exception, _unforeseen)
    return app


class _JsonResponse(Response):
    """What Flask answers by itself, to OPTIONS for instance, is no HTML either."""

    default_mimetype = "application/json"


def _http_error(error: HTTPException) -> Response:
    code = error.code or 500
    response = error_response(code, error.name.lower().replace(" ", "_"), error.description or error.name)
    for name, value in error.get_headers():
        if name not in ("Content-Type", "Content-Length"):
            response.headers[name] = value
    return response


def _unforeseen(error: Exception) -> Response:
    current_app.logger.exception("an answer failed", exc_info=error)
    return error_response(500, "internal_error", "The server failed to answer; its log says why.")
