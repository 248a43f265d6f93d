"""The REST API of routing: advice and leases."""

from typing import Any

import orjson
from flask import Blueprint, Response, request
from werkzeug.exceptions import BadRequest

from machines_server.routing import Routing
from machines_server.web.errors import JSON


def make_routing_api(routing: Routing) -> Blueprint:
    """The routes that answer from `routing`."""
    api = Blueprint("routing", __name__)

    @api.get("/api/route")
    def route() -> Response:
        return _response(routing.route(request.args.to_dict(flat=False)))

    @api.post("/api/leases")
    def lease() -> Response:
        return _response(routing.lease(_body(), request.headers.get("Idempotency-Key")), 201)

    @api.get("/api/leases")
    def leases() -> Response:
        return _response(routing.leases())

    @api.post("/api/leases/<lease>/renew")
    def renew(lease: str) -> Response:
        return _response(routing.renew(lease, _body()))

    @api.delete("/api/leases/<lease>")
    def release(lease: str) -> Response:
        return _response(routing.release(lease))

    return api


def _response(answer: dict[str, Any] | bytes, status: int = 200) -> Response:
    body = answer if isinstance(answer, bytes) else orjson.dumps(answer)
    response = Response(body, status, mimetype=JSON)
    response.cache_control.no_store = True  # it holds for this moment and this caller
    return response


def _body() -> Any:
    """The JSON that was sent; nothing at all is an empty object."""
    sent = request.get_data()
    try:
        return orjson.loads(sent) if sent.strip() else {}
    except orjson.JSONDecodeError as error:
        raise BadRequest(f"The body is not JSON: {error.msg}.") from None
