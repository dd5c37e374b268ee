"""The cheapest way to place everything that waits, exactly: an integer program, for worlds small enough to solve it.

Two parts of it: how many machines are cut up in which way (a cut is a number of places of each size), and which tasks
take which places. Places of one size on GPUs of one kind are alike, so the second is only a count.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import timedelta
from functools import cache
from random import Random
from typing import Any, NamedTuple

import highspy

from benchmarks.fleets import MODELS, T0, an_idle_instance
from fleet.model import NOMINAL_MEMORY, Allocation, GpuNeed, Instance, Market, Offer, Queue, Resource, Snapshot, Task

TASKS, TYPES, MACHINES = 40, 12, 6  # at most
SIZES: Mapping[float, float] = {1: 60, 2: 15, 4: 15, 8: 10}
PARTS: Mapping[float, float] = {0.25: 1, 0.5: 2}
WIDTHS = (1, 2, 4, 8)
NOTHING_USD = 1e-9


class Kind(NamedTuple):
    """What tasks look at in a GPU."""

    model: str
    memory_gib: float


class Wish(NamedTuple):
    """What tasks of one class ask."""

    gpus: float
    gpu_type: str | None
    memory_gib: float | None

    def is_met_by(self, kind: Kind) -> bool:
        is_type = self.gpu_type is None or self.gpu_type in kind.model.lower()
        return is_type and (self.memory_gib or 0.0) * NOMINAL_MEMORY <= kind.memory_gib


@dataclass(frozen=True, slots=True, kw_only=True)
class Machines:
    """Machines that are alike: to be launched, or there with so much free."""

    kind: Kind
    gpus: int
    usd_per_hour: float
    most: float


def a_world(seed: int, *, with_machines: bool = True, with_parts: bool = False) -> Snapshot:
    """A small world: types whose price per GPU falls, stays or rises with their width, tasks with and without wishes,
    and some machines, most of them with room, unless the fleet is to be empty."""
    random = Random(seed)
    offers = _offers(random)
    sizes = {**SIZES, **(PARTS if with_parts else {})}
    models = sorted({offer.gpu_model or "" for offer in offers})
    is_wishful = random.random() < 0.5
    tasks = []
    for number in range(random.randint(1, TASKS)):
        gpus = random.choices(list(sizes), [w * (30 if s < 1 else 1) for s, w in sizes.items()])[0]
        wish = random.choice(models).split()[-1].lower() if is_wishful and random.random() < 0.3 else None
        need = GpuNeed(at_least=gpus, at_most=gpus)
        task = Task(id=f"t{number:03}", queue="train", position=number, enqueued_at=T0, need=need, gpu_type=wish)
        tasks.append(task)
    count = random.randint(1, MACHINES) if with_machines else 0
    return Snapshot(
        pass_id="p1",
        at=T0,
        cluster="bench",
        tasks=tuple(tasks),
        queues=(Queue(name="train", resources=("gpu",), need=GpuNeed(at_least=1, at_most=1)),),
        resources=(Resource(name="gpu", provider="fake"),),
        offers=offers,
        instances=tuple(_with_room(random, random.choice(offers), number) for number in range(count)),
        listening_since=T0 - timedelta(hours=1),
    )


def least_usd_per_hour(snapshot: Snapshot) -> float:
    """Dollars an hour of what has to be launched at least, so that every task which any machine can hold has its place."""
    machines = [*_on_offer(snapshot.offers), *_there(snapshot.instances)]
    wishes = Counter(Wish(t.need.at_least, t.gpu_type, t.gpu_memory_gib) for t in snapshot.tasks)
    widest: dict[Kind, int] = defaultdict(int)
    for each in machines:
        widest[each.kind] = max(widest[each.kind], each.gpus)
    for wish in list(wishes):
        if not any(wish.gpus <= gpus and wish.is_met_by(kind) for kind, gpus in widest.items()):
            del wishes[wish]
    return _solved(machines, wishes, tuple(widest)) if wishes else 0.0


def _solved(machines: Sequence[Machines], wishes: Mapping[Wish, int], kinds: Sequence[Kind]) -> float:
    highs = highspy.Highs()  # type: ignore[no-untyped-call]
    highs.silent()
    highs.setOptionValue("mip_rel_gap", 0.0)
    sizes = tuple(sorted({wish.gpus for wish in wishes}, reverse=True))
    places: dict[tuple[Kind, float], list[Any]] = defaultdict(list)
    for each in machines:
        cuts = []
        for cut in _cuts(each.gpus, sizes):
            # With the most of each that can be of use the program is bounded, and solved sooner.
            count = highs.addIntegral(lb=0, ub=min(each.most, sum(wishes.values())), obj=each.usd_per_hour)
            cuts.append(count)
            for size, number in zip(sizes, cut, strict=True):
                if number:
                    places[each.kind, size].append(number * count)
        if cuts and each.most < highspy.kHighsInf:
            highs.addConstr(highs.qsum(cuts) <= each.most)
    taken: dict[tuple[Kind, float], list[Any]] = defaultdict(list)
    for wish, number in wishes.items():
        shares = []
        for kind in kinds:
            if wish.is_met_by(kind) and (kind, wish.gpus) in places:
                shares.append(highs.addIntegral(lb=0, ub=number))
                taken[kind, wish.gpus].append(shares[-1])
        highs.addConstr(highs.qsum(shares) == number)
    for place, several in taken.items():
        highs.addConstr(highs.qsum(several) <= highs.qsum(places[place]))
    highs.minimize()
    if highs.getModelStatus() != highspy.HighsModelStatus.kOptimal:
        raise RuntimeError(f"the solver came to no end: {highs.modelStatusToString(highs.getModelStatus())}")
    return float(highs.getInfo().objective_function_value)


@cache
def _cuts(gpus: float, sizes: tuple[float, ...]) -> tuple[tuple[int, ...], ...]:
    """Every way to fill a machine with places of these sizes, the largest first, so that no more fits.

    Sizes below 1 divide a GPU evenly, as powers of two do: then no place straddles two GPUs.
    """
    return tuple(_filled(gpus, sizes))


def _filled(gpus: float, sizes: tuple[float, ...]) -> Iterator[tuple[int, ...]]:
    if len(sizes) == 1:
        yield (int(gpus // sizes[0]),)
        return
    for number in range(int(gpus // sizes[0]) + 1):
        for rest in _filled(gpus - number * sizes[0], sizes[1:]):
            yield (number, *rest)


def _on_offer(offers: Iterable[Offer]) -> Iterator[Machines]:
    for offer in offers:
        if offer.price_usd_per_hour is not None:
            kind = Kind(offer.gpu_model or "", offer.gpu_memory_gib or 0.0)
            usd = offer.price_usd_per_hour
            yield Machines(kind=kind, gpus=offer.gpus, usd_per_hour=usd, most=highspy.kHighsInf)


def _there(instances: Iterable[Instance]) -> Iterator[Machines]:
    """What is free on them costs nothing more."""
    alike = Counter(
        (Kind(i.offer.gpu_model or "", i.offer.gpu_memory_gib or 0.0), i.offer.gpus - len(i.allocations))
        for i in instances
        if len(i.allocations) < i.offer.gpus
    )
    for (kind, gpus), number in alike.items():
        yield Machines(kind=kind, gpus=gpus, usd_per_hour=0.0, most=number)


def _offers(random: Random) -> tuple[Offer, ...]:
    """At least one of 8 GPUs, so that most worlds can hold what they want."""
    made = {}
    rates = {model: random.uniform(0.4, 4.0) for model in MODELS}
    # What a GPU costs in a machine twice as wide: less, as much, or more.
    growth = random.choice((0.85, 1.0, 1.0, 1.2))
    for number in range(random.randint(1, TYPES)):
        model, width = random.choice(sorted(MODELS)), WIDTHS[-1] if number == 0 else random.choice(WIDTHS)
        usd = rates[model] * width * growth ** WIDTHS.index(width) * random.uniform(0.95, 1.05)
        made[model, width] = Offer(
            resource="gpu",
            provider="fake",
            type=f"type{number}",
            market=Market.ON_DEMAND,
            price_usd_per_hour=round(usd, 3),
            gpus=width,
            gpu_model=model,
            gpu_memory_gib=MODELS[model],
            cpus=8 * width,
            seen_at=T0,
        )
    return tuple(made.values())


def _with_room(random: Random, offer: Offer, number: int) -> Instance:
    instance = an_idle_instance(offer, number)
    held = random.randrange(offer.gpus + 1)
    allocations = tuple(
        Allocation(task=f"{number}-{n}", queue="train", worker=f"w{n}", gpus=(gpu.uuid,), started_at=T0)
        for n, gpu in enumerate(instance.gpus[:held])
    )
    return replace(instance, allocations=allocations, idle_since=None if allocations else instance.idle_since)
