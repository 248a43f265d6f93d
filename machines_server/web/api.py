"""The REST API: paths to questions, answers to responses."""

import orjson
from flask import Blueprint, Response, request

from machines_server.bodies import Body
from machines_server.service import Service
from machines_server.web.errors import JSON, error_response

YAML = "application/yaml; charset=utf-8"


def make_api(service: Service) -> Blueprint:
    """The routes that answer from `service`."""
    api = Blueprint("api", __name__)

    @api.get("/api/machines")
    def machines() -> Response:
        return _body_response(service.machines())

    @api.get("/api/infrastructure")
    def infrastructure() -> Response:
        return _body_response(service.infrastructure())

    @api.get("/api/machines/<name>")
    def machine(name: str) -> Response:
        body = service.machine(name)
        return _unknown_machine(name) if body is None else _body_response(body)

    @api.get("/api/machines/<name>/file")
    def file(name: str) -> Response:
        text = service.file(name)
        return _unknown_machine(name) if text is None else Response(text, content_type=YAML)

    @api.get("/api/system")
    def system() -> Response:
        return Response(service.system(), mimetype=JSON)

    @api.get("/health")
    def health() -> Response:
        return Response(orjson.dumps(service.health()), mimetype=JSON)

    @api.get("/health/ready")
    def ready() -> Response:
        health = service.health()
        is_ready = health["poller"]["state"] == "running" and health["store"]["state"] == "ok"
        if is_ready:
            return Response(orjson.dumps(health), mimetype=JSON)
        why = health["store"]["message"] or health["poller"]["message"]
        more = health | {"status": "not_ready"}
        return error_response(503, "not_ready", f"The answers are not up to date: {why}.", more)

    return api


def _unknown_machine(name: str) -> Response:
    message = f"There is no machine named {name!r}; GET /api/machines lists them."
    return error_response(404, "unknown_machine", message)


def _body_response(body: Body) -> Response:
    response = Response(body.json, mimetype=JSON)
    # Weak: two workers may stamp the same content with another generated_at.
    response.set_etag(body.etag, weak=True)
    response.cache_control.no_cache = True
    response.vary.add("Accept-Encoding")
    response.make_conditional(request)
    return response
