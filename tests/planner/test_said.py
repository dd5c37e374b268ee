"""What is said of tasks that wait: again the same object where it is the same, and never what is not true any more."""

from dataclasses import replace

from hypothesis import given

from fleet.model import Snapshot
from fleet.planner import said
from fleet.planner.plan import plan
from tests.builders import a_resource, a_snapshot, a_task, an_instance, tasks
from tests.planner.test_properties import worlds
from tests.planner.worlds import snapshots

ONE = a_snapshot(
    tasks=tasks(2, gpus=4), instances=(an_instance(ready=False),), resources=(a_resource(max_instances=1),)
)


def test_the_next_plan_says_the_same_again() -> None:
    first, second = plan(ONE).waiting, plan(ONE).waiting
    assert [w.reason.code for w in first] == ["booting", "max_instances"]
    assert [a is b for a, b in zip(first, second, strict=True)] == [True, True]


def test_what_has_changed_is_said_anew() -> None:
    plan(ONE)
    (booted, other) = plan(replace(ONE, instances=(an_instance(),))).waiting
    assert (booted.reason.code, other.reason.code) == ("free", "max_instances")
    elsewhere = replace(ONE, instances=(an_instance(id="i2", ready=False),))
    assert plan(elsewhere).waiting[0].instance == "i2"
    more = replace(ONE, resources=(a_resource(max_instances=2),))
    assert plan(more).waiting[1].instance is not None
    assert plan(ONE).waiting[1].instance is None


def test_what_waits_no_more_is_forgotten() -> None:
    plan(ONE)
    plan(a_snapshot(tasks=(a_task("another"),)))
    assert list(said._latest) == ["another"]


@worlds
@given(snapshots())
def test_a_plan_is_the_same_with_and_without_what_was_said_before(world: Snapshot) -> None:
    plan(replace(world, at=world.at - world.poll_interval))
    after = plan(world)
    said.remember(())
    assert plan(world) == after
