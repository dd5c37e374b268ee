"""What the planner counts on is what supervisors do with what it tells them, for parts of GPUs as for whole ones."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from datetime import timedelta
from typing import Any

from hypothesis import example, given, settings
from hypothesis import strategies as st

from fleet.model import PARTS_OF_A_GPU, Allocation, Gpu, GpuNeed, Instance, Task, Turns, in_parts
from fleet.planner.fairness import turns_for
from fleet.planner.plan import plan
from fleet.supervisor.decide import decide
from fleet.supervisor.instructions import Claim
from fleet.supervisor.situation import Held, Policy, State
from tests.builders import BECAUSE, T0, a_queue, a_resource, a_snapshot, a_task, an_instance, need

PARTS = [0.1, 0.25, 0.3333, 0.5, 0.7]
HALF_AN_HOUR, NO_TIME = timedelta(minutes=30), timedelta(0)
NEEDS = st.sampled_from([*(need(size) for size in (*PARTS, 1, 2, 3)), need(1, 4), need(2, 3)])
ALIKE: dict[str, Any] = {"mig": 0, "aside": set(), "sick": set()}
QUEUE = a_queue()
POLICY = Policy(queues=(QUEUE,), idle_timeout=None, contact_timeout=T0 - T0.replace(year=2025), max_lifetime=None)


def mig_devices(count: int) -> tuple[Gpu, ...]:
    return tuple(
        Gpu(index=100 + n, uuid=f"MIG-{n}", model="Fake A100 MIG 1g.5gb", memory_gib=4.75, parent="GPU-x")
        for n in range(count)
    )


def several(*sizes: float) -> list[GpuNeed]:
    return [need(size) for size in sizes]


def claims(
    instance: Instance, waiting: tuple[Task, ...], held: list[Held], turns: Turns | None = None
) -> dict[str, tuple[str, ...]]:
    """What a supervisor of this machine, which was told these turns, would take now, and on which GPUs."""
    state = State(
        at=T0,
        enrolled_at=T0,
        gpus=tuple(gpu for gpu in instance.gpus if not gpu.sick),
        sick={gpu.uuid: gpu.sick for gpu in instance.gpus if gpu.sick},
        cpus=4,
        held=tuple(held),
        waiting=waiting,
        server_seen_at=T0,
        centre_seen_at=T0,
    )
    return {i.task.id: i.gpus for i in decide(state, replace(POLICY, turns=turns)) if isinstance(i, Claim)}


def running(instance: Instance, needs: list[GpuNeed], gone: list[bool]) -> list[Held]:
    """Tasks of these needs that the machine once took, but for those that have ended since."""
    tasks = tuple(a_task(f"h{n}", need=each, position=n) for n, each in enumerate(needs))
    got = claims(instance, tasks, [])
    left = [task for task, is_gone in zip(tasks, gone, strict=False) if not is_gone]
    return [Held(task=task, gpus=got[task.id]) for task in left if task.id in got]


def falling_sick(instance: Instance, sick: set[int]) -> Instance:
    """These GPUs go out of service; what runs there ends in a moment."""
    return replace(
        instance, gpus=tuple(replace(gpu, sick="Xid 79" if gpu.index in sick else None) for gpu in instance.gpus)
    )


def holding(instance: Instance, held: list[Held]) -> Instance:
    """As its heartbeat tells the centre."""
    allocations = [
        Allocation(task=h.task.id, queue="train", worker="w", gpus=h.gpus, started_at=T0, share=h.task.need.share)
        for h in held
    ]
    return replace(instance, allocations=tuple(allocations))


@settings(max_examples=150, deadline=None)
@example(
    gpus=2, **ALIKE, before=several(0.7, 0.6), gone=[False] * 2, wanted=several(0.7, 0.7, 0.1), starved=[False] * 3
)  # a GPU is kept for the first large one, and the second goes on waiting
@example(
    gpus=3, **ALIKE, before=several(0.7, 0.6, 0.9), gone=[False] * 3, wanted=several(2, 0.1, 0.1), starved=[False] * 3
)
@example(
    gpus=2, **ALIKE, before=several(0.5, 0.5, 1), gone=[False, True, False], wanted=several(1, 0.5), starved=[False] * 2
)
@given(
    gpus=st.integers(1, 4),
    mig=st.integers(0, 3),
    aside=st.sets(st.integers(0, 6), max_size=2),
    before=st.lists(NEEDS, max_size=10),
    gone=st.lists(st.booleans(), min_size=10, max_size=10),
    wanted=st.lists(NEEDS, max_size=10),
    starved=st.lists(st.booleans(), min_size=10, max_size=10),
    sick=st.sets(st.integers(0, 3), max_size=2),
)
def test_what_the_planner_sends_to_a_machine_is_what_its_supervisor_takes(
    gpus: int,
    before: list[GpuNeed],
    gone: list[bool],
    wanted: list[GpuNeed],
    starved: list[bool],
    mig: int,
    aside: set[int],
    sick: set[int],
) -> None:
    machine = an_instance(gpus=gpus)
    machine = replace(machine, gpus=(*machine.gpus, *mig_devices(mig)))
    held = running(machine, before, gone)
    machine = replace(
        machine, gpus=tuple(replace(g, set_aside=BECAUSE) if n in aside else g for n, g in enumerate(machine.gpus))
    )
    machine = falling_sick(machine, sick)
    waiting = tuple(
        a_task(f"w{n}", need=each, position=n, enqueued_at=T0 - (HALF_AN_HOUR if starved[n] else NO_TIME))
        for n, each in enumerate(wanted)
    )
    world = a_snapshot(
        tasks=waiting,
        resources=(a_resource(max_instances=1, replace_sick=None),),
        instances=(holding(machine, held),),
        queues=(QUEUE,),
        starvation_after=HALF_AN_HOUR,
    )
    made = plan(world)
    # Whoever has waited too long goes first from the next plan on: then others may be held for.
    for _ in wanted:
        made = plan(replace(world, holds=made.turns.holds))
    sent = {w.task for w in made.waiting if w.instance == machine.id}
    taken = claims(machine, waiting, held, turns_for(made.turns, world.instances[0]))
    assert sent == set(taken)
    by_gpu = uses(held, waiting, taken)
    assert all(sum(parts) <= PARTS_OF_A_GPU for parts in by_gpu.values())
    assert all(len(parts) == 1 for parts in by_gpu.values() if PARTS_OF_A_GPU in parts)


def uses(held: list[Held], waiting: tuple[Task, ...], taken: dict[str, tuple[str, ...]]) -> dict[str, list[int]]:
    """What tasks hold of each GPU, in parts of it."""
    found: dict[str, list[int]] = {}
    now = [(h.task, h.gpus) for h in held] + [(task, taken[task.id]) for task in waiting if task.id in taken]
    for task, gpus in now:
        assert max(Counter(gpus).values(), default=1) == 1
        for uuid in gpus:
            found.setdefault(uuid, []).append(in_parts(task.need.share or 1))
    return found
