"""The Flask application: the routes of the API and of the page, and every error as JSON."""

from flask import Flask, Response

from machines_server.auth.sessions import Sessions
from machines_server.exposition.service import ExpositionService
from machines_server.services.fleet import FleetService
from machines_server.services.health import HealthService
from machines_server.services.history import HistoryService
from machines_server.services.host import HostService
from machines_server.services.routing import Routing
from machines_server.web.api import make_machines_api, make_server_api
from machines_server.web.api_description import make_api_description
from machines_server.web.dashboard import make_dashboard
from machines_server.web.errors import register_errors
from machines_server.web.history_api import make_history_api
from machines_server.web.login import make_login
from machines_server.web.messages import JSON_TYPE, MAX_REQUEST_BYTES
from machines_server.web.prometheus_api import make_prometheus_api
from machines_server.web.routing_api import make_routing_api


def create_app(
    fleet: FleetService,
    health: HealthService,
    host: HostService,
    history: HistoryService,
    routing: Routing,
    exposition: ExpositionService,
    threads: int,
    sessions: Sessions | None = None,
) -> Flask:
    """Create the application; `threads` is how many requests are answered at a time.

    `sessions` are those of people in browsers, or None if nobody needs to sign in.
    """
    app = Flask(__name__, static_folder=None)
    app.response_class = _JsonResponse
    app.config["MAX_CONTENT_LENGTH"] = MAX_REQUEST_BYTES
    app.url_map.merge_slashes = False  # merging would answer with a redirect in HTML
    app.after_request(_add_nosniff)
    app.register_blueprint(make_dashboard())
    app.register_blueprint(make_api_description())
    app.register_blueprint(make_machines_api(fleet))
    app.register_blueprint(make_server_api(health, host))
    app.register_blueprint(make_history_api(fleet, history, threads))
    app.register_blueprint(make_routing_api(routing))
    app.register_blueprint(make_prometheus_api(exposition))
    app.register_blueprint(make_login(sessions))
    register_errors(app)
    return app


class _JsonResponse(Response):
    """A response that is not HTML by default, even where Flask creates it itself, as for OPTIONS."""

    default_mimetype = JSON_TYPE


def _add_nosniff(response: Response) -> Response:
    """Keep browsers from taking JSON or CSV for HTML, whatever text hosts put into it."""
    response.headers["X-Content-Type-Options"] = "nosniff"
    return response
