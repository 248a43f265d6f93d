"""The REST API of the present: machines, health, this host."""

from flask import Blueprint, Response, request

from machines_server.contract.encoding import Body, encode
from machines_server.contract.health import Health
from machines_server.services.fleet import FleetService
from machines_server.services.health import HealthService
from machines_server.services.host import HostService
from machines_server.web.messages import JSON_TYPE, accepts_gzip

YAML_TYPE = "application/yaml; charset=utf-8"


def make_machines_api(fleet: FleetService) -> Blueprint:
    """The routes about machines."""
    api = Blueprint("machines", __name__)

    @api.get("/api/machines")
    def machines() -> Response:
        return _body_response(fleet.machines())

    @api.get("/api/infrastructure")
    def infrastructure() -> Response:
        return _body_response(fleet.infrastructure())

    @api.get("/api/services")
    def services() -> Response:
        return Response(encode(fleet.services()), mimetype=JSON_TYPE)

    @api.get("/api/machines/<name>")
    def machine(name: str) -> Response:
        body = fleet.machine(name)
        if body is None:
            raise fleet.unknown_machine(name)
        return _body_response(body)

    @api.get("/api/machines/<name>/file")
    def file(name: str) -> Response:
        text = fleet.file(name)
        if text is None:
            raise fleet.unknown_machine(name)
        return Response(text, content_type=YAML_TYPE)

    return api


def make_server_api(health: HealthService, host: HostService) -> Blueprint:
    """The routes about the server and its host."""
    api = Blueprint("server", __name__)

    @api.get("/api/system")
    def system() -> Response:
        return Response(encode(host.system()), mimetype=JSON_TYPE)

    @api.get("/health")
    def get_health() -> Response:
        return Response(encode(health.health()), mimetype=JSON_TYPE)

    @api.get("/health/ready")
    def ready() -> Response:
        readiness = health.readiness()
        status = 200 if isinstance(readiness, Health) else 503
        return Response(encode(readiness), status, mimetype=JSON_TYPE)

    return api


def _body_response(body: Body) -> Response:
    is_gzipped = request.method == "GET" and accepts_gzip(request.headers.get("Accept-Encoding", "").encode())
    response = Response(body.gzipped if is_gzipped else body.json, mimetype=JSON_TYPE)
    if is_gzipped:
        response.content_encoding = "gzip"
    # Weak: two workers may give the same content a different generated_at.
    response.set_etag(body.etag, weak=True)
    response.cache_control.no_cache = True
    response.vary.add("Accept-Encoding")
    response.make_conditional(request)
    return response
