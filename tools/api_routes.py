"""Every route of the API, with its parameters and answers, for docs/api.md and openapi.json."""

import re
from dataclasses import dataclass
from typing import Any

from machines_server.contract.errors import (
    BadParameterBody,
    ErrorBody,
    TooManyBody,
    UnauthorizedBody,
    UnknownMachineBody,
)
from machines_server.contract.events import Event, Events
from machines_server.contract.health import Health, NotReady
from machines_server.contract.history import (
    Availability,
    FleetAvailability,
    FleetHistory,
    History,
    Models,
    Point,
)
from machines_server.contract.history_queries import (
    AvailabilityQuery,
    EventsQuery,
    FleetSeriesQuery,
    ModelsQuery,
    SeriesQuery,
)
from machines_server.contract.host_services import HostServices
from machines_server.contract.leases import GrantedLease, HeldLease, Leases
from machines_server.contract.machines import DeclaredMachine, Infrastructure, LiveKeys, Machines
from machines_server.contract.prometheus import SidecarTarget
from machines_server.contract.requests import LeaseParameters, RenewParameters, RouteParameters
from machines_server.contract.routing import NoMachine, Route
from machines_server.contract.sessions import LoggedOut, LoginLink
from machines_server.contract.telemetry import System
from machines_server.contract.tools import ToolCall, ToolResult, Tools


@dataclass(frozen=True)
class ApiError:
    """An error by its code."""

    status: int
    body: type
    about: str


ERRORS = {
    "bad_parameter": ApiError(400, BadParameterBody, "a parameter is unknown, missing or invalid"),
    "too_much": ApiError(400, ErrorBody, "the answer would be too large, or would take too long to read"),
    "unknown_machine": ApiError(
        404, UnknownMachineBody, "no machine has that name; about the past, none ever had"
    ),
    "unknown_lease": ApiError(404, ErrorBody, "the lease has ended or never existed"),
    "lease_broken": ApiError(409, ErrorBody, "the machine of the lease can no longer be used"),
    "idempotency_conflict": ApiError(
        409, ErrorBody, "an earlier request with that key asked for something else"
    ),
    "too_many_leases": ApiError(
        429, TooManyBody, "the holder, the address or all together have too many leases"
    ),
    "too_many_questions": ApiError(429, TooManyBody, "too many requests about the past at the same time"),
    "no_machine": ApiError(503, NoMachine, "no machine is fit"),
    "not_ready": ApiError(503, NotReady, "answers are not up to date"),
    "auth_off": ApiError(409, ErrorBody, "requests are not signed, so nobody needs to sign in"),
    "unsigned": ApiError(409, ErrorBody, "the request must be signed"),
    "unauthorized": ApiError(401, UnauthorizedBody, "the request must be signed, see signatures.md"),
    "forbidden": ApiError(403, ErrorBody, "the agent, or a session in a browser, may not do that"),
    "store_unavailable": ApiError(503, ErrorBody, "the database cannot be used"),
    "not_found": ApiError(404, ErrorBody, "there is no such path"),
    "method_not_allowed": ApiError(405, ErrorBody, "the path does not support that method"),
    "bad_request": ApiError(400, ErrorBody, "the body is not JSON"),
    "request_entity_too_large": ApiError(413, ErrorBody, "the body is too large"),
    "misdirected_request": ApiError(421, ErrorBody, "the server is not known under that host name"),
    "request_timeout": ApiError(408, ErrorBody, "the request did not arrive in time"),
    "request_uri_too_long": ApiError(414, ErrorBody, "the request line is too long"),
    "request_header_fields_too_large": ApiError(431, ErrorBody, "the headers are too large, or too many"),
    "internal_error": ApiError(500, ErrorBody, "the server failed; its log says why"),
    "busy": ApiError(503, ErrorBody, "too many requests are waiting for an answer"),
    "too_many_connections": ApiError(503, ErrorBody, "the server has too many connections"),
}


