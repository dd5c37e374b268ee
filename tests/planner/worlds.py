"""Random worlds for properties of plans: `snapshots()`, and `applied(snapshot, plan)`, the world that a plan leaves.

What is drawn is possible, if not likely: offers belong to resources that exist, allocations fit on their machines, queues
name resources that exist. What is there may exceed limits: somebody may have lowered them.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from datetime import timedelta

from hypothesis import strategies as st

from fleet.model import (
    Allocation,
    Backoff,
    Band,
    Budget,
    CancelDrain,
    Drain,
    Fairness,
    GpuNeed,
    Habits,
    Instance,
    InstanceState,
    Launch,
    Market,
    Offer,
    Plan,
    Preference,
    Queue,
    Reason,
    Resource,
    Snapshot,
    Task,
    Terminate,
    Window,
)
from fleet.supervisor.allocation import Free, choose
from tests.builders import T0, an_instance, an_offer, some_gpus

MODELS = ("NVIDIA T4", "NVIDIA A100", "NVIDIA H100")
TYPES = (None, None, None, "a100", "h100|a100", "b200")
GOOD_PRICES = (0.5, 1.0, 2.0, 3.7, 12.0)
ODD_PRICES = (None, 0.0, -1.0, math.nan, math.inf, -math.inf)
NEEDS = (1.0, 1.0, 1.0, 2.0, 4.0, 8.0, 0.0, 0.5, 0.25)
USERS = ("ann", "bob")
# Of a queue whose tasks last very differently: the longest of several is much longer than one.
STRETCH = (1.0, 1.6, 2.1, 2.5, 2.8, 3.0)
PAUSE = Reason(code="backoff", text="sold out lately")
SURPLUS = Reason(code="surplus", text="a window closed")


@st.composite
def snapshots(draw: st.DrawFn, *, odd_prices: bool = True, has_features: bool = True) -> Snapshot:
    """A world to plan for. Not `has_features`: without minimums, headroom and windows."""
    resources = draw(_resources(has_features))
    names = [r.name for r in resources]
    queues = draw(_queues(names, has_features))
    prices = GOOD_PRICES + ODD_PRICES if odd_prices else GOOD_PRICES
    offers = tuple(offer for name in names for offer in draw(st.lists(_offers(name, prices), max_size=4)))
    instances = draw(_instances(offers, queues)) if offers else ()
    return Snapshot(
        pass_id="p1",
        at=T0,
        cluster="test",
        tasks=draw(_tasks(queues)),
        queues=queues,
        resources=resources,
        offers=offers,
        instances=instances,
        budget=draw(_budgets(has_features, [q.name for q in queues])),
        backoffs=draw(_backoffs(names)),
        habits=draw(_habits(offers)) if has_features else Habits(),
        fairness=draw(st.sampled_from(tuple(Fairness))) if has_features else Fairness.PRIORITY,
    )


def applied(snapshot: Snapshot, plan: Plan) -> Snapshot:
    """The world right after the plan was carried out: nothing has come of it yet, and nothing else has happened."""
    launched = [_launched(action, snapshot) for action in plan.actions if isinstance(action, Launch)]
    orders = {a.instance: a for a in plan.actions if not isinstance(a, Launch)}
    told = dict(plan.standings)
    there = [
        replace(_ordered(i, orders.get(i.id), snapshot), standing=told.get(i.id, i.standing))
        for i in snapshot.instances
    ]
    return replace(
        snapshot, pass_id=f"{snapshot.pass_id}+", instances=(*there, *launched), holds=plan.turns.holds
    )  # fmt: skip


def started(snapshot: Snapshot, plan: Plan) -> Snapshot:
    """As `applied`, and every task that was told to wait for a machine that runs has started there."""
    world = applied(snapshot, plan)
    gangs = {t.id for t in snapshot.tasks if t.instances > 1}  # those wait for each other
    goes = {w.task: w.instance for w in plan.waiting if w.instance and w.task not in gangs}
    running = {i.id: i for i in world.instances if i.enrolled_at and i.is_taking_tasks}
    left = []
    for task in world.tasks:
        if (name := goes.get(task.id)) in running and name is not None:
            running[name] = _with_task(running[name], task)
        else:
            left.append(task)
    instances = tuple(running.get(i.id, i) for i in world.instances)
    return replace(world, tasks=tuple(left), instances=instances)


def has_room(instance: Instance, tasks: Sequence[Task]) -> bool:
    """Whether all these, one after the other, find room on it; one that boots is what it was launched as."""
    gpus = instance.gpus if instance.enrolled_at else some_gpus(instance.offer.gpus)
    free = Free.of(gpus, [(a.gpus, a.share) for a in instance.allocations])
    for task in tasks:
        chosen = choose(_plain(task), free, cpu_slots=1)
        if chosen is None:
            return False
        free.take(task.need, chosen)
    return True


def _plain(task: Task) -> Task:
    return replace(task, gpu_type=None, gpu_memory_gib=None)


def _launched(launch: Launch, snapshot: Snapshot) -> Instance:
    return Instance(
        id=launch.instance,
        cluster=snapshot.cluster,
        offer=launch.offer,
        reason=launch.reason,
        requested_at=snapshot.at,
        standing=launch.standing,
    )


def _ordered(instance: Instance, order: Drain | CancelDrain | Terminate | None, snapshot: Snapshot) -> Instance:
    match order:
        case Drain():
            why = instance.end_reason or order.reason
            return replace(instance, drain_requested_at=snapshot.at, end_reason=why)
        case CancelDrain():
            return replace(instance, drain_requested_at=None, stopped_pulling_at=None, end_reason=None)
        case Terminate():
            why = instance.end_reason or order.reason
            return replace(instance, terminate_requested_at=snapshot.at, end_reason=why)
    return instance


def _with_task(instance: Instance, task: Task) -> Instance:
    chosen = choose(
        _plain(task), Free.of(instance.gpus, [(a.gpus, a.share) for a in instance.allocations]), cpu_slots=1
    )
    assert chosen is not None, f"{task.id} was sent to {instance.id}, which has too little free"
    held = Allocation(
        task=task.id,
        queue=task.queue,
        worker=task.id,
        gpus=tuple(gpu.uuid for gpu in chosen),
        started_at=T0,
        share=task.need.share,
        user=task.user,
    )
    return replace(instance, allocations=(*instance.allocations, held), idle_since=None)


# --- what is drawn

few = st.integers(0, 2)
limits = st.one_of(st.none(), st.none(), st.integers(0, 5))


@st.composite
def _resources(draw: st.DrawFn, has_features: bool) -> tuple[Resource, ...]:
    found = []
    for n in range(draw(st.integers(1, 3))):
        most = draw(limits)
        least = draw(few) if has_features and draw(st.booleans()) else 0
        windows = draw(
            st.sampled_from([(), (), (Window(cron="0 8 * * *", lasts=timedelta(hours=1), max_instances=2),)])
        )
        found.append(
            Resource(
                name=f"r{n}",
                provider="fake",
                max_instances=most,
                min_instances=least if most is None else min(least, most),
                schedule=windows if has_features else (),
                is_idle_auto=has_features and draw(st.booleans()),
            )
        )
    return tuple(found)


@st.composite
def _queues(draw: st.DrawFn, resources: Sequence[str], has_features: bool) -> tuple[Queue, ...]:
    found = []
    for n in range(draw(st.integers(1, 3))):
        gpus = draw(st.sampled_from(NEEDS))
        found.append(
            Queue(
                name=f"queue{n}",
                resources=tuple(draw(st.lists(st.sampled_from(resources), min_size=1, unique=True))),
                need=GpuNeed(at_least=gpus, at_most=gpus),
                priority=draw(few),
                slots=draw(st.one_of(st.none(), st.integers(1, 3))),
                max_instances=draw(limits),
                headroom=draw(st.sampled_from((0, 0, 1, 3))) if has_features else 0,
                order=draw(st.sampled_from(tuple(Preference))),
                weight=draw(st.sampled_from((1.0, 1.0, 2.0))),
                is_shared_by_users=has_features and draw(st.booleans()),
            )
        )
    return tuple(found)


@st.composite
def _offers(draw: st.DrawFn, resource: str, prices: Sequence[float | None]) -> Offer:
    gpus = draw(st.sampled_from((0, 1, 2, 4, 8)))
    return an_offer(
        resource,
        gpus,
        draw(st.sampled_from(prices)),
        gpu_model=draw(st.sampled_from(MODELS)) if gpus else None,
        gpu_memory_gib=draw(st.sampled_from((14.8, 40.0, 80.0))) if gpus else None,
        cpus=draw(st.integers(1, 4)),
        zone=draw(st.sampled_from((None, "a", "b"))),
        market=draw(st.sampled_from(tuple(Market))),
    )


@st.composite
def _instances(draw: st.DrawFn, offers: Sequence[Offer], queues: Sequence[Queue]) -> tuple[Instance, ...]:
    found = []
    for n in range(draw(st.integers(0, 6))):
        offer = draw(st.sampled_from(offers))
        state = draw(st.sampled_from([s for s in InstanceState if s is not InstanceState.GONE]))
        found.append(_in_state(draw, f"i{n}", offer, state, queues))
    return tuple(found)


def _in_state(draw: st.DrawFn, id: str, offer: Offer, state: InstanceState, queues: Sequence[Queue]) -> Instance:
    age = timedelta(minutes=draw(st.integers(1, 10)))
    base = an_instance(id, offer=offer, ready=False, requested_at=T0 - age, launched_at=T0 - age)
    base = replace(base, reason=replace(base.reason, queue=draw(st.sampled_from(queues)).name))
    if state is InstanceState.REQUESTED:
        return replace(base, launched_at=None, cloud_id=None)
    if state is InstanceState.BOOTING:
        return base
    gpus = tuple(
        replace(gpu, uuid=f"{id}-{gpu.uuid}", model=offer.gpu_model or "", memory_gib=offer.gpu_memory_gib or 0.0)
        for gpu in some_gpus(offer.gpus)
    )
    base = replace(base, enrolled_at=T0 - age, heartbeat_at=T0, idle_since=T0 - age, gpus=gpus)
    if state is not InstanceState.READY and draw(st.booleans() if state is not InstanceState.BUSY else st.just(True)):
        for task in _running(draw, id, len(gpus), queues):
            base = _with_task(base, task)
    if state is InstanceState.DRAINING:
        base = replace(base, drain_requested_at=T0, end_reason=draw(st.sampled_from((SURPLUS, PAUSE))))
    if state is InstanceState.TERMINATING:
        base = replace(base, terminate_requested_at=T0, end_reason=PAUSE)
    return base


def _running(draw: st.DrawFn, id: str, gpus: int, queues: Sequence[Queue]) -> list[Task]:
    queue = draw(st.sampled_from(queues)).name
    if not gpus:
        return [_task(f"{id}-cpu", queue, 0, 0.0)]
    held = draw(st.integers(1, gpus))
    share = draw(st.sampled_from((1.0, 1.0, 0.5, 0.25)))
    return [_task(f"{id}-{n}", queue, 0, share) for n in range(held)]


@st.composite
def _tasks(draw: st.DrawFn, queues: Sequence[Queue]) -> tuple[Task, ...]:
    found = []
    for queue in queues:
        for position in range(draw(st.integers(0, 5))):
            gpus = draw(st.sampled_from((queue.need.at_least, *NEEDS)))
            task = _task(f"{queue.name}-t{position}", queue.name, position, gpus)
            wish = replace(
                task,
                gpu_type=draw(st.sampled_from(TYPES)),
                gpu_memory_gib=draw(st.sampled_from((None, None, None, 16.0, 40.0))),
                user=draw(st.sampled_from(USERS)),
                instances=draw(st.sampled_from((1,) * 12 + (2,))) if gpus >= 1 else 1,
            )
            found.append(wish)
    return tuple(found)


def _task(id: str, queue: str, position: int, gpus: float) -> Task:
    need = GpuNeed(at_least=gpus, at_most=gpus)
    return Task(id=id, queue=queue, position=position, enqueued_at=T0, need=need)


@st.composite
def _budgets(draw: st.DrawFn, has_features: bool, queues: Sequence[str]) -> Budget:
    of_one = Budget(usd_per_hour=draw(st.sampled_from((2.0, 12.0))))
    window = Window(cron="0 8 * * *", lasts=timedelta(hours=1), max_instances=2)
    return Budget(
        max_instances=draw(limits),
        usd_per_hour=draw(st.sampled_from((None, None, 3.0, 10.0, 30.0))),
        schedule=draw(st.sampled_from(((), (), (window,)))) if has_features else (),
        queues=draw(st.sampled_from(({}, {}, {queues[0]: of_one}))) if has_features else {},
        per_user=draw(st.sampled_from((None, None, of_one))) if has_features else None,
    )


@st.composite
def _habits(draw: st.DrawFn, offers: Sequence[Offer]) -> Habits:
    """Nothing was learned, or much: then some machines are too large for small tasks, and some launches are put off."""
    if not draw(st.booleans()):
        return Habits()
    kinds = sorted({(offer.resource, offer.type) for offer in offers})
    bands = (Band(level=1, idle_s=600.0, patience_s=0.0), Band(level=3, idle_s=60.0, patience_s=90.0))
    return Habits(
        bands={kind: bands for kind in kinds if draw(st.booleans())},
        stretch={"": STRETCH},
        mean_s={"": draw(st.sampled_from((120.0, 3600.0)))},
    )


@st.composite
def _backoffs(draw: st.DrawFn, resources: Sequence[str]) -> tuple[Backoff, ...]:
    return tuple(
        Backoff(
            resource=draw(st.sampled_from(resources)),
            market=draw(st.sampled_from((None, *Market))),
            until=T0 + timedelta(minutes=draw(st.integers(-5, 5))),
            reason=PAUSE,
        )
        for _ in range(draw(st.sampled_from((0, 0, 1, 2))))
    )
