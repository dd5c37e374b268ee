"""A task that no machine will ever hold waits, with its reason, and costs the planner next to nothing."""

from dataclasses import replace

import pytest

from fleet.model import Snapshot
from fleet.planner import plan as planner
from fleet.planner.plan import plan
from fleet.planner.work import is_too_wide_for_all
from tests.builders import a_snapshot, a_task, an_instance, an_offer

MACHINES = (an_instance("i-1", gpus=8), an_instance("i-2", gpus=8))
WORLD = a_snapshot(tasks=(a_task("t1", gpus=16),), instances=MACHINES, offers=(an_offer(gpus=8),))


def test_a_plan_is_the_same_whether_machines_that_cannot_matter_are_looked_at_or_not(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    assert is_too_wide_for_all(WORLD)
    quick = plan(WORLD)
    monkeypatch.setattr(planner, "is_too_wide_for_all", lambda _: False)
    assert quick == plan(WORLD)
    assert [w.reason.code for w in quick.waiting] == ["no_fit"]


@pytest.mark.parametrize(
    "other",
    [
        replace(WORLD, tasks=(*WORLD.tasks, a_task("t2"))),
        replace(WORLD, instances=(*MACHINES, an_instance("i-3", gpus=16))),
        replace(WORLD, offers=(an_offer(gpus=16),)),
        replace(WORLD, tasks=(replace(WORLD.tasks[0], instances=2),)),
        replace(WORLD, tasks=()),
    ],
    ids=["one that fits waits, too", "a wider machine is there", "a wider one is sold", "a gang", "nobody waits"],
)
def test_machines_are_looked_at_wherever_they_may_matter(other: Snapshot) -> None:
    assert not is_too_wide_for_all(other)
