"""A small fleet behind a real web server."""

import contextlib
import socket
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

import requests
import uvicorn

from fleet.model import (
    AgentSettings,
    Allocation,
    Budget,
    Gpu,
    GpuNeed,
    Instance,
    Market,
    Offer,
    Queue,
    QueueView,
    Reason,
    Run,
    ServerAccess,
    View,
    Waiting,
)
from fleet.store.base import Store
from fleet.store.memory import MemoryStore
from fleet.web.app import create_web
from fleet.web.hints import Hints
from fleet.web.settings import Policy, WebSettings
from fleet.wire import Enroll, Heartbeat, to_data
from tests.waiting import PATIENCE, wait_for

T0 = datetime(2026, 3, 1, 12, 0, 0, tzinfo=UTC)
DEMAND = Reason(code="demand", text="train: 1 task waits", queue="train", task="t1")
IDLE = Reason(code="idle", text="idle for 10 min")
GPUS = tuple(Gpu(index=n, uuid=f"GPU-{n}", model="NVIDIA A10G", memory_gib=24.0, util=50.0 * n) for n in range(2))
ALLOCATION = Allocation(task="t1", queue="train", worker="c:gpu:i1:gpu0", gpus=("GPU-0",), started_at=T0)
TRAIN = Queue(name="train", resources=("gpu",), need=GpuNeed(at_least=1, at_most=1))
POLICY = Policy(
    server=ServerAccess(api_url="http://a", files_url="http://f", web_url="http://w", access_key="K", secret_key="S"),
    queues=(TRAIN,),
    agent=AgentSettings(),
    idle_timeout=timedelta(minutes=10),
    poll_interval=timedelta(seconds=2),
    heartbeat_interval=timedelta(seconds=5),
    contact_timeout=timedelta(seconds=60),
    max_lifetime=None,
)


def at(seconds: float) -> datetime:
    return T0 + timedelta(seconds=seconds)


def an_instance(name: str = "i1", *, usd: float | None = 3.6, requested_at: datetime = T0) -> Instance:
    offer = Offer(
        resource="gpu",
        provider="fake",
        type="g5.2xlarge",
        market=Market.SPOT,
        price_usd_per_hour=usd,
        gpus=2,
        zone="z1",
        seen_at=T0,
    )
    return Instance(id=name, cluster="c", offer=offer, reason=DEMAND, requested_at=requested_at)


def a_run(task: str = "t1", instance: str = "i1", **facts: Any) -> Run:
    return Run(task=task, instance=instance, claimed_at=T0, queue="train", worker="w", gpus=("GPU-0",), **facts)


def a_view(when: datetime = T0, *, queued: int = 1, alerts: tuple[Reason, ...] = ()) -> View:
    need = GpuNeed(at_least=1, at_most=1)
    queue = QueueView(name="train", queued=queued, oldest_enqueued_at=at(-30), need=need, resources=("gpu",))
    return View(
        at=when,
        pass_id="p1",
        server_url="http://127.0.0.1:8008",
        server_kind="embedded",
        is_server_ok=True,
        queues=(queue,),
        waiting=(Waiting(task="t9", queue="train", reason=DEMAND, instance="i1"),),
        alerts=alerts,
    )


def settings(**changes: Any) -> WebSettings:
    whole = {
        "cluster": "c",
        "budget": Budget(max_instances=4, usd_per_hour=20.0),
        "queues": (TRAIN,),
        "server_url": "http://127.0.0.1:8008",
    }
    return WebSettings(**(whole | changes))


def an_enrolment(instance: str = "i1", join_token: str = "join") -> dict[str, Any]:
    message = Enroll(
        instance=instance,
        join_token=join_token,
        hostname="host",
        cpus=8,
        memory_gib=32.0,
        gpus=GPUS,
        fleet_version="0.1.0",
    )
    data: dict[str, Any] = to_data(message)
    return data


def a_heartbeat(instance: str = "i1", **facts: Any) -> dict[str, Any]:
    quiet = {
        "is_pulling": True,
        "is_ending": False,
        "reason": None,
        "idle_since": None,
        "allocations": (),
        "runs": (),
        "gpus": GPUS,
    }
    data: dict[str, Any] = to_data(Heartbeat(instance=instance, at=T0, **(quiet | facts)))
    return data


@dataclass
class Web:
    """A running web server; times stand still at `now` until a test moves them."""

    settings: WebSettings = field(default_factory=settings)
    store: Store = field(default_factory=MemoryStore)
    hints: Hints = field(default_factory=Hints)
    now: datetime = T0
    token: str = ""
    url: str = ""

    def get(self, path: str, **arguments: Any) -> requests.Response:
        return requests.get(self.url + path, headers=self._headers(), timeout=20 * PATIENCE, **arguments)

    def post(self, path: str, data: object = None, **arguments: Any) -> requests.Response:
        return requests.post(self.url + path, json=data, headers=self._headers(), timeout=20 * PATIENCE, **arguments)

    def _headers(self) -> dict[str, str]:
        return {"Authorization": f"Bearer {self.token}"} if self.token else {}


@contextlib.contextmanager
def serving(web: Web) -> Iterator[Web]:
    """Run `web` on a free loopback port."""
    app = create_web(web.store, web.settings, web.hints, lambda _: POLICY, clock=lambda: web.now)
    server = uvicorn.Server(uvicorn.Config(app, log_level="warning", lifespan="off"))
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        web.url = f"http://127.0.0.1:{listener.getsockname()[1]}"
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]}, daemon=True)
        thread.start()
        wait_for(lambda: server.started, what="the server starts")
        try:
            yield web
        finally:
            web.hints.close()
            server.should_exit = True
            thread.join(10 * PATIENCE)
