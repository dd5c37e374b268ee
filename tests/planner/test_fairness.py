"""Whose turn it is: strict priority, shares by weight, users in turn; and the edge takes what the planner promised."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from datetime import timedelta
from random import Random

from hypothesis import given, settings
from hypothesis import strategies as st

from fleet.model import Fairness, Instance, Plan, Queue, Snapshot, Task, Turns, Use
from fleet.planner.fairness import Order, turns_for, uses_of
from fleet.planner.plan import plan
from fleet.supervisor.decide import decide
from fleet.supervisor.instructions import Claim
from fleet.supervisor.situation import Held, Policy, State
from tests.builders import T0, a_queue, a_resource, a_snapshot, a_task, an_instance

SHARES = Fairness.SHARES


def order(tasks: Sequence[Task], queues: Sequence[Queue], fairness: Fairness, *uses: Use) -> str:
    """The first letters of the ids, each given what it asks for."""
    made, found = Order(tasks, queues, fairness, uses), []
    for task in made:
        made.gave(task, task.need.at_least)
        found.append(task.id[0])
    return "".join(found)


def waiting_in(queue: str, count: int, users: str = "", gpus: float = 1) -> list[Task]:
    """Tasks of a queue, named after it, or after their users, who take turns in submitting."""
    return [
        a_task(f"{users[n % len(users)] if users else queue[0]}{n}", gpus, queue=queue, position=n, user=users and users[n % len(users)])
        for n in range(count)
    ]  # fmt: skip


def given_to(made: Plan) -> Counter[str]:
    return Counter(w.queue for w in made.waiting if w.instance)


def test_by_priority_a_queue_is_emptied_before_the_next() -> None:
    queues = (a_queue("aaa"), a_queue("bbb", priority=1), a_queue("ccc"))
    tasks = [*waiting_in("aaa", 2), *waiting_in("bbb", 2), *waiting_in("ccc", 2)]
    assert order(tasks, queues, Fairness.PRIORITY) == "bbaacc"


def test_by_shares_queues_take_turns_by_weight() -> None:
    queues = (a_queue("aaa", weight=2.0), a_queue("bbb"))
    assert order([*waiting_in("aaa", 6), *waiting_in("bbb", 3)], queues, SHARES) == "abaabaaba"


def test_what_is_held_already_counts() -> None:
    queues = (a_queue("aaa"), a_queue("bbb"))
    tasks = [*waiting_in("aaa", 3), *waiting_in("bbb", 3)]
    assert order(tasks, queues, SHARES, Use(queue="aaa", user="", gpus=2)) == "bbabaa"


def test_priority_goes_before_shares() -> None:
    queues = (a_queue("aaa", weight=9.0), a_queue("bbb"), a_queue("ccc", priority=1))
    tasks = [*waiting_in("aaa", 1), *waiting_in("bbb", 1), *waiting_in("ccc", 3)]
    assert order(tasks, queues, SHARES) == "cccab"


def test_a_large_task_costs_its_queue_as_many_turns() -> None:
    queues = (a_queue("aaa"), a_queue("bbb"))
    assert order([*waiting_in("aaa", 2, gpus=4), *waiting_in("bbb", 5)], queues, SHARES) == "abbbbab"


def test_users_of_one_queue_take_turns_where_it_says_so() -> None:
    tasks = [
        *(replace(t, user="x", id=f"x{t.id}") for t in waiting_in("aaa", 4)),
        a_task("y", queue="aaa", position=4, user="y"),
    ]
    assert order(tasks, (a_queue("aaa"),), Fairness.PRIORITY) == "xxxxy"
    assert order(tasks, (a_queue("aaa", is_shared_by_users=True),), Fairness.PRIORITY) == "xyxxx"


def test_a_user_who_holds_much_waits_for_those_who_hold_nothing() -> None:
    queue = a_queue("aaa", is_shared_by_users=True)
    uses = (Use(queue="aaa", user="x", gpus=2), Use(queue="aaa", user="y", gpus=1))
    assert order(waiting_in("aaa", 6, users="xyz"), (queue,), Fairness.PRIORITY, *uses) == "zyzxyx"  # fmt: skip


def test_tasks_without_gpus_take_turns_too() -> None:
    queues = (a_queue("aaa", gpus=0), a_queue("bbb", gpus=0))
    assert order([*waiting_in("aaa", 3, gpus=0), *waiting_in("bbb", 3, gpus=0)], queues, SHARES) == "ababab"


def test_what_is_refused_costs_no_turn() -> None:
    """The tasks of queue aaa fit nowhere: queue bbb gets all there is."""
    world = a_snapshot(
        tasks=(*waiting_in("aaa", 3, gpus=16), *waiting_in("bbb", 4)),
        queues=(a_queue("aaa"), a_queue("bbb")),
        instances=(an_instance(),),
        fairness=SHARES,
    )
    assert [w.instance for w in plan(world).waiting if w.queue == "bbb"] == ["i1"] * 4


def test_a_full_fleet_says_whose_share_is_how_large_and_who_goes_next() -> None:
    world = a_snapshot(
        tasks=(*waiting_in("train", 1), *waiting_in("test", 1)),
        queues=(a_queue("train", weight=2.0), a_queue("test")),
        resources=(a_resource(max_instances=1),),
        instances=(an_instance(held=4),),
        fairness=SHARES,
    )
    texts = {w.queue: w.reason.text for w in plan(world).waiting}
    assert texts["train"].endswith(
        "; queue train holds 4 of the 4 GPUs in use with a weight of 2 of 3; next: queue test"
    )
    assert texts["test"].endswith("; queue test holds 0 of the 4 GPUs in use with a weight of 1 of 3; it is next")


def test_a_supervisor_is_told_what_is_held_elsewhere() -> None:
    here, there = an_instance("here", held=2), an_instance("there", held=3)
    turns = Turns(fairness=SHARES, uses=uses_of([here, there]))
    assert turns_for(turns, here).uses == (Use(queue="train", user="", gpus=3),)


# --- over random worlds

counts = st.integers(0, 12)
weights = st.sampled_from([0.5, 1.0, 2.0, 3.0])


@st.composite
def shared_worlds(draw: st.DrawFn) -> Snapshot:
    """Queues of one priority with one-GPU tasks of three users, on a few machines of which some GPUs are held."""
    names = draw(st.lists(st.sampled_from(["aaa", "bbb", "ccc", "ddd"]), min_size=2, unique=True))
    queues = tuple(a_queue(name, weight=draw(weights), is_shared_by_users=draw(st.booleans())) for name in names)
    tasks = []
    for queue in queues:
        for n in range(draw(counts)):
            tasks.append(a_task(f"{queue.name}{n}", queue=queue.name, position=n, user=draw(st.sampled_from("xyz"))))
    instances = []
    for n in range(draw(st.integers(1, 3))):
        instance = an_instance(f"i{n}", gpus=8, held=draw(st.integers(0, 8)))
        allocations = tuple(
            replace(a, queue=draw(st.sampled_from(names)), user=draw(st.sampled_from("xyz")))
            for a in instance.allocations
        )
        instances.append(replace(instance, allocations=allocations))
    return a_snapshot(
        tasks=tuple(tasks),
        queues=queues,
        resources=(a_resource(max_instances=len(instances)),),
        instances=tuple(instances),
        fairness=SHARES,
        starvation_after=timedelta(minutes=30),
    )


@settings(max_examples=150, deadline=None)
@given(shared_worlds())
def test_nobody_gets_a_gpu_while_somebody_with_less_for_his_weight_goes_without(world: Snapshot) -> None:
    made = plan(world)
    weight = {queue.name: queue.weight for queue in world.queues}
    held = Counter(a.queue for i in world.instances for a in i.allocations)
    got = given_to(made)
    without = {w.queue for w in made.waiting if not w.instance}
    for rich in got:
        for poor in without - {rich}:
            before_the_last = (held[rich] + got[rich] - 1) / weight[rich]
            assert before_the_last <= (held[poor] + got[poor]) / weight[poor] + 1e-6


@settings(max_examples=100, deadline=None)
@given(shared_worlds())
def test_every_gpu_is_given_while_somebody_waits(world: Snapshot) -> None:
    free = sum(len(i.gpus) - len(i.allocations) for i in world.instances)
    assert given_to(plan(world)).total() == min(free, len(world.tasks))


@settings(max_examples=100, deadline=None)
@given(shared_worlds(), st.randoms(use_true_random=False))
def test_the_same_world_is_planned_the_same_in_whatever_order_it_is_told(world: Snapshot, random: Random) -> None:
    tasks = list(world.tasks)
    random.shuffle(tasks)
    assert plan(replace(world, tasks=tuple(tasks))) == plan(world)


@settings(max_examples=150, deadline=None)
@given(shared_worlds())
def test_supervisors_claim_what_the_planner_promised(world: Snapshot) -> None:
    """On one machine, whatever is held elsewhere: the same tasks, in the same order."""
    only = world.instances[0]
    full = tuple(replace(i, drain_requested_at=T0) for i in world.instances[1:])
    world = replace(world, instances=(only, *full))
    made = plan(world)
    promised = [w.task for w in made.waiting if w.instance == only.id]
    turns = turns_for(made.turns, only)
    state = a_state(world, only)
    policy = Policy(
        queues=world.queues, idle_timeout=None, contact_timeout=timedelta(hours=1), max_lifetime=None, turns=turns
    )
    assert [i.task.id for i in decide(state, policy) if isinstance(i, Claim)] == promised


def a_state(world: Snapshot, instance: Instance) -> State:
    """What its supervisor knows: what it holds, and all that waits."""
    held = tuple(Held(task=a_task(a.task, queue=a.queue, user=a.user), gpus=a.gpus) for a in instance.allocations)
    return State(
        at=T0,
        enrolled_at=T0,
        gpus=instance.gpus,
        cpus=8,
        held=held,
        waiting=world.tasks,
        peeked_at=T0,
        server_seen_at=T0,
        centre_seen_at=T0,
    )
