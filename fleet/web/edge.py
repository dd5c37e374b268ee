"""The edge API: what `fleet.wire` says, over HTTP. Machines call it; it calls no machine.

Store verbs and parsing run in the thread pool, so that thousands who listen for hints cost no thread.
"""

from __future__ import annotations

import logging
from dataclasses import replace
from datetime import datetime, timedelta

from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from fleet.errors import IdentityError, IdentityUnknown
from fleet.model import Instance, Turns
from fleet.planner.fairness import turns_for
from fleet.store.base import Store
from fleet.web.hints import Hints
from fleet.web.http import Json, bearer, number, parse_json, read_body
from fleet.web.noticed import Noticed
from fleet.web.renewal import Renewal, new_token, sha256, unknown_token
from fleet.web.settings import Clock, Policy, PolicyOf, WebSettings
from fleet.wire import Enroll, Enrolled, Heartbeat, Orders, from_data, to_data

# Proxies and NAT tables forget a connection that is silent for longer than about a minute.
MAX_WAIT_S = 50.0

log = logging.getLogger(__name__)


class EdgeApi:
    """The three calls of a supervisor, and the certificate that it asks for before them."""

    def __init__(self, store: Store, settings: WebSettings, hints: Hints, policy: PolicyOf, clock: Clock) -> None:
        self._settings = settings
        self._store = store
        self._hints = hints
        self._policy = policy
        self._clock = clock
        self._noticed = Noticed(store)
        self._renewal = Renewal(store, settings.token_life, clock)
        self.routes = (
            Route("/edge/v1/enroll", self.enroll, methods=["POST"]),
            Route("/edge/v1/heartbeat", self.heartbeat, methods=["POST"]),
            Route("/edge/v1/hint", self.hint, methods=["GET"]),
            Route("/edge/v1/certificate", self.certificate, methods=["GET"]),
        )

    async def enroll(self, request: Request) -> Response:
        return Json(await run_in_threadpool(self._enroll, await read_body(request)))

    async def heartbeat(self, request: Request) -> Response:
        at = self._clock()  # before it waits for its turn: another thread may answer a later one of this machine sooner
        return Json(await run_in_threadpool(self._heartbeat, bearer(request), await read_body(request), at))

    async def hint(self, request: Request) -> Response:
        await run_in_threadpool(self._renewal.bearer, bearer(request))
        after, wait_s = int(number(request, "after", 0, 2**53)), number(request, "wait_s", 25, MAX_WAIT_S)
        return Json({"seq": await self._hints.wait(after, wait_s)})

    async def certificate(self, _request: Request) -> Response:
        """For whoever knows its fingerprint (`fleet.pinned`); it is no secret."""
        if self._settings.authority is None:
            raise HTTPException(
                404, "this dispatcher has no certificate of its own; a public authority vouches for it, or nobody"
            )
        return Response(self._settings.authority, media_type="application/x-pem-file")

    def _enroll(self, body: bytes) -> object:
        message = from_data(Enroll, parse_json(body))
        self._prove(message)
        if caller := self._renewal.known(message.join_token):
            return self._let_back(caller.instance, message)
        token = new_token()
        instance = self._store.enroll(
            message.instance,
            sha256(message.join_token),
            sha256(token),
            message.hostname,
            message.gpus,
            self._clock(),
            message.renews,
        )
        if instance is None:
            log.warning("enrolment refused", extra={"instance": message.instance, "host": message.hostname})
            raise HTTPException(403, f"instance {message.instance!r} may not enrol: its token is unknown, used or late")
        return to_data(_enrolled(instance, token, self._policy(instance), self._store.turns()))

    def _let_back(self, known: Instance, message: Enroll) -> object:
        """A machine that rebooted shows the token that it was given, and is told again what it has forgotten.

        Raises:
            HTTPException: 403, the token is of another.
        """
        if known.id != message.instance:
            raise HTTPException(403, f"this token is of instance {known.id!r}, not of {message.instance!r}")
        log.info("machine came back after a reboot", extra={"instance": known.id, "host": message.hostname})
        return to_data(_enrolled(known, message.join_token, self._policy(known), self._store.turns()))

    def _prove(self, message: Enroll) -> None:
        """Before the token is used up: a machine that is not ours must not use up the one of a machine that is.

        Raises:
            HTTPException: 403, it is another; 503, it shall come again.
        """
        known = self._store.instance(message.instance)
        if known is None or self._settings.prove is None:
            return
        try:
            self._settings.prove(known, message.proof, self._clock())
        except IdentityUnknown as error:
            raise HTTPException(503, str(error), headers={"Retry-After": "3"}) from error
        except IdentityError as error:
            log.warning(
                "enrolment refused: not proven",
                extra={"instance": known.id, "host": message.hostname, "why": str(error)},
            )
            raise HTTPException(403, f"instance {known.id!r} may not enrol: {error}") from error

    def _heartbeat(self, token: str, body: bytes, at: datetime) -> object:
        caller = self._renewal.bearer(token)
        known = caller.instance
        message = from_data(Heartbeat, parse_json(body))
        if message.instance != known.id:
            raise HTTPException(403, f"this token is of instance {known.id!r}, not of {message.instance!r}")
        if foreign := [run.task for run in message.runs if run.instance != known.id]:
            raise HTTPException(403, f"task {foreign[0]!r} did not run on instance {known.id!r}")
        self._renewal.take_up(caller, token)
        instance = self._store.beat(
            known.id,
            at=at,  # by our clock: that of a machine may be wrong
            is_pulling=message.is_pulling,
            is_ending=message.is_ending,
            reason=message.reason,
            idle_since=message.idle_since,
            allocations=message.allocations,
            runs=message.runs,
            gpus=message.gpus,
            vitals=message.vitals,
            unsettled=_unsettled(message),
        )
        if instance.gone_at:  # since we asked who it is; nothing of this message was kept
            raise unknown_token()
        self._noticed.take(message, self._clock())
        # As the pass saw it, which counted what this machine had told before this message.
        turns = turns_for(self._store.turns(), known)
        orders = _orders(instance, message, self._policy(instance), self._hints.seq, turns, self._clock())
        return to_data(replace(orders, token=self._renewal.next(caller, token)))


