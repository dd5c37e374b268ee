"""What a supervisor claims when the dispatcher has said whose turn it is."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from fleet.model import Fairness, Hold, Task, Turns, Use
from fleet.supervisor.claims import FIRST_LOOK, depth_to_look
from fleet.supervisor.situation import Held
from tests.supervisor.situations import POLICY, T0, a_queue, a_state, a_task, claims, held


def told(*holds: Hold, **said: Any) -> Turns:
    return Turns(holds=holds, **said)


def a_hold(task: str, **changes: Any) -> Hold:
    return replace(Hold(task=task, instance="here", since=T0), **changes)


def claimed(state: Any, turns: Turns | None, **policy: Any) -> list[str]:
    return [task for task, _ in claims(state, replace(POLICY, turns=turns, **policy))]


LARGE_THEN_SMALL = (a_task("large", gpus=4), a_task("small", position=1))


def test_small_tasks_go_round_a_large_one_for_which_another_machine_is_held() -> None:
    state = a_state(waiting=LARGE_THEN_SMALL, held=(held("x", 0),))
    assert claimed(state, told()) == ["small"]


def test_on_the_machine_that_is_held_they_do_not() -> None:
    state = a_state(waiting=LARGE_THEN_SMALL, held=(held("x", 0),))
    assert claimed(state, told(a_hold("large"))) == []


def test_a_supervisor_that_was_told_nothing_keeps_free_what_a_large_task_needs() -> None:
    assert claimed(a_state(waiting=LARGE_THEN_SMALL, held=(held("x", 0),)), None) == []


def test_gpus_that_the_large_task_does_not_need_are_used() -> None:
    waiting = (a_task("large", gpus=3), a_task("small", position=1))
    state = a_state(waiting=waiting, held=(held("x", 0, 1),))
    assert claimed(state, told(a_hold("large"))) == []
    more = a_state(waiting=waiting, gpus=state.gpus, held=(held("x", 0),))
    assert claimed(more, told(a_hold("large"))) == ["large"]


def test_an_urgent_task_goes_before_a_large_one_on_its_machine_but_not_before_one_that_starved() -> None:
    waiting = (a_task("large", gpus=4), a_task("urgent", queue="urgent"))
    state = a_state(waiting=waiting, held=(held("x", 0),))
    assert claimed(state, told(a_hold("large"))) == ["urgent"]
    assert claimed(state, told(a_hold("large", is_first=True))) == []


def test_a_starved_task_starts_as_soon_as_it_fits() -> None:
    waiting = (a_task("large", gpus=4), a_task("urgent", queue="urgent"))
    assert claimed(a_state(waiting=waiting), told(a_hold("large", is_first=True))) == ["large"]


def test_a_hold_for_a_task_that_waits_no_more_keeps_nothing() -> None:
    assert claimed(a_state(waiting=(a_task("small"),)), told(a_hold("large", is_first=True))) == ["small"]


def test_shares_count_what_is_held_elsewhere_and_here() -> None:
    queues = (a_queue("train"), a_queue("other"))
    waiting = (
        a_task("t0"),
        a_task("t1", position=1),
        a_task("o0", queue="other"),
        a_task("o1", queue="other", position=1),
    )
    elsewhere = told(fairness=Fairness.SHARES, uses=(Use(queue="train", user="", gpus=1),))
    assert claimed(a_state(waiting=waiting, held=(held("x", 0),)), elsewhere, queues=queues) == ["o0", "o1", "t0"]


def test_a_task_for_which_the_machine_is_held_is_looked_for_deeper_in_its_queue() -> None:
    shown = tuple(a_task(f"t{n}", position=n) for n in range(FIRST_LOOK))
    state = a_state(waiting=shown)
    assert depth_to_look(state, POLICY, FIRST_LOOK) == FIRST_LOOK
    assert depth_to_look(state, replace(POLICY, turns=told(a_hold("large"))), FIRST_LOOK) == 4 * FIRST_LOOK
    assert depth_to_look(state, replace(POLICY, turns=told(a_hold("large"))), 4 * FIRST_LOOK) == 4 * FIRST_LOOK


def a_node(id: str, gang: str, **changes: Any) -> Task:
    return replace(a_task(id, gpus=4, position=9), gang=gang, instances=2, **changes)


GANG = replace(a_task("gang", gpus=4), instances=2)
KEPT = a_hold("gang", is_first=True, gang_gpus=4.0)


def test_a_gang_starts_where_the_dispatcher_says_that_all_its_machines_are_free_and_nowhere_else() -> None:
    state = a_state(waiting=(GANG,))
    assert claimed(state, None) == []
    assert claimed(state, told()) == []
    assert claimed(state, told(KEPT, gangs=("gang",))) == []
    assert claimed(state, told(replace(KEPT, may_start=True), gangs=("gang",))) == ["gang"]


def test_a_machine_that_is_held_for_a_node_keeps_its_gpus_until_the_node_comes() -> None:
    turns = told(KEPT, gangs=("gang",))
    assert claimed(a_state(waiting=(a_task("small"),)), turns) == []
    assert claimed(a_state(waiting=(a_task("small"), a_node("node", "gang"))), turns) == ["node"]


def test_a_machine_takes_one_node_of_a_gang() -> None:
    two = replace(KEPT, gang_gpus=2.0)
    nodes = [replace(a_node(f"n{n}", "gang"), need=a_task("x", gpus=2).need) for n in range(2)]
    turns = told(two, gangs=("gang",))
    assert claimed(a_state(waiting=tuple(nodes)), turns) == ["n0"]
    running = Held(task=nodes[0], gpus=("g0", "g1"))
    assert claimed(a_state(waiting=(nodes[1],), held=(running,)), turns) == []


def test_nodes_go_to_no_machine_that_is_not_held_for_them_while_others_are() -> None:
    state = a_state(waiting=(a_node("node", "gang"),))
    assert claimed(state, told(gangs=("gang",))) == []
    assert claimed(state, told()) == ["node"]  # its machine was lost, or its gang was never one for fleet
    assert claimed(state, None) == ["node"]


def test_gpus_that_a_node_does_not_need_are_used() -> None:
    turns = told(replace(KEPT, gang_gpus=3.0), gangs=("gang",))
    assert claimed(a_state(waiting=(a_task("a"), a_task("b", position=1))), turns) == ["a"]


def test_queues_with_equal_shares_take_turns_on_a_machine_that_has_room_for_one() -> None:
    one, other = a_queue("one"), a_queue("other")
    waiting = (a_task("a", queue="one"), a_task("b", queue="other"))
    state = a_state(waiting=waiting, gpus=a_state().gpus[:1])
    shares = told(fairness=Fairness.SHARES)
    assert claimed(state, shares, queues=(one, other)) == ["a"]
    assert claimed(state._replace(served={"one": 1}), shares, queues=(one, other)) == ["b"]
    assert claimed(state._replace(served={"one": 1, "other": 2}), shares, queues=(one, other)) == ["a"]
    assert claimed(state._replace(served={"one": 1}), told(), queues=(one, other)) == ["a"]  # strict priority


ALONE = Turns(is_alone=True)


def test_a_machine_without_a_dispatcher_keeps_free_what_a_large_task_needs() -> None:
    assert claimed(a_state(waiting=LARGE_THEN_SMALL, held=(held("x", 0),)), ALONE) == []


def test_and_its_queues_may_share_it() -> None:
    waiting = (a_task("a"), a_task("b", queue="night"), a_task("c", position=1), a_task("d", queue="night", position=1))
    known = {"queues": (a_queue("train"), a_queue("night"))}
    state = a_state(waiting=waiting, held=(held("x", 0), held("y", 1)))
    assert claimed(state, ALONE, **known) == ["a", "c"]
    assert claimed(state, replace(ALONE, fairness=Fairness.SHARES), **known) == ["b", "d"]
