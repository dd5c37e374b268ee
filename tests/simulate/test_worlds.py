"""Two thousand random worlds, and what may never happen in any of them."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from datetime import timedelta

import pytest

from fleet.model import Market
from fleet.simulate.agenda import after, seconds
from fleet.simulate.engine import Simulation
from fleet.simulate.promises import broken
from fleet.simulate.setting import Outcome, Setting
from fleet.simulate.story import Scene, as_line
from fleet.simulate.truth import Attempt, Life
from fleet.simulate.world import FEWEST_TASKS, MOST_TASKS, make_world
from tests.builders import a_queue, a_resource, an_offer
from tests.simulate.nouns import a_fleet, a_setting, jobs

WORLDS, CHUNKS = 2000, 40


@pytest.mark.parametrize("chunk", range(CHUNKS))
def test_in_no_world_is_a_promise_broken(chunk: int) -> None:
    """What fails is told event by event by the command that is shown."""
    failures = {}
    for seed in range(chunk, WORLDS, CHUNKS):
        setting = make_world(seed)
        if promises := broken(setting, Simulation(setting).run()):
            failures[f"fleet simulate --world {seed}"] = promises[:5]
    assert failures == {}


def test_worlds_are_as_different_as_fleets_are() -> None:
    worlds = [make_world(seed) for seed in range(200)]
    assert {len(world.policy.resources) for world in worlds} == {1, 2, 3}
    assert {len(world.policy.queues) for world in worlds} == {1, 2, 3}
    assert all(FEWEST_TASKS <= len(world.workload) <= MOST_TASKS for world in worlds)
    capped = [world for world in worlds if world.policy.budget.max_instances or world.policy.budget.usd_per_hour]
    assert 50 < len(capped) < 180
    markets = Counter(offer.market for world in worlds for offers in world.offers.values() for offer in offers)
    assert min(markets[market] for market in Market) > 100
    assert 20 < sum(world.faults.dispatcher_life is None for world in worlds) < 180


def test_a_seed_is_always_the_same_world_and_the_same_story() -> None:
    def told(seed: int) -> list[str]:
        scenes: list[Scene] = []
        Simulation(make_world(seed), scenes.append).run()
        return [as_line(scene) for scene in scenes]

    assert told(11) == told(11)
    assert told(11) != told(12)


@pytest.mark.parametrize("seed", [3, 45, 63])
def test_listening_changes_nothing(seed: int) -> None:
    setting = make_world(seed)
    silent, told = Simulation(setting).run(), Simulation(setting, lambda scene: None).run()
    assert silent == told


@pytest.mark.parametrize("seed", range(8))
def test_no_pass_that_was_left_out_would_have_changed_anything_in_a_world_whose_clouds_answer(seed: int) -> None:
    """Where a call may fail, one call more is one fault more: only worlds without such faults are the same. Also what is
    kept for ever is left out: it is replaced at the next pass that anything brings about."""
    world = make_world(seed)
    resources = tuple(replace(resource, min_instances=0) for resource in world.policy.resources)
    faults = replace(world.faults, lost_calls=0.0, killed_calls=0.0, dispatcher_life=None)
    quiet = replace(world, faults=faults, policy=replace(world.policy, resources=resources))
    sparse, dense = Simulation(quiet).run(), Simulation(replace(quiet, is_dense=True)).run()
    assert (sparse.truth.lives, sparse.states) == (dense.truth.lives, dense.states)
    assert sparse.truth.attempts == dense.truth.attempts


# --- the promises are held against the truth: what breaks one is seen


def a_run(setting: Setting) -> Outcome:
    return Simulation(setting).run()


def test_a_kept_promise_is_no_complaint() -> None:
    setting = a_setting(jobs(1, 2, 4))
    assert broken(setting, a_run(setting)) == ()


def test_a_machine_more_than_a_limit_allows_is_a_broken_promise() -> None:
    setting = a_setting(jobs(1))
    outcome = a_run(setting)
    (life,) = outcome.truth.lives.values()
    outcome.truth.lives["more"] = replace(life, instance="more")
    limited = a_fleet([a_resource(max_instances=1)], [a_queue(max_instances=1)], max_instances=1, usd_per_hour=3)
    queued = dict.fromkeys(outcome.truth.lives, "train")
    known = dict.fromkeys(outcome.truth.lives, life.ended_at)
    found = broken(replace(setting, policy=limited), replace(outcome, launched_for=queued, gone_at=known))
    assert found == (
        "2 machines at once; budget.max_instances is 1",
        "2 machines at once; resources.gpu.max_instances is 1",
        "2 machines at once; queues.train.max_instances is 1",
        "$0.3833 beyond the budget",
    )


def test_a_task_that_is_lost_given_up_too_soon_or_waits_without_a_word_is_a_broken_promise() -> None:
    setting = a_setting(jobs(1, 1, 1))
    outcome = a_run(setting)
    states = {"t000000": "lost", "t000001": "failed", "t000002": "waiting"}
    assert broken(setting, replace(outcome, states=states)) == (
        "task t000000 is lost",
        "task t000001 was given up after 1 attempts",
        "task t000002 waits, and nobody says why",
    )


def test_a_task_that_runs_twice_at_once_and_one_that_is_killed_are_broken_promises() -> None:
    setting = a_setting(jobs(1))
    outcome = a_run(setting)
    again = Attempt(task="t000000", instance="i9", gpus=1, started_at=after(1))
    outcome.truth.start(again)
    outcome.truth.start(again)
    outcome.truth.busy_kills = 1
    assert broken(setting, outcome)[:2] == (
        "1 tasks were ended with a healthy machine",
        "1 times a task ran twice at once",
    )


def test_a_machine_that_outlives_the_run_and_one_that_nobody_knows_are_broken_promises() -> None:
    setting = a_setting(jobs(1))
    outcome = a_run(setting)
    outcome.truth.lives["left"] = Life(instance="left", offer=an_offer(), launched_at=after(0))
    (found, *others) = broken(setting, replace(outcome, gone_at={**outcome.gone_at, "left": None}))
    assert (found, others) == ("machine left runs at the end, and nobody wants it", [])
    assert broken(setting, outcome) == (
        f"machine left ran {seconds(outcome.ended_at):g} s that the store knew nothing of",
        "machine left runs at the end, and the store does not know it",
        "machine left runs at the end, and nobody wants it",
    )


# --- what those worlds have taught


def test_a_machine_that_boots_before_the_cloud_lists_it_is_not_taken_for_gone() -> None:
    faults = replace(a_setting(jobs(1)).faults, list_lag=timedelta(seconds=30))
    setting = a_setting(jobs(1, 1), boot_time=timedelta(seconds=5), faults=faults)
    outcome = a_run(setting)
    assert (len(outcome.truth.lives), broken(setting, outcome)) == (1, ())


def test_a_machine_that_boots_in_no_time_shares_its_id_with_no_other() -> None:
    resources = [a_resource("a", provider="one"), a_resource("b", provider="two")]
    queues = [a_queue("train", resources=("a",)), a_queue("urgent", resources=("b",))]
    workload = [*jobs(4, 4, 4), *jobs(4, 4, queue="urgent")]
    setting = a_setting(workload, a_fleet(resources, queues), [an_offer("a"), an_offer("b")], boot_time=timedelta(0))
    outcome = a_run(setting)
    assert (set(outcome.states.values()), broken(setting, outcome)) == ({"completed"}, ())


def test_a_dead_boot_is_ended_although_its_dispatcher_was_killed_in_between() -> None:
    setting = a_setting(jobs(1), a_fleet(max_instances=1))
    setting = replace(setting, faults=replace(setting.faults, seed=9, dead_boots=0.6))
    simulation = Simulation(setting)
    simulation.agenda.add(after(300), simulation._restart)
    outcome = simulation.run()
    first, *_ = outcome.truth.lives.values()
    # Its fifteen minutes count from the new dispatcher's first pass.
    assert first.ended_at == after(300 + 2 + 900 + 2)
    assert broken(setting, outcome) == ()


def test_a_story_says_why() -> None:
    scenes: list[Scene] = []
    setting = a_setting(jobs(1, 4, 8), a_fleet(max_instances=1))
    Simulation(setting, scenes.append).run()
    kinds = [scene.kind for scene in scenes]
    assert kinds[0] == "instance.launching"
    waiting = [scene.text for scene in scenes if scene.kind == "waiting"]
    assert waiting == [
        "task t000001 of queue train: the fleet has 1 instance, the most that budget.max_instances allows",
        "task t000002 of queue train: needs 8 GPUs; the largest of its resources (gpu) has 4",
    ]
    assert as_line(scenes[0]).startswith("00:00:00  instance.launching")
