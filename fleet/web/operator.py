"""The operator API: what people and commands ask, and the orders that they may give."""

from __future__ import annotations

import asyncio
import functools
import hashlib
import hmac
import ipaddress
import re
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime, timedelta
from urllib.parse import urlsplit

from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from fleet.model import Event, Instance, Reason
from fleet.nearest import which
from fleet.store.base import Store
from fleet.web.hints import Hints
from fleet.web.http import Json, bearer, number, parse_json, read_body
from fleet.web.ledger import cost_data, task_data
from fleet.web.metrics import CONTENT_TYPE, metrics_text
from fleet.web.roles import LEAST, Operator, Role
from fleet.web.settings import Clock, WebSettings
from fleet.web.status import instance_data, status_data

MAX_EVENTS = 10_000
MAX_WAIT_S = 50.0
MOST_IDS = 10  # enough to say that a prefix means several
GONE_LATELY = timedelta(days=7)
LONGEST_DRAIN_S = 30 * 86400
# Events have no wake-up of their own: whoever follows them sees them this much later at most.
FOLLOW_EVERY_S = 0.25

Endpoint = Callable[[Request], Awaitable[Response]]
UNITS_S = {"s": 1, "m": 60, "h": 3600, "d": 86400, "w": 604800}


class OperatorApi:
    """All below /api/v1, and /metrics. With an operator token in the settings, each call must carry it."""

    def __init__(self, store: Store, settings: WebSettings, hints: Hints, clock: Clock) -> None:
        self._store = store
        self._settings = settings
        self._hints = hints
        self._clock = clock
        self.routes = (
            self._route("/api/v1/status", self.status),
            self._route("/api/v1/events", self.events),
            self._route("/api/v1/tasks/{task}", self.task),
            self._route("/api/v1/ids", self.ids),
            self._route("/api/v1/cost", self.cost),
            self._route("/api/v1/instances", self.instances),
            self._route("/api/v1/clearml-conf", self.clearml_conf, "POST"),
            self._route("/api/v1/instances/{instance}/drain", self.drain, "POST"),
            self._route("/api/v1/instances/{instance}/terminate", self.terminate, "POST"),
            self._route("/api/v1/resources/{resource}/breaker/reset", self.reset_breaker, "POST"),
            self._route("/metrics", self.metrics),
        )

    # --- what they read

    async def status(self, _request: Request) -> Response:
        return await run_in_threadpool(self._status)

    async def metrics(self, _request: Request) -> Response:
        return await run_in_threadpool(self._metrics)

    async def events(self, request: Request) -> Response:
        after = int(number(request, "after", 0, 2**53))
        limit = int(number(request, "limit", 1000, MAX_EVENTS))
        deadline = asyncio.get_running_loop().time() + number(request, "wait_s", 0, MAX_WAIT_S)
        query = request.query_params
        read = functools.partial(self._store.events, after, limit, query.get("instance"), query.get("task"))
        found: tuple[Event, ...] = await run_in_threadpool(read)
        while not found and asyncio.get_running_loop().time() < deadline and not self._hints.is_closed:
            await asyncio.sleep(FOLLOW_EVERY_S)
            found = await run_in_threadpool(read)
        return Json({"events": found})

    async def task(self, request: Request) -> Response:
        return await run_in_threadpool(self._task, request.path_params["task"])

    async def ids(self, request: Request) -> Response:
        return await run_in_threadpool(self._ids, request.query_params.get("prefix", ""))

    async def cost(self, request: Request) -> Response:
        return await run_in_threadpool(self._cost, request.query_params.get("since", "24h"))

    async def instances(self, request: Request) -> Response:
        return await run_in_threadpool(self._instances, request.query_params.get("gone_since"))

    async def clearml_conf(self, request: Request) -> Response:
        """A new key pair of the embedded server, in the name of whoever asks."""
        enlist = self._settings.enlist
        if enlist is None:
            raise HTTPException(404, "the ClearML server is not ours; get keys from its web page")
        conf = await run_in_threadpool(enlist, request.state.operator.name or "operator")
        return Json({"clearml_conf": conf, "authority": self._settings.authority})

    # --- what they order

    async def drain(self, request: Request) -> Response:
        body = await read_body(request)
        text, by = _reason_text(request, body), _until(body, self._clock())
        return await run_in_threadpool(
            self._write_order,
            request.path_params["instance"],
            text,
            functools.partial(self._store.request_drain, by=by),
        )

    async def terminate(self, request: Request) -> Response:
        return await self._order(request, self._store.request_terminate)

    async def _order(self, request: Request, verb: Callable[[str, Reason, datetime], None]) -> Response:
        text = _reason_text(request, await read_body(request))
        return await run_in_threadpool(self._write_order, request.path_params["instance"], text, verb)

    def _write_order(self, instance: str, text: str, verb: Callable[[str, Reason, datetime], None]) -> Response:
        self._known(instance)
        verb(instance, Reason(code="operator", text=text), self._clock())
        return Json({"instance": instance, "state": self._known(instance).state})

    async def reset_breaker(self, request: Request) -> Response:
        text = _reason_text(request, await read_body(request))
        return await run_in_threadpool(self._reset_breaker, request.path_params["resource"], text)

    def _reset_breaker(self, resource: str, text: str) -> Response:
        """An event is the order: the dispatcher asks for the last one when a breaker would be open."""
        known = {name for queue in self._settings.queues for name in queue.resources}
        if resource not in known:
            raise HTTPException(404, f"no queue uses a resource {resource!r}; {which(resource, sorted(known))}")
        reason = Reason(code="operator", text=text, limit=f"resources.{resource}")
        event = Event(at=self._clock(), kind="breaker.reset", text=f"resource {resource}: {text}", reason=reason)
        self._store.append_events([event])
        return Json({"resource": resource})

    # --- how it is answered

    def _status(self) -> Response:
        at, settings = self._clock(), self._settings
        today = at.astimezone(UTC).replace(hour=0, minute=0, second=0, microsecond=0)
        data = status_data(
            cluster=settings.cluster,
            at=at,
            view=self._store.view(),
            instances=self._store.instances(settings.cluster),
            budget=settings.budget,
            usd_today=self._store.usd_since(settings.cluster, today, at),
            usd_month=self._store.usd_since(settings.cluster, today.replace(day=1), at),
            queues=settings.queues,
            server_url=settings.server_url,
            server_kind=settings.server_kind,
        )
        return Json(data)

    def _metrics(self) -> Response:
        at, cluster = self._clock(), self._settings.cluster
        today = at.astimezone(UTC).replace(hour=0, minute=0, second=0, microsecond=0)
        instances, usd_today = self._store.instances(cluster), self._store.usd_since(cluster, today, at)
        usd_month = self._store.usd_since(cluster, today.replace(day=1), at)
        text = metrics_text(self._store.view(), instances, usd_today, at, usd_month, self._settings.budget)
        return Response(text, media_type=CONTENT_TYPE)

    def _task(self, task: str) -> Response:
        data = task_data(
            task, self._store.view(), self._store.runs(task=task), self._store.events(task=task), self._clock()
        )
        if data is None:
            raise HTTPException(
                404, f"nothing is known of task {task!r}: it waits in none of the queues, and never ran"
            )
        return Json(data)

    def _ids(self, prefix: str) -> Response:
        """What begins with `prefix`: tasks that wait or ran, and instances that are not gone or went lately."""
        view, settings = self._store.view(), self._settings
        waiting = {w.task for w in view.waiting if w.task.startswith(prefix)} if view else set[str]()
        tasks = sorted(waiting | set(self._store.tasks_like(prefix, MOST_IDS)))[:MOST_IDS]
        there = self._store.instances(settings.cluster)
        # Those that are gone are of interest only when none that is there is meant.
        instances = [i.id for i in there if i.id.startswith(prefix)]
        if not instances:
            lately = self._store.instances(settings.cluster, gone_after=self._clock() - GONE_LATELY)
            instances = [i.id for i in lately if i.id.startswith(prefix)]
        return Json({"tasks": tasks, "instances": instances[:MOST_IDS]})

    def _cost(self, since_text: str) -> Response:
        at = self._clock()
        since = _since(since_text, at)
        return Json(cost_data(self._store.instances(self._settings.cluster, gone_after=since), since, at))

    def _instances(self, gone_since: str | None) -> Response:
        at = self._clock()
        gone_after = None if gone_since is None else _since(gone_since, at)
        found = self._store.instances(self._settings.cluster, gone_after=gone_after)
        # Both: what `fleet status` says of each, and the times from which that is read.
        return Json({"instances": [{**instance_data(i, at), "facts": i} for i in found]})

    def _known(self, instance: str) -> Instance:
        known = self._store.instance(instance)
        if known is None or known.cluster != self._settings.cluster:
            raise HTTPException(404, f"instance {instance!r} is not known; `fleet status` shows those that are")
        return known

    # --- who may ask

    def _route(self, path: str, endpoint: Endpoint, method: str = "GET") -> Route:
        """For operators with the least role of this path. (A class-based middleware would guard the edge's routes as well.)"""
        least = LEAST[path]

        @functools.wraps(endpoint)
        async def guarded(request: Request) -> Response:
            operator = await run_in_threadpool(self._who, request)
            if not operator.role.may(least):
                raise HTTPException(403, f"{operator.name} has the role {operator.role}; this takes {least}")
            request.state.operator = operator
            return await endpoint(request)

        return Route(path, guarded, methods=[method])

    def _who(self, request: Request) -> Operator:
        """Whoever calls.

        Raises:
            HTTPException: 401, nobody that is known; 403, a page in a browser that may not.
        """
        settings, token = self._settings, bearer(request)
        if settings.operator_token is None:
            _refuse_strange_pages(request)
            return Operator(name="", role=Role.ADMIN)
        if hmac.compare_digest(token.encode(), settings.operator_token.encode()):
            return Operator(name="", role=Role.ADMIN)
        known = settings.who_is(hashlib.sha256(token.encode()).hexdigest()) if token and settings.who_is else None
        if known is None:
            text = "the operator API wants its token: Authorization: Bearer <token>"
            raise HTTPException(401, text, headers={"WWW-Authenticate": "Bearer"})
        return known