@dataclass(frozen=True)
class ApiRoute:
    """One method of one path, and its parameters."""

    title: str
    """The method and the path."""
    operation: str
    """The operation's id in openapi.json."""
    about: str
    answer: Any
    """The class of the answer, several classes whose keys it combines, or a description."""
    errors: tuple[str, ...] = ()
    """Its own codes of ERRORS; any route may answer with the last ones."""
    query: type | None = None
    body: type | None = None
    note: str = ""
    """Remarks besides the classes."""
    status: int = 200
    media: tuple[str, ...] = ("application/json",)
    """The content types of the answer; the first is that of the classes."""
    is_list: bool = False
    """Whether the answer is a list of the class."""
    is_conditional: bool = False
    """Whether it answers 304 to a request that has the current ETag."""
    is_open: bool = False
    """Whether it is answered without a signature in every AUTH_MODE."""

    @property
    def method(self) -> str:
        """The method, in upper case."""
        return self.title.partition(" ")[0]

    @property
    def path(self) -> str:
        """The path, as openapi.json writes it: names of parameters in braces."""
        return re.sub("[A-Z]+", lambda found: f"{{{found[0].lower()}}}", self.title.partition(" ")[2])


_PAST = ("bad_parameter", "too_much", "too_many_questions", "store_unavailable")
_TOOL_ERRORS = (
    *("unknown_machine", "unknown_lease", "lease_broken", "idempotency_conflict"),
    *("too_many_leases", "no_machine"),
)
_MACHINE = (DeclaredMachine, LiveKeys)