def _unsettled(message: Heartbeat) -> tuple[str, ...]:
    held = {allocation.task for allocation in message.allocations}
    return tuple(run.task for run in message.runs if run.ended_at is None and run.task not in held)


def _enrolled(instance: Instance, token: str, policy: Policy, turns: Turns) -> Enrolled:
    return Enrolled(
        instance=instance.id,
        token=token,
        cluster=instance.cluster,
        resource=instance.resource,
        server=policy.server,
        queues=policy.queues,
        agent=policy.agent,
        idle_timeout=policy.idle_timeout,
        poll_interval=policy.poll_interval,
        heartbeat_interval=policy.heartbeat_interval,
        contact_timeout=policy.contact_timeout,
        max_lifetime=policy.max_lifetime,
        keep_awake=policy.keep_awake,
        boot_timeout=policy.boot_timeout,
        min_driver=policy.min_driver,
        above_gpus=dict(instance.standing.above_gpus),
        smaller=dict(instance.standing.smaller),
        turns=turns_for(turns, instance),
    )


def _orders(instance: Instance, message: Heartbeat, policy: Policy, hint: int, turns: Turns, at: datetime) -> Orders:
    # As a duration: the clock of a machine may be wrong.
    within = max(instance.drain_by - at, timedelta(0)) if instance.drain_by else None
    return Orders(
        drain=instance.end_reason if instance.drain_requested_at else None,
        end=instance.end_reason if instance.terminate_requested_at else None,
        queues=policy.queues,
        idle_timeout=policy.idle_timeout,
        runs_seen=tuple(run.task for run in message.runs if run.ended_at),
        hint=hint,
        above_gpus=dict(instance.standing.above_gpus),
        smaller=dict(instance.standing.smaller),
        turns=turns,
        drain_within=within,
    )
