"""Tasks that are too small for this machine, as the centre says: they are left to smaller ones."""

from dataclasses import replace

from fleet.model import GpuNeed, Hold, Turns
from fleet.supervisor.claims import FIRST_LOOK, depth_to_look
from tests.supervisor.situations import POLICY, T0, a_state, a_task, claims

PICKY = replace(POLICY, above_gpus={"train": 2.0})


def test_tasks_of_up_to_so_many_gpus_are_left_to_smaller_machines():
    waiting = (a_task("one"), a_task("two", 2, position=1), a_task("four", 4, position=2))
    assert claims(a_state(waiting=waiting), PICKY) == [("four", ("g0", "g1", "g2", "g3"))]


def test_other_queues_are_not_meant():
    assert [task for task, _ in claims(a_state(waiting=(a_task("one", queue="urgent"),)), PICKY)] == ["one"]


def test_tasks_without_gpus_are_left_to_machines_without_when_the_centre_says_so():
    cpu = replace(a_task("cpu"), need=GpuNeed(at_least=0, at_most=0))
    assert [task for task, _ in claims(a_state(waiting=(cpu,)), POLICY)] == ["cpu"]
    assert claims(a_state(waiting=(cpu,)), PICKY) == []


def test_a_task_with_wishes_of_its_own_may_have_no_other_machine():
    for wish in ({"gpu_type": "a10"}, {"gpu_memory_gib": 20.0}):
        task = replace(a_task("one"), **wish)
        assert [name for name, _ in claims(a_state(waiting=(task,)), PICKY)] == ["one"]


def test_a_task_for_which_this_machine_is_held_is_taken_however_small():
    hold = Hold(task="one", instance="i1", since=T0, is_first=True)
    held = replace(PICKY, turns=Turns(holds=(hold,)))
    assert [name for name, _ in claims(a_state(waiting=(a_task("one"),)), held)] == ["one"]
    gang = Hold(task="lead", instance="i1", since=T0, is_first=True, gang_gpus=1, may_start=True)
    node = replace(a_task("lead"), instances=2)
    held = replace(PICKY, turns=Turns(holds=(gang,), gangs=("lead",)))
    assert [name for name, _ in claims(a_state(waiting=(node,)), held)] == ["lead"]


def test_no_gpus_are_kept_for_a_task_that_is_left_to_others():
    small = replace(PICKY, above_gpus={"train": 1.0})
    waiting = (a_task("one"), a_task("wide", 4, position=1))
    assert [name for name, _ in claims(a_state(waiting=waiting), small)] == ["wide"]


def test_behind_tasks_that_are_left_to_others_it_looks_deeper():
    shown = tuple(a_task(f"t{n}", position=n) for n in range(FIRST_LOOK))
    assert depth_to_look(a_state(waiting=shown), PICKY, FIRST_LOOK) == 4 * FIRST_LOOK
    assert depth_to_look(a_state(waiting=shown), POLICY, FIRST_LOOK) == FIRST_LOOK