ROUTES = (
    ApiRoute(
        "GET /api/machines",
        "list_machines",
        "The machine files as declared, and their problems.",
        Machines[DeclaredMachine],
        is_conditional=True,
    ),
    ApiRoute(
        "GET /api/infrastructure",
        "get_infrastructure",
        "Every machine with its live keys.",
        Infrastructure[LiveKeys],
        note="Each machine also has the keys of its file, among them those of DeclaredMachine.",
        is_conditional=True,
    ),
    ApiRoute(
        "GET /api/services",
        "list_services",
        "The services of all hosts, and whether they answer.",
        HostServices,
    ),
    ApiRoute(
        "GET /api/machines/NAME",
        "get_machine",
        "One machine with its live keys.",
        _MACHINE,
        ("unknown_machine",),
        note="It has all keys of its file, as they are declared; entries of `services` have live keys, too.",
        is_conditional=True,
    ),
    ApiRoute(
        "GET /api/machines/NAME/file",
        "get_machine_file",
        "The version of a machine's file that is in force.",
        "YAML, without comments",
        ("unknown_machine",),
        media=("application/yaml",),
    ),
    ApiRoute(
        "GET /api/machines/NAME/history",
        "get_machine_history",
        "Metrics of one machine over time.",
        History[list[Point]],
        ("unknown_machine", *_PAST),
        query=SeriesQuery,
        note="With `format=csv`, a table instead: the time, then four columns for each series.",
        media=("application/json", "text/csv"),
    ),
    ApiRoute(
        "GET /api/history",
        "get_fleet_history",
        "Metrics of several machines over time, in the same steps.",
        FleetHistory[list[Point]],
        ("unknown_machine", *_PAST),
        query=FleetSeriesQuery,
        note="The limits on points hold for the whole answer. With `format=csv`, a table instead: the time,"
        " then four columns for each series, whose heads begin with the name of the machine.",
        media=("application/json", "text/csv"),
    ),
    ApiRoute(
        "GET /api/machines/NAME/availability",
        "get_machine_availability",
        "How long a machine was online, degraded, offline and unknown, and how often it went offline.",
        Availability,
        ("unknown_machine", *_PAST),
        query=AvailabilityQuery,
    ),
    ApiRoute(
        "GET /api/availability",
        "get_fleet_availability",
        "The availability of every machine, the least reliable first.",
        FleetAvailability,
        _PAST,
        query=AvailabilityQuery,
    ),
    ApiRoute(
        "GET /api/events",
        "list_events",
        "Events, page by page, newest first.",
        Events[Event],
        ("unknown_machine", *_PAST),
        query=EventsQuery,
    ),
    ApiRoute(
        "GET /api/models",
        "list_models",
        "Every model: where it is declared, on disk and in memory, and where it was last seen.",
        Models,
        _PAST,
        query=ModelsQuery,
    ),
    ApiRoute(
        "GET /api/route",
        "pick_machine",
        "Which machine to use, and why not the others.",
        Route,
        ("bad_parameter", "no_machine", "store_unavailable"),
        query=RouteParameters,
        note="`docs/routing.md` explains the ranking.",
    ),
    ApiRoute(
        "POST /api/leases",
        "lease_machine",
        "Which machine to use, with a lease on it.",
        GrantedLease,
        ("bad_parameter", "idempotency_conflict", "too_many_leases", "no_machine", "store_unavailable"),
        status=201,
        body=LeaseParameters,
        note="A request that repeats the header `Idempotency-Key` of an earlier one gets that one's lease; if"
        " it asks for something else, it is refused.",
    ),
    ApiRoute(
        "GET /api/leases",
        "list_leases",
        "The leases in force.",
        Leases,
        (
            "bad_parameter",
            "store_unavailable",
        ),
    ),
    ApiRoute(
        "GET /api/leases/LEASE",
        "get_lease",
        "One lease.",
        HeldLease,
        ("bad_parameter", "unknown_lease", "store_unavailable"),
    ),
    ApiRoute(
        "POST /api/leases/LEASE/renew",
        "renew_lease",
        "Restart the time of a lease.",
        HeldLease,
        ("bad_parameter", "unknown_lease", "lease_broken", "store_unavailable"),
        body=RenewParameters,
    ),
    ApiRoute(
        "DELETE /api/leases/LEASE",
        "release_lease",
        "End a lease.",
        HeldLease,
        ("bad_parameter", "unknown_lease", "store_unavailable"),
    ),
    ApiRoute(
        "POST /api/login",
        "make_login_link",
        "Make a link that signs a person in, to look at the fleet in a browser; the request must be signed.",
        LoginLink,
        ("auth_off", "unsigned"),
    ),
    ApiRoute(
        "POST /api/logout",
        "end_sessions",
        "End the sessions of all browsers; the request must be signed.",
        LoggedOut,
        ("auth_off", "unsigned"),
    ),
    ApiRoute("GET /api/system", "get_system", "The host that the server runs on.", System),
    ApiRoute(
        "GET /api/prometheus/sd",
        "get_prometheus_targets",
        "Where Prometheus finds the sidecars, for `http_sd_configs`.",
        SidecarTarget,
        note="See `docs/prometheus.md`.",
        is_list=True,
    ),
    ApiRoute(
        "GET /metrics",
        "get_metrics",
        "The metrics of the server and of the fleet.",
        "text in the format of Prometheus",
        note="See `docs/prometheus.md`. Where requests must be signed, anybody may read those of the server,"
        " and callers that sign or have the token of `MACHINES_METRICS_TOKEN_FILE` those of the fleet.",
        media=("text/plain",),
        is_open=True,
    ),
    ApiRoute("GET /health", "get_health", "The health of the server.", Health, is_open=True),
    ApiRoute(
        "GET /health/ready",
        "get_readiness",
        "Whether answers are up to date.",
        Health,
        ("not_ready",),
        is_open=True,
    ),
    ApiRoute("GET /openapi.json", "get_openapi", "This description of the API.", "OpenAPI 3.1", is_open=True),
    ApiRoute(
        "GET /mcp/tools",
        "list_tools",
        "The tools for agents and their arguments, for callers that do not use POST /mcp.",
        Tools,
        note="`POST /mcp` is the Model Context Protocol (`docs/mcp.md`).",
    ),
    ApiRoute(
        "POST /mcp/call",
        "call_tool",
        "Call a tool; an error is that of the API.",
        ToolResult,
        (*_PAST, *_TOOL_ERRORS),
        body=ToolCall,
    ),
)
