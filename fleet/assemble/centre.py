"""The centre, put together: store, embedded server, web, dispatcher, on one port and in one process.

How they hear of each other: a task becomes available on the embedded server -> the dispatcher's loop wakes and idle
supervisors get a hint; something changes in the store (a machine enrols, says goodbye) -> the loop wakes. All are hints:
polling finds the same a little later.
"""

from __future__ import annotations

import functools
import json
import logging
import os
import threading
import time
import uuid
from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from fleet.assemble.encrypted import Given, Renewing, said_of, tls_of
from fleet.assemble.listening import Listener
from fleet.assemble.memory import database_url, open_database, schema_of
from fleet.assemble.package import package_file
from fleet.assemble.proofs import proofs_of
from fleet.assemble.providers import providers_of
from fleet.assemble.state import StateDir, access_from, state_of, write_private
from fleet.assemble.tokens import Tokens
from fleet.config import Config, Embedded
from fleet.dispatcher.clock import SteadyClock
from fleet.dispatcher.loop import Loop
from fleet.dispatcher.parts import Parts, Policy
from fleet.dispatcher.passes import Dispatcher
from fleet.model import Instance, KeepAwake, Reason, Resource, ServerAccess
from fleet.planner.minimum import is_kept
from fleet.queues.client import ClearMLServer
from fleet.server import credentials
from fleet.server.app import Server, ServerSettings, create_server
from fleet.server.conf import render_clearml_conf
from fleet.store.chronicle import ChronicledStore
from fleet.store.sql import SqlStore
from fleet.web.app import create_web
from fleet.web.hints import Hints
from fleet.web.settings import Policy as EdgePolicy
from fleet.web.settings import WebSettings

log = logging.getLogger(__name__)

HEARTBEAT = timedelta(seconds=5)
# Shorter than planner.reaper.CONTACT_LOST_AFTER: a machine that is cut off ends its tasks before they are given away.
CONTACT_TIMEOUT = timedelta(seconds=120)
WAKING_CHANGES = {"enrolled", "goodbye", "runs_ended", "orders"}
# What the web answers; everything else on the port is the ClearML API and its files.
WEB_PATHS = ("/edge/", "/api/v1/", "/metrics", "/static/")


