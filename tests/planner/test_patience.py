"""A launch that is put off, because one of the machines that run is likely to become free before a new one has booted."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

from fleet.model import Band, Habits, Launch, Snapshot
from fleet.planner.plan import plan
from tests.builders import T0, a_queue, a_resource, a_snapshot, a_task, an_instance, an_offer
from tests.planner.worlds import applied

HABITS = Habits(
    bands={("gpu", an_offer().type): (Band(level=1, idle_s=60.0, patience_s=90.0),)}, mean_s={"": 120.0}, boot_s=180.0
)


def a_world(*ages_s: float, free: int = 0) -> Snapshot:
    """A task in a queue of its own for each of these ages; one machine of one GPU is busy, and `free` are idle."""
    offer = an_offer(gpus=1, usd=1.0)
    ours = [an_instance("i1", gpus=1, held=1), *(an_instance(f"f{n}", gpus=1) for n in range(free))]
    kind = "gpu", offer.type
    return a_snapshot(
        tasks=tuple(
            a_task(f"t{n}", queue=f"q{n}", enqueued_at=T0 - timedelta(seconds=age)) for n, age in enumerate(ages_s)
        ),
        queues=tuple(a_queue(f"q{n}") for n in range(len(ages_s))),
        resources=(a_resource(is_idle_auto=True),),
        offers=(offer,),
        instances=tuple(replace(i, offer=offer) for i in ours),
        habits=replace(HABITS, bands={kind: HABITS.bands["gpu", an_offer().type]}),
    )


def fates(world: Snapshot) -> dict[str, str]:
    return {w.task: w.instance or w.reason.code for w in plan(world).waiting}


def test_a_launch_is_put_off_and_the_plan_is_looked_at_again_when_patience_ends() -> None:
    made = plan(a_world(30))
    assert made.actions == ()
    assert [w.reason.code for w in made.waiting] == ["soon_free"]
    assert made.wake_at == T0 + timedelta(seconds=60)


def test_who_has_patience_takes_what_is_free() -> None:
    assert fates(a_world(30, free=1)) == {"t0": "f0"}


def test_what_was_launched_for_who_waited_longer_is_not_counted_for_who_can_wait() -> None:
    """Else a second machine would be launched for the first, at the next pass."""
    world = a_world(30, 100)
    made = plan(world)
    assert fates(world) == {"t0": "soon_free", "t1": "p1-0"}
    after = applied(world, made)
    assert [a for a in plan(after).actions if isinstance(a, Launch)] == []
    assert fates(after) == {"t0": "soon_free", "t1": "p1-0"}
