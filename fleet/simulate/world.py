"""A random world from a seed, and what may never happen in one: small fleets, odd limits, and a bad day for all of them.

The tests run thousands of these; `fleet simulate --world SEED` tells one of them event by event.
"""

from __future__ import annotations

import math
from datetime import timedelta
from random import Random

from fleet.dispatcher.parts import Policy
from fleet.model import Budget, GpuNeed, Market, MarketPolicy, Offer, Queue, Resource
from fleet.simulate.agenda import EPOCH
from fleet.simulate.catalog import MARKETS
from fleet.simulate.faults import Faults
from fleet.simulate.setting import Setting
from fleet.simulate.trace import Submission

SIZES = (1, 1, 2, 4, 8)
MODELS = ("Fake T4", "Fake A100")
USD_PER_GPU_HOUR = {"Fake T4": 0.6, "Fake A100": 3.2}
MEMORY_GIB = {"Fake T4": 16.0, "Fake A100": 40.0}
FEWEST_TASKS, MOST_TASKS = 20, 60
LONGEST_S = 2400.0


def make_world(seed: int) -> Setting:
    """All of it is drawn from the seed: the fleet file, what is submitted, and what goes wrong."""
    rng = Random(f"world {seed}")
    resources = [_resource(f"r{n}", rng) for n in range(rng.randint(1, 3))]
    offers = {resource.name: _offers(resource, rng) for resource in resources}
    queues = [_queue(f"q{n}", resources, rng) for n in range(rng.randint(1, 3))]
    policy = Policy(
        cluster="world",
        resources=tuple(resources),
        queues=tuple(queues),
        budget=_budget(offers, rng),
        centre_url="http://centre",
        server_url="simulated",
        server_kind="embedded",
        poll_interval=timedelta(seconds=rng.choice([2, 2, 5])),
    )
    return Setting(
        policy=policy,
        offers=offers,
        workload=_workload(queues, offers, rng),
        boot_time=timedelta(seconds=rng.choice([0, 20, 90, 180, 400])),
        faults=_faults(seed, rng),
    )


def described(setting: Setting) -> str:
    """The world in a few lines, as a fleet file would say it."""
    policy, budget = setting.policy, setting.policy.budget
    lines = [f"budget: max_instances {budget.max_instances}, usd_per_hour {budget.usd_per_hour}"]
    for resource in policy.resources:
        shapes = ", ".join(
            f"{o.gpus} GPU {o.market} {o.zone} ${o.price_usd_per_hour:g}" for o in setting.offers[resource.name]
        )
        lines.append(
            f"resource {resource.name}: max {resource.max_instances}, min {resource.min_instances}, idle {resource.idle_timeout}, "
            f"boot {resource.boot_timeout}, lifetime {resource.max_lifetime}; {shapes}"
        )
    for queue in policy.queues:
        lines.append(
            f"queue {queue.name}: {', '.join(queue.resources)}; priority {queue.priority}, gpus {queue.need}, "
            f"slots {queue.slots}, max {queue.max_instances}"
        )
    lines.append(f"{len(setting.workload)} tasks, boots in {setting.boot_time}; {setting.faults}")
    return "\n".join(lines)


def _resource(name: str, rng: Random) -> Resource:
    return Resource(
        name=name,
        provider=rng.choice(["fake", "other"]),
        zones=("a", "b")[: rng.randint(1, 2)],
        market=rng.choice(list(MarketPolicy)),
        max_instances=rng.choice([None, None, 1, 2, 5]),
        min_instances=rng.choice([0, 0, 0, 0, 1]),
        idle_timeout=rng.choice([timedelta(0), timedelta(seconds=30), timedelta(minutes=3), timedelta(minutes=10)]),
        boot_timeout=timedelta(minutes=rng.choice([8, 15])),
        max_lifetime=rng.choice([None, None, None, timedelta(hours=1)]),
    )