class Centre:
    """A centre that can be started and stopped. Machines outlive it, unless `end_machines` is called first."""

    def __init__(self, config: Config, *, with_dispatcher: bool = True) -> None:
        """Open everything and take the port; nothing is answered or launched before `start`.

        Raises:
            ConfigError: the port is taken, a provider is not there, a directory cannot be used.
            StoreError: a database cannot be opened.
        """
        self.now = SteadyClock()
        self.state: StateDir = state_of(config)
        self.state.prepare()
        self._lock = self.state.lock() if with_dispatcher else None
        self.listener = Listener(config.listen)
        self.config = config = _with_port(config, self.listener.port)
        self.hints = Hints()
        self.server = (
            _embedded_server(config, self.state, self._on_work) if isinstance(config.server, Embedded) else None
        )
        self.tls = tls_of(config, self.state)
        self._proofs = proofs_of(config)
        self.access = _access(config, self.server, self.state, self.tls)
        self.store = ChronicledStore(SqlStore(open_database(config, "fleet"), on_change=self._on_change))
        self.loop = Loop(self._dispatcher()) if with_dispatcher else None
        self._loop_thread: threading.Thread | None = None

    @property
    def url(self) -> str:
        """How this machine reaches the centre."""
        return self.config.listen.url

    def start(self) -> None:
        """Answer, and begin to dispatch."""
        if self.server:
            self.server.start()
        app = _route(self._web(), self.server.app if self.server else None)
        self.listener.start(app, self.tls.context() if self.tls else None)
        token = None if self.config.listen.is_loopback else self.state.operator_token()
        said = {"url": self.url, "server_url": self.access.api_url, "pid": os.getpid(), "token": token}
        said |= said_of(self.tls, self.state)
        said["origin"] = str(Path(self.config.origin).absolute())
        write_private(self.state.centre_file, json.dumps(said))
        if self.loop:
            self._loop_thread = threading.Thread(target=self.loop.run, name="dispatcher")
            self._loop_thread.start()
        log.info("centre started", extra={"url": self.url, "server": self.access.api_url})

    def stop(self) -> None:
        """Stop dispatching and answering. Machines go on."""
        if self.loop and self._loop_thread:
            self.loop.stop()
            self._loop_thread.join()
        self.hints.close()
        self.listener.stop()
        if self.server:
            self.server.close()
        self.state.centre_file.unlink(missing_ok=True)
        if self._lock:
            self._lock.close()

    def end_machines(
        self, reason: Reason, patience: timedelta, hurry: threading.Event | None = None
    ) -> tuple[Instance, ...]:
        """Order every instance to end and wait for it; those that are still there when patience ends, or `hurry` is set."""
        hurry = hurry or threading.Event()
        if self.loop:
            self.loop.dispatcher.is_closing = True
        deadline = time.monotonic() + patience.total_seconds()
        # Asked in this order: what the last pass launched is in the store when it is over.
        while (
            self.may_launch | bool(left := self.store.instances(self.config.cluster))
        ) and time.monotonic() < deadline:
            for instance in left:
                self.store.request_terminate(instance.id, reason, self.now())
            if hurry.wait(0.2):
                break
        return left

    @property
    def may_launch(self) -> bool:
        """Whether a pass still runs that began before `is_closing`."""
        return self.loop is not None and self.loop.may_launch

    def _on_work(self, _queue: str) -> None:
        self.hints.bump()
        if self.loop:
            self.loop.wake()

    def _on_change(self, kind: str) -> None:
        if kind in ("orders", "turns"):
            self.hints.bump()  # a supervisor that listens asks at once what is ordered
        if self.loop and kind in WAKING_CHANGES:
            self.loop.wake()

    def _dispatcher(self) -> Dispatcher:
        config = self.config
        policy = Policy(
            cluster=config.cluster,
            resources=config.resources,
            queues=config.queues,
            budget=config.budget,
            centre_url=config.advertise_url,
            server_url=self.access.api_url,
            server_kind="embedded" if self.server else "clearml",
            poll_interval=config.poll_interval,
            fairness=config.fairness,
            starvation_after=config.starvation_after,
            wait_usd_per_hour=config.wait_usd_per_hour,
            certificate_sha256=self.tls.certificate.sha256 if self.tls else None,
        )
        parts = Parts(
            store=self.store,
            demand=ClearMLServer(self.access),
            providers=providers_of(config, self.state),
            now=self.now,
            woken_at=self.now.woken_at,
            new_id=lambda: uuid.uuid4().hex[:8],
            join_secret=self.state.join_secret(),
            announce=self.hints.bump,
        )
        return Dispatcher(parts, policy, self.state.holder())

    def _web(self) -> Any:
        token = None if self.config.listen.is_loopback else self.state.operator_token()
        settings = WebSettings(
            cluster=self.config.cluster,
            budget=self.config.budget,
            queues=self.config.queues,
            server_url=self.access.api_url,
            server_kind="embedded" if self.server else "clearml",
            operator_token=token,
            who_is=Tokens(self.state).who,
            enlist=self._enlist if self.server else None,
            # What a cloud has signed is good until a time of the world, not of ours.
            prove=lambda known, proof, _: self._proofs(known, proof, datetime.now(UTC)),
            authority=self.tls.certificate.authority if self.tls else None,
            package=functools.cache(lambda: package_file(self.state.directory / "package")),
            token_life=self.config.identity.token_life,
        )
        return create_web(self.store, settings, self.hints, self._edge_policy, self.now)

    def _enlist(self, user: str) -> str:
        """A key pair of the embedded server; the clearml.conf of its user."""
        assert self.server
        access_key, secret_key = credentials.create(self.server.database, user, "asked for with an operator's token")
        return render_clearml_conf(replace(self.access, access_key=access_key, secret_key=secret_key))

    def _idle_timeout(self, instance: Instance, resource: Resource | None) -> timedelta | None:
        """None: it does not end for idleness. Asked at every heartbeat, so the store is only read where it matters."""
        if resource is None:
            return timedelta(0)  # it left the fleet file
        if self.loop and not self.loop.dispatcher.is_standby:
            kept = self.loop.dispatcher.kept
            # Before the first plan nobody knows who is needed, and for these seconds all may stay.
            if kept is None or instance.id in kept:
                return None
        elif resource.min_instances and is_kept(instance, resource, self.store.instances(self.config.cluster)):
            return None
        if resource.is_idle_auto and instance.standing.idle_timeout is not None:
            return instance.standing.idle_timeout
        return resource.idle_timeout

    def _edge_policy(self, instance: Instance) -> EdgePolicy:
        """What a machine of this resource needs to work."""
        config = self.config
        resource = next((r for r in config.resources if r.name == instance.resource), None)
        queues = sorted((q for q in config.queues if instance.resource in q.resources), key=lambda q: -q.priority)
        return EdgePolicy(
            server=self.access,
            queues=tuple(queues),
            agent=config.agent_of(instance.resource),
            idle_timeout=self._idle_timeout(instance, resource),
            poll_interval=config.poll_interval,
            heartbeat_interval=HEARTBEAT,
            contact_timeout=CONTACT_TIMEOUT,
            max_lifetime=resource.max_lifetime if resource else None,
            keep_awake=resource.keep_awake if resource else KeepAwake(),
            boot_timeout=resource.boot_timeout if resource else None,
            min_driver=resource.min_driver if resource else None,
        )


