"""The REST API of the past: series, events, availability, models."""

import orjson
from flask import Blueprint, Response, request

from machines_server.errors import BadParameterError
from machines_server.history import History
from machines_server.service import Service
from machines_server.web.errors import JSON


def make_history_api(service: Service, history: History) -> Blueprint:
    """The routes that answer from `history`; `service` knows what is loaded now."""
    api = Blueprint("history", __name__)

    @api.get("/api/machines/<name>/history")
    def series(name: str) -> Response:
        form = request.args.get("format", "json")
        if form not in ("json", "csv"):
            raise BadParameterError("format", f"is {form!r}: use json or csv")
        answer = history.series(name, request.args)
        if form == "csv":
            return Response(answer.as_csv(), mimetype="text/csv")
        return Response(orjson.dumps(answer.as_json()), mimetype=JSON)

    @api.get("/api/machines/<name>/availability")
    def availability(name: str) -> Response:
        return Response(orjson.dumps(history.availability(name, request.args)), mimetype=JSON)

    @api.get("/api/events")
    def events() -> Response:
        return Response(orjson.dumps({"events": history.events(request.args)}), mimetype=JSON)

    @api.get("/api/models")
    def models() -> Response:
        return Response(orjson.dumps(history.models(request.args, service.loaded())), mimetype=JSON)

    return api
