"""Small fleets to keep in a store."""

from datetime import UTC, datetime, timedelta

from fleet.model import Allocation, Event, Gpu, GpuNeed, Instance, Market, Offer, QueueView, Reason, Run, View, Waiting
from fleet.store.base import Store

T0 = datetime(2026, 3, 1, 12, 0, 0, 123457, tzinfo=UTC)
DEMAND = Reason(code="demand", text="train: 1 task waits", queue="train", task="t1")
IDLE = Reason(code="idle", text="idle for 10 min")
LATE = Reason(code="boot_timeout", text="not enrolled after 15 min")
GPU0 = Gpu(index=0, uuid="GPU-0", model="NVIDIA A10G", memory_gib=24.0, util=41.5)
ALLOCATION = Allocation(task="t1", queue="train", worker="c:gpu:i1:gpu0", gpus=("GPU-0",), started_at=T0)


def at(seconds: float) -> datetime:
    return T0 + timedelta(seconds=seconds)


def an_instance(
    name: str = "i1", *, requested_at: datetime = T0, usd: float | None = 3.6, cluster: str = "c"
) -> Instance:
    offer = Offer(
        resource="gpu",
        provider="fake",
        type="g5.xlarge",
        market=Market.SPOT,
        price_usd_per_hour=usd,
        gpus=1,
        gpu_model="A10G",
        zone="z1",
        seen_at=T0,
    )
    return Instance(id=name, cluster=cluster, offer=offer, reason=DEMAND, requested_at=requested_at)


def a_run(task: str = "t1", instance: str = "i1", *, claimed_at: datetime = T0, **facts: object) -> Run:
    whole: dict[str, object] = {"queue": "train", "worker": "w", "gpus": ("GPU-0",), **facts}
    return Run(task=task, instance=instance, claimed_at=claimed_at, **whole)  # type: ignore[arg-type]


def an_event(kind: str = "instance.launching", *, when: datetime = T0, **facts: str) -> Event:
    return Event(at=when, kind=kind, text=kind, reason=DEMAND, **facts)  # type: ignore[arg-type]


def a_view(when: datetime = T0) -> View:
    need = GpuNeed(at_least=1, at_most=4)
    queue = QueueView(name="train", queued=2, oldest_enqueued_at=T0, need=need, resources=("gpu",))
    return View(
        at=when,
        pass_id="p1",
        server_url="http://127.0.0.1:1",
        server_kind="embedded",
        is_server_ok=True,
        queues=(queue,),
        waiting=(Waiting(task="t1", queue="train", reason=DEMAND, instance="i1"),),
        alerts=(LATE,),
    )


def beat(store: Store, instance: str = "i1", *, when: datetime = T0, **facts: object) -> Instance:
    """A heartbeat that says nothing but what `facts` say."""
    quiet: dict[str, object] = {
        "is_pulling": True,
        "is_ending": False,
        "reason": None,
        "idle_since": None,
        "allocations": (),
        "runs": (),
        "gpus": (),
    }
    return store.beat(instance, at=when, **(quiet | facts))  # type: ignore[arg-type]


def with_instance(store: Store, name: str = "i1") -> Store:
    store.record_intents([an_instance(name)])
    return store


def with_enrolled(store: Store, name: str = "i1") -> Store:
    with_instance(store, name)
    store.expect(name, f"join-{name}", at(900))
    assert store.enroll(name, f"join-{name}", f"token-{name}", "host", [GPU0], at(60))
    return store


def holder(store: Store, token_hash: str) -> Instance | None:
    """Whose token this is."""
    bearer = store.who(token_hash)
    return bearer.instance if bearer else None
