"""The REST API of the past: series, events, availability, models."""

from collections.abc import Mapping

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
        asked = _asked("metric", "from", "to", "step", "gpu", "format")
        form = asked.get("format") or "json"
        if form not in ("json", "csv"):
            raise BadParameterError("format", f"is {form!r}: use json or csv")
        answer = history.series(name, asked)
        if form == "csv":
            return Response(answer.as_csv(), mimetype="text/csv")
        return Response(orjson.dumps(answer.as_json()), mimetype=JSON)

    @api.get("/api/machines/<name>/availability")
    def availability(name: str) -> Response:
        return Response(orjson.dumps(history.availability(name, _asked("from", "to"))), mimetype=JSON)

    @api.get("/api/events")
    def events() -> Response:
        asked = _asked("machine", "type", "from", "to", "limit", "after")
        return Response(orjson.dumps({"events": history.events(asked)}), mimetype=JSON)

    @api.get("/api/models")
    def models() -> Response:
        return Response(orjson.dumps(history.models(_asked("from", "to"), **service.models())), mimetype=JSON)

    return api


def _asked(*names: str) -> Mapping[str, str]:
    """The parameters of the query: these and no others, since a misspelt one asks something else."""
    for name, texts in request.args.lists():
        if name not in names:
            raise BadParameterError(name, f"is not known; use {', '.join(names)}")
        if len(texts) > 1:
            raise BadParameterError(name, "is given more than once")
    return request.args
