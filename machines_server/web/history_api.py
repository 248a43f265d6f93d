"""The REST API of the past: series, events, availability, models."""

from flask import Blueprint, Response, request

from machines_server.contract.encoding import encode
from machines_server.contract.history import fleet_history as fleet_history_answer
from machines_server.contract.history import history as history_answer
from machines_server.contract.history import history_csv
from machines_server.contract.history_queries import (
    AQuery,
    AvailabilityQuery,
    EventsQuery,
    FleetSeriesQuery,
    ModelsQuery,
    SeriesQuery,
    read_query,
)
from machines_server.core.past.series import SeriesRange
from machines_server.services.fleet import FleetService
from machines_server.services.history import HistoryService
from machines_server.web.compression import compressed
from machines_server.web.concurrency import ConcurrencyLimit
from machines_server.web.messages import JSON_TYPE


def make_history_api(fleet: FleetService, history: HistoryService, threads: int) -> Blueprint:
    """The routes answered by `history`, a few at a time; `fleet` knows which models are loaded now."""
    api, limit = Blueprint("history", __name__), ConcurrencyLimit.for_threads(threads)

    @api.get("/api/machines/<name>/history")
    def machine_history(name: str) -> Response:
        query = _query(SeriesQuery)
        is_csv = query.is_csv()
        with limit.slot():  # the answer is completed here, since its reader may be slow
            series = history.machine_series(name, query)
            return _csv(series, with_machines=False) if is_csv else _answer(history_answer(series))

    @api.get("/api/history")
    def fleet_history() -> Response:
        query = _query(FleetSeriesQuery)
        is_csv = query.is_csv()
        with limit.slot():
            series = history.series(query)
            return _csv(series, with_machines=True) if is_csv else _answer(fleet_history_answer(series))

    @api.get("/api/machines/<name>/availability")
    def machine_availability(name: str) -> Response:
        query = _query(AvailabilityQuery)
        with limit.slot():
            return _answer(history.machine_availability(name, query))

    @api.get("/api/availability")
    def availability() -> Response:
        query = _query(AvailabilityQuery)
        with limit.slot():
            return _answer(history.availability(query))

    @api.get("/api/events")
    def events() -> Response:
        query = _query(EventsQuery)
        query.wait_number()  # another layer has done the waiting
        with limit.slot():
            return _answer(history.events(query))

    @api.get("/api/models")
    def models() -> Response:
        query = _query(ModelsQuery)
        with limit.slot():
            return _answer(history.models(query, **fleet.models()))

    return api


def _query(kind: type[AQuery]) -> AQuery:
    return read_query(kind, request.args.lists())


def _csv(series: SeriesRange, *, with_machines: bool) -> Response:
    return Response("".join(history_csv(series, with_machines=with_machines)), mimetype="text/csv")


def _answer(content: object) -> Response:
    return compressed(Response(encode(content), mimetype=JSON_TYPE))
