"""The routes for Prometheus: GET /metrics and GET /api/prometheus/sd."""

from flask import Blueprint, Response, current_app, request

from machines_server.exposition.service import TEXT_TYPE, ExpositionService
from machines_server.web.bridge import IS_READER
from machines_server.web.counting import route_names
from machines_server.web.messages import JSON_TYPE, accepts_gzip


def make_prometheus_api(exposition: ExpositionService) -> Blueprint:
    """The routes answered by `exposition`."""
    api = Blueprint("prometheus", __name__)

    @api.get("/metrics")
    def metrics() -> Response:
        routes = route_names(rule.rule for rule in current_app.url_map.iter_rules())
        is_reader = bool(request.environ.get(IS_READER))
        response = Response(exposition.metrics(routes, is_reader=is_reader), content_type=TEXT_TYPE)
        if accepts_gzip(request.headers.get("Accept-Encoding", "").encode()):
            response.set_data(exposition.gzipped(response.get_data()))
            response.content_encoding = "gzip"
        response.vary.add("Accept-Encoding")
        response.cache_control.no_store = True
        return response

    @api.get("/api/prometheus/sd")
    def targets() -> Response:
        return Response(exposition.targets(), mimetype=JSON_TYPE)

    return api
