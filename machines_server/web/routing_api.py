"""The routes of routing advice and leases."""

from typing import Any

import orjson
from flask import Blueprint, Response, request
from werkzeug.exceptions import BadRequest, RequestEntityTooLarge

from machines_server.contract.encoding import encode
from machines_server.contract.errors import whole_seconds
from machines_server.errors import BadParameterError
from machines_server.services.permissions import Caller
from machines_server.services.routing import Routing
from machines_server.web.bridge import IS_FOREIGN
from machines_server.web.errors import error_response
from machines_server.web.messages import JSON_TYPE

MAX_LEASE_BODY_BYTES = 2**16
"""The limit for the body of a request that creates or changes a lease."""


def make_routing_api(routing: Routing) -> Blueprint:
    """The routes answered by `routing`."""
    api = Blueprint("routing", __name__)
    api.before_request(_check_a_lease_request)

    @api.get("/api/route")
    def route() -> Response:
        query, text = request.args.to_dict(flat=False), request.query_string
        if request.environ.get(IS_FOREIGN):  # what another site's page asks changes no later advice
            reply = routing.route({**query, "explain": ["true"]})
        else:
            reply = routing.route(query, text)
        if not reply.is_found:
            return error_response(503, reply.json, whole_seconds(reply.retry_after_s))
        return _response(reply.json)

    @api.post("/api/leases")
    def lease() -> Response:
        key = request.headers.get("Idempotency-Key")
        return _response(encode(routing.lease(_body(), key, _caller())), 201)

    @api.get("/api/leases")
    def leases() -> Response:
        return _response(encode(routing.leases()))

    @api.get("/api/leases/<lease>")
    def held_lease(lease: str) -> Response:
        return _response(encode(routing.held_lease(lease)))

    @api.post("/api/leases/<lease>/renew")
    def renew(lease: str) -> Response:
        return _response(encode(routing.renew(lease, _body(), _caller())))

    @api.delete("/api/leases/<lease>")
    def release(lease: str) -> Response:
        return _response(encode(routing.release(lease, _caller())))

    return api


def _check_a_lease_request() -> None:
    if request.endpoint != "routing.route":
        for name in request.args:
            why = "send it in the JSON body" if request.method == "POST" else "this path takes no parameters"
            raise BadParameterError(name, f"is not read from the query; {why}")
        # One byte more, since a chunked body is silently truncated there.
        request.max_content_length = MAX_LEASE_BODY_BYTES + 1
        if len(request.get_data()) > MAX_LEASE_BODY_BYTES:
            raise RequestEntityTooLarge


def _caller() -> Caller:
    return Caller(request.remote_user, request.remote_addr or "", request.method, request.path)


def _response(json: bytes, status: int = 200) -> Response:
    response = Response(json, status, mimetype=JSON_TYPE)
    response.cache_control.no_store = True  # it holds only at this moment and for this caller
    return response


def _body() -> Any:
    """The request's JSON; an empty body is an empty object."""
    sent = request.get_data()
    try:
        return orjson.loads(sent) if sent.strip() else {}
    except orjson.JSONDecodeError as error:
        raise BadRequest(f"The body is not JSON: {error.msg}.") from None