def _refuse_strange_pages(request: Request) -> None:
    """Without a token, any page in a browser on this machine could reach the loopback port: by a form that it posts,
    or by a name of its own that it lets point here. Commands send neither an Origin nor a strange name.

    Raises:
        HTTPException: 403.
    """
    host = request.headers.get("host", "")
    origin = request.headers.get("origin")
    if not _is_address(host):
        raise HTTPException(403, f"{host!r}: without an operator token, call this port by its address or as localhost")
    if origin is not None and urlsplit(origin).netloc != host:
        raise HTTPException(403, f"a page of {origin!r} may not call this port")


def _is_address(host: str) -> bool:
    """Whether a Host header names an IP address or localhost, with or without a port."""
    try:
        name = urlsplit(f"//{host}").hostname or ""
        return name == "localhost" or bool(ipaddress.ip_address(name))
    except ValueError:
        return False


def _since(text: str, at: datetime) -> datetime:
    """ "24h" ago, or a time in ISO-8601 with its offset.

    Raises:
        HTTPException: 400, it is neither.
    """
    if match := re.fullmatch(r"(\d{1,9})([smhdw])", text):
        try:
            return at - timedelta(seconds=int(match[1]) * UNITS_S[match[2]])
        except OverflowError:
            return datetime(1, 1, 2, tzinfo=UTC)
    try:
        since = datetime.fromisoformat(text)
    except ValueError:
        since = None
    if since is None or since.tzinfo is None:
        raise HTTPException(400, f"{text!r} is neither a duration (90s, 10m, 24h, 7d) nor a time with its offset")
    return since


def _until(body: bytes, at: datetime) -> datetime | None:
    """Until when tasks may run, by the body's `within_s`; None: until they end by themselves.

    Raises:
        HTTPException: 400, it is not a number of seconds.
    """
    data = parse_json(body) if body.strip() else {}
    within_s = data.get("within_s") if isinstance(data, dict) else None
    if within_s is None:
        return None
    if isinstance(within_s, bool) or not isinstance(within_s, int | float) or not 0 <= within_s <= LONGEST_DRAIN_S:
        raise HTTPException(400, f"within_s is a number of seconds, 0 to {LONGEST_DRAIN_S}")
    return at + timedelta(seconds=within_s)


def _reason_text(request: Request, body: bytes) -> str:
    """What the operator says for it, and who it is, if he has a name.

    Raises:
        WireError: the body is neither empty nor {"reason": "..."}.
    """
    data = parse_json(body) if body.strip() else {}
    text = data.get("reason", "asked by an operator") if isinstance(data, dict) else None
    if not isinstance(text, str) or not text.strip():
        raise HTTPException(400, 'the body may be empty, or {"reason": "one sentence"}')
    name = request.state.operator.name
    return " ".join(text.split())[:500] + (f" ({name})" if name else "")
