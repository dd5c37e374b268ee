"""All routes in one ASGI app. Each parses, calls the store, renders; a route decides nothing."""

from __future__ import annotations

from datetime import UTC, datetime

from starlette.applications import Starlette
from starlette.exceptions import HTTPException

from fleet.errors import FleetError
from fleet.store.base import Store
from fleet.web.dashboard import dashboard_routes
from fleet.web.edge import EdgeApi
from fleet.web.hints import Hints
from fleet.web.http import on_crash, on_fleet_error, on_http_error
from fleet.web.operator import OperatorApi
from fleet.web.package import package_routes
from fleet.web.settings import Clock, PolicyOf, WebSettings


def utc_now() -> datetime:
    return datetime.now(UTC)


def create_web(
    store: Store, settings: WebSettings, hints: Hints, policy: PolicyOf, clock: Clock = utc_now
) -> Starlette:
    """Edge API, operator API, dashboard and metrics.

    Before its server is stopped, call `hints.close()`: those who listen for hints are answered at once.
    """
    edge = EdgeApi(store, settings, hints, policy, clock)
    operator = OperatorApi(store, settings, hints, clock)
    return Starlette(
        routes=[*edge.routes, *package_routes(settings.package), *operator.routes, *dashboard_routes()],
        exception_handlers={HTTPException: on_http_error, FleetError: on_fleet_error, Exception: on_crash},
    )
