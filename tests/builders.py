"""Nouns for tests, with sensible defaults: say only what matters to the test."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

from fleet.model import (
    Allocation,
    Gpu,
    GpuNeed,
    Instance,
    Market,
    Offer,
    Queue,
    Reason,
    Resource,
    Snapshot,
    Task,
)

T0 = datetime(2026, 11, 22, 9, 0, tzinfo=UTC)
BECAUSE = Reason(code="test", text="a test wants it")


def need(gpus: float, at_most: float | None = None) -> GpuNeed:
    return GpuNeed(at_least=gpus, at_most=gpus if at_most is None else at_most)


def a_task(id: str = "t1", gpus: float = 1, **changes: Any) -> Task:
    base = Task(id=id, queue="train", position=0, enqueued_at=T0, need=need(gpus))
    return replace(base, **changes)


def tasks(count: int, gpus: float = 1, **changes: Any) -> tuple[Task, ...]:
    return tuple(a_task(f"t{n:05}", gpus, position=n, **changes) for n in range(count))


def a_queue(name: str = "train", gpus: float = 1, resources: tuple[str, ...] = ("gpu",), **changes: Any) -> Queue:
    return replace(Queue(name=name, resources=resources, need=need(gpus)), **changes)


def a_resource(name: str = "gpu", **changes: Any) -> Resource:
    return replace(Resource(name=name, provider="fake"), **changes)


def an_offer(resource: str = "gpu", gpus: int = 4, usd: float | None = 2.0, **changes: Any) -> Offer:
    base = Offer(
        resource=resource,
        provider="fake",
        type=f"fake-{gpus}gpu",
        market=Market.ON_DEMAND,
        price_usd_per_hour=usd,
        gpus=gpus,
        gpu_model="Fake A100" if gpus else None,
        gpu_memory_gib=40.0 if gpus else None,
        cpus=8,
        seen_at=T0,
    )
    return replace(base, **changes)


def some_gpus(count: int) -> tuple[Gpu, ...]:
    return tuple(Gpu(index=n, uuid=f"GPU-{n}", model="Fake A100", memory_gib=40.0) for n in range(count))


def an_instance(id: str = "i1", gpus: int = 4, held: int = 0, ready: bool = True, **changes: Any) -> Instance:
    """A READY instance (or BUSY, when `held` GPUs are allocated), or one that boots."""
    base = Instance(
        id=id,
        cluster="test",
        offer=changes.pop("offer", None) or an_offer(gpus=gpus),
        reason=BECAUSE,
        requested_at=T0 - timedelta(minutes=5),
        cloud_id=f"c-{id}",
        launched_at=T0 - timedelta(minutes=5),
    )
    if ready:
        devices = some_gpus(gpus)
        taken = tuple(
            Allocation(task=f"{id}-held{n}", queue="train", worker=f"w{n}", gpus=(devices[n].uuid,), started_at=T0)
            for n in range(held)
        )
        base = replace(base, enrolled_at=T0 - timedelta(minutes=4), heartbeat_at=T0, gpus=devices, allocations=taken)
    return replace(base, **changes)


def a_snapshot(**changes: Any) -> Snapshot:
    base = Snapshot(
        pass_id="p1",
        at=T0,
        cluster="test",
        tasks=(),
        queues=(a_queue(),),
        resources=(a_resource(),),
        offers=(an_offer(),),
        instances=(),
    )
    return replace(base, **changes)