def _offers(resource: Resource, rng: Random) -> tuple[Offer, ...]:
    sizes = [rng.choice(SIZES) if rng.random() > 0.1 else 0 for _ in range(rng.randint(1, 2))]
    model = rng.choice(MODELS)
    on_demand = [round(max(size, 0.3) * USD_PER_GPU_HOUR[model] * rng.uniform(0.8, 1.3), 2) for size in sizes]
    spot = [round(usd * rng.uniform(0.25, 0.9), 3) for usd in on_demand]
    return tuple(
        Offer(
            resource=resource.name,
            provider=resource.provider,
            type=f"{resource.name}-{size}gpu",
            market=market,
            price_usd_per_hour=usd,
            gpus=size,
            gpu_model=model if size else None,
            gpu_memory_gib=MEMORY_GIB[model] if size else None,
            cpus=4,
            zone=zone,
            seen_at=EPOCH,
        )
        for market in MARKETS[resource.market]
        for size, usd in zip(sizes, spot if market is Market.SPOT else on_demand, strict=True)
        for zone in resource.zones
    )


def _queue(name: str, resources: list[Resource], rng: Random) -> Queue:
    names = [resource.name for resource in resources]
    gpus = rng.choice([0, 1, 1, 1, 2])
    return Queue(
        name=name,
        resources=tuple(rng.sample(names, rng.randint(1, len(names)))),
        need=GpuNeed(at_least=gpus, at_most=gpus),
        priority=rng.choice([0, 0, 5, 10]),
        slots=rng.choice([None, None, 2]),
        max_instances=rng.choice([None, None, None, 2]),
    )


def _budget(offers: dict[str, tuple[Offer, ...]], rng: Random) -> Budget:
    dearest = max(offer.price_usd_per_hour or 0.0 for several in offers.values() for offer in several)
    return Budget(
        max_instances=rng.choice([None, None, 1, 3, 6]),
        usd_per_hour=rng.choice([None, None, round(dearest * 1.5, 2), round(dearest * 4, 2)]),
    )


def _workload(queues: list[Queue], offers: dict[str, tuple[Offer, ...]], rng: Random) -> tuple[Submission, ...]:
    """Most of it comes at once or in a few bursts: that is when limits count. Most of it fits somewhere."""
    bursts = [rng.uniform(0, 2.5 * 3600) for _ in range(rng.randint(1, 4))]
    made = []
    for _ in range(rng.randint(FEWEST_TASKS, MOST_TASKS)):
        queue = rng.choice(queues)
        largest = max(offer.gpus for name in queue.resources for offer in offers[name])
        gpus = _gpus(queue, largest, rng)
        duration_s = min(rng.choice([30.0, 300.0, 900.0]) * math.exp(rng.gauss(0, 0.8)), LONGEST_S)
        made.append(
            Submission(
                submit_s=round(rng.choice(bursts) + rng.expovariate(1 / 60), 1),
                gpus=gpus,
                duration_s=round(duration_s, 1),
                queue=queue.name,
                gpu_type="a100" if gpus and rng.random() < 0.1 else None,
                user=f"user{rng.randrange(4)}",
            )
        )
    return tuple(sorted(made, key=lambda job: job.submit_s))


def _gpus(queue: Queue, largest: int, rng: Random) -> float:
    if rng.random() < 0.1:
        return rng.choice([0, 0.25, 0.5, 1, 8, 16])
    if not queue.need.at_most or not largest:
        return 0
    return min(rng.choice([1, 1, 1, 2, 4, 8]), largest)


def _faults(seed: int, rng: Random) -> Faults:
    """One world in five is a quiet one."""
    if rng.random() < 0.2:
        return Faults(seed=seed)

    def sometimes(mean_minutes: float) -> timedelta | None:
        return timedelta(minutes=mean_minutes * rng.uniform(0.5, 3)) if rng.random() < 0.5 else None

    return Faults(
        seed=seed,
        spot_life=sometimes(60),
        notice=timedelta(seconds=rng.choice([30, 120])),
        sold_out={Market.SPOT: rng.choice([0.0, 0.3, 0.8]), Market.ON_DEMAND: rng.choice([0.0, 0.1, 0.3])},
        dead_boots=rng.choice([0.0, 0.0, 0.1, 0.3]),
        cut_off_every=sometimes(60),
        cut_off_for=timedelta(seconds=rng.choice([20, 60, 600])),
        supervisor_life=sometimes(120),
        lost_calls=rng.choice([0.0, 0.05, 0.3]),
        killed_calls=rng.choice([0.0, 0.05, 0.2]),
        dispatcher_life=sometimes(30),
        list_lag=timedelta(seconds=rng.choice([0, 5, 30])),
    )
