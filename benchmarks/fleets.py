"""Fleets of any size, as a snapshot shows them: the same numbers give the same fleet."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from random import Random

from fleet.model import Allocation, Gpu, GpuNeed, Instance, Market, Offer, Queue, Reason, Resource, Snapshot, Task

T0 = datetime(2026, 11, 22, 9, 0, tzinfo=UTC)
MODELS = {"Fake T4": 16.0, "Fake A10": 24.0, "Fake A100": 80.0, "Fake H100": 80.0}
GPUS_PER_TYPE = (1, 1, 2, 4, 8)
RESOURCES, QUEUES = 10, 12
NEEDS = (1, 1, 1, 1, 2, 2, 4, 8)
SHARE_BUSY, SHARE_BOOTING = 0.8, 0.05
HEARTBEAT_AGE = timedelta(seconds=3)


def a_fleet(types: int, tasks: int, instances: int, seed: int = 1) -> Snapshot:
    """`types` offers over ten resources, `tasks` that wait in twelve queues, `instances` of which most are busy."""
    random = Random(seed)
    resources = tuple(Resource(name=f"resource{n}", provider="fake") for n in range(RESOURCES))
    offers = tuple(_offer(random, resources[n % RESOURCES].name, n) for n in range(types))
    queues = tuple(
        Queue(
            name=f"queue{n}",
            resources=tuple(r.name for r in random.sample(resources, 3)),
            need=GpuNeed(at_least=1, at_most=1),
            priority=random.randrange(3),
        )
        for n in range(QUEUES)
    )
    return Snapshot(
        pass_id="p1",
        at=T0,
        cluster="bench",
        tasks=tuple(_task(random, queues, n) for n in range(tasks)),
        queues=queues,
        resources=resources,
        offers=offers,
        instances=tuple(_instance(random, random.choice(offers), n) for n in range(instances)),
        listening_since=T0 - timedelta(hours=1),
    )


def an_idle_instance(offer: Offer, number: int) -> Instance:
    """Enrolled, without a task."""
    return replace(_enrolled(_launched(offer, number)), idle_since=T0 - HEARTBEAT_AGE)


def _offer(random: Random, resource: str, number: int) -> Offer:
    model = random.choice(sorted(MODELS))
    gpus = GPUS_PER_TYPE[number % len(GPUS_PER_TYPE)]
    return Offer(
        resource=resource,
        provider="fake",
        type=f"type{number}",
        market=random.choice(list(Market)),
        price_usd_per_hour=round(gpus * random.uniform(0.5, 4.0), 2),
        gpus=gpus,
        gpu_model=model,
        gpu_memory_gib=MODELS[model],
        cpus=8 * gpus,
        seen_at=T0,
    )


def _task(random: Random, queues: tuple[Queue, ...], number: int) -> Task:
    """One in ten has a wish of its own."""
    gpus = random.choice(NEEDS)
    return Task(
        id=f"{number:032x}",
        queue=random.choice(queues).name,
        position=number,
        enqueued_at=T0 - timedelta(seconds=random.uniform(0, 3600)),
        need=GpuNeed(at_least=gpus, at_most=gpus),
        gpu_type=random.choice(["t4", "a100"]) if random.random() < 0.1 else None,
    )


def _instance(random: Random, offer: Offer, number: int) -> Instance:
    instance = _launched(offer, number)
    if random.random() < SHARE_BOOTING:
        return replace(instance, requested_at=T0 - timedelta(minutes=1), launched_at=T0 - timedelta(minutes=1))
    instance = _enrolled(instance)
    held = random.randint(1, offer.gpus) if random.random() < SHARE_BUSY else 0
    allocations = tuple(
        Allocation(task=f"{number}-{n}", queue="queue0", worker=f"w{n}", gpus=(gpu.uuid,), started_at=T0)
        for n, gpu in enumerate(instance.gpus[:held])
    )
    return replace(instance, allocations=allocations)


def _launched(offer: Offer, number: int) -> Instance:
    return Instance(
        id=f"i{number:05}",
        cluster="bench",
        offer=offer,
        reason=Reason(code="demand", text="a task waited"),
        requested_at=T0 - timedelta(hours=1),
        cloud_id=f"fake-i{number:05}",
        launched_at=T0 - timedelta(hours=1),
    )


def _enrolled(instance: Instance) -> Instance:
    offer = instance.offer
    return replace(
        instance,
        enrolled_at=T0 - timedelta(minutes=55),
        heartbeat_at=T0 - HEARTBEAT_AGE,
        gpus=tuple(
            Gpu(index=n, uuid=f"{instance.id}-{n}", model=offer.gpu_model or "", memory_gib=offer.gpu_memory_gib or 0.0)
            for n in range(offer.gpus)
        ),
    )
