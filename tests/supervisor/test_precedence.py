"""A task that a smaller machine can hold, too, is left to such machines for a moment: a large one would stay half empty for it."""

from dataclasses import replace
from datetime import timedelta

from fleet.model import Hold, Task, Turns
from fleet.supervisor.decide import next_deadline
from fleet.supervisor.precedence import FOR_EACH_SIZE, FRESH, first_seen
from fleet.supervisor.situation import State
from tests.supervisor.situations import POLICY, T0, a_state, a_task, claims

LARGE = replace(POLICY, smaller={"train": (1, 2)})
NO_TIME = timedelta(0)


def a_world(*waiting: Task, since: timedelta = NO_TIME) -> State:
    """These are seen since so long, as soon as they were enqueued."""
    seen = T0 - since
    fresh = tuple(replace(task, enqueued_at=seen) for task in waiting)
    return a_state(waiting=fresh, seen_at=first_seen({}, fresh, seen))._replace(at=T0)


def taken(state: State, policy: object = LARGE) -> list[str]:
    return [name for name, _ in claims(state, policy)]


def test_the_larger_a_machine_is_for_a_task_the_longer_it_lets_others_go_first():
    both = a_task("one"), a_task("two", 2, position=1)
    assert taken(a_world(*both)) == []
    assert taken(a_world(*both, since=FOR_EACH_SIZE)) == ["two"]
    assert taken(a_world(*both, since=2 * FOR_EACH_SIZE)) == ["one", "two"]


def test_it_wakes_when_the_next_task_is_open_to_it():
    state = a_world(a_task("one"), a_task("two", 2, position=1))
    assert next_deadline(state, LARGE) == T0 + FOR_EACH_SIZE
    assert next_deadline(state._replace(at=T0 + FOR_EACH_SIZE), LARGE) == T0 + 2 * FOR_EACH_SIZE


def test_what_needs_a_machine_of_its_size_it_takes_at_once():
    assert taken(a_world(a_task("one"), a_task("four", 4, position=1))) == ["four"]


def test_where_there_is_nothing_smaller_nobody_waits():
    assert taken(a_world(a_task("one")), POLICY) == ["one"]
    assert taken(a_world(a_task("one", queue="urgent"))) == ["one"]


def test_a_task_that_has_waited_for_long_is_taken_at_once():
    state = a_world(a_task("one"))
    old = replace(state.waiting[0], enqueued_at=T0 - FRESH)
    assert taken(state._replace(waiting=(old,))) == ["one"]


def test_a_clock_that_is_behind_keeps_nobody_waiting():
    state = a_world(a_task("one"), since=2 * FOR_EACH_SIZE)
    later = replace(state.waiting[0], enqueued_at=T0 + timedelta(hours=1))
    assert taken(state._replace(waiting=(later,))) == ["one"]


def test_a_task_with_wishes_of_its_own_or_for_which_this_machine_is_held_is_taken_at_once():
    for wish in ({"gpu_type": "a10"}, {"gpu_memory_gib": 20.0}):
        assert taken(a_world(replace(a_task("one"), **wish))) == ["one"]
    turns = Turns(holds=(Hold(task="one", instance="i1", since=T0, is_first=True),))
    assert taken(a_world(a_task("one")), replace(LARGE, turns=turns)) == ["one"]


def test_a_task_is_seen_since_it_was_seen_first_and_forgotten_when_it_is_gone():
    seen = first_seen({}, (a_task("one"),), T0)
    again = first_seen(seen, (a_task("one"), a_task("two")), T0 + FRESH)
    assert again == {"one": T0, "two": T0 + FRESH}
    assert first_seen(again, (), T0 + FRESH) == {}