def _with_port(config: Config, port: int) -> Config:
    """With `listen: host:0` the port is known only now."""
    if config.listen.port == port:
        return config
    listen = replace(config.listen, port=port)
    server = Embedded(advertise_url=listen.url) if isinstance(config.server, Embedded) else config.server
    return replace(config, listen=listen, advertise_url=listen.url, server=server)


def _embedded_server(config: Config, state: StateDir, on_enqueue: Any) -> Server:
    settings = ServerSettings(
        database_url=database_url(config, "server"),
        database_schema=schema_of(config),
        files_dir=state.directory / "files",
        public_url=config.server.advertise_url if isinstance(config.server, Embedded) else config.advertise_url,
    )
    return create_server(settings, on_enqueue)


def _access(config: Config, server: Server | None, state: StateDir, tls: Given | Renewing | None) -> ServerAccess:
    """Fleet's own key pair; made with the first user's at the first start of the embedded server."""
    if server is None:
        assert isinstance(config.server, ServerAccess)
        return config.server
    pairs = state.credentials()
    if pairs and not credentials.all(server.database):
        # The database was lost or moved away. Users' clearml.conf still hold these keys: let them go on working.
        for who, label in CREDENTIALS.items():
            credentials.restore(server.database, pairs[who]["access_key"], pairs[who]["secret_key"], who, label)
    if pairs is None:
        made = {who: credentials.create(server.database, who, label) for who, label in CREDENTIALS.items()}
        pairs = {who: {"access_key": key, "secret_key": secret} for who, (key, secret) in made.items()}
        write_private(state.credentials_file, json.dumps(pairs))
    is_here = server.settings.public_url == config.advertise_url  # else a proxy of its own stands before it
    authority = tls.certificate.authority if tls and is_here else None
    return access_from(pairs, server.settings.public_url, "fleet", authority)


CREDENTIALS = {"fleet": "dispatcher and supervisors", "user": "made at the first start"}


def _route(web: Any, server: Any) -> Any:
    """One port, two apps: the centre's own paths to the web, the rest to the ClearML API."""

    async def app(scope: Any, receive: Any, send: Any) -> None:
        path = scope.get("path", "")
        is_web = path.startswith(WEB_PATHS) or (path == "/" and scope.get("method") == "GET")
        await (web if is_web or server is None else server)(scope, receive, send)

    return app


def machines_of(instances: Sequence[Instance]) -> str:
    """How many, in words."""
    return "1 instance" if len(instances) == 1 else f"{len(instances)} instances"
