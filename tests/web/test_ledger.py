"""fleet/web/ledger.py: what machines cost, and what became of a task."""

from dataclasses import replace

import pytest

from fleet.model import Event, RunResult
from fleet.web.ledger import cost_data, task_data
from tests.web.nouns import DEMAND, IDLE, T0, a_run, a_view, an_instance, at

ENQUEUED = Event(seq=1, at=T0, kind="task.enqueued", text="x", task="t1")


def test_cost_counts_hours_and_dollars_since_a_time() -> None:
    gone = replace(an_instance("i1"), launched_at=at(0), gone_at=at(5400), end_reason=IDLE)
    live = replace(an_instance("i2", usd=7.2), launched_at=at(1800))
    data = cost_data([gone, live, an_instance("i3", usd=None)], since=at(3600), at=at(7200))
    assert [(i["id"], i["hours"], i["usd"]) for i in data["instances"]] == [
        ("i2", 1.0, pytest.approx(7.2)),
        ("i1", 0.5, pytest.approx(1.8)),
        ("i3", 1.0, None),
    ]
    assert [(i["launched_because"], i["ended_because"]) for i in data["instances"][:2]] == [
        (DEMAND.text, None),
        (DEMAND.text, IDLE.text),
    ]
    (resource,) = data["resources"]
    assert (resource["resource"], resource["instances"], resource["hours"]) == ("gpu", 3, 2.5)
    assert data["usd"] == resource["usd"] == pytest.approx(9.0)


def test_a_task_that_waits_is_explained_by_the_last_pass() -> None:
    data = task_data("t9", a_view(), (), (), at(0))
    assert data
    assert (data["state"], data["waiting"].reason, data["runs"]) == ("waiting", DEMAND, [])


def test_a_task_that_was_taken_since_the_last_pass_runs() -> None:
    run = a_run("t9", started_at=at(1))
    data = task_data("t9", a_view(), (run,), (), at(5))
    assert data
    assert (data["state"], data["waiting"], data["runs"][0]["seconds"]) == ("running", None, 5.0)


def test_a_task_that_is_back_in_its_queue_shows_what_it_went_through() -> None:
    lost = a_run("t9", ended_at=at(60), result=RunResult.REQUEUED)
    data = task_data("t9", a_view(), (lost,), (), at(70))
    assert data
    assert (data["state"], data["runs"][0]["result"], data["runs"][0]["seconds"]) == ("waiting", "requeued", 60.0)


def test_a_task_that_ended_shows_how() -> None:
    done = a_run(started_at=at(1), ended_at=at(9), result=RunResult.FAILED, exit_code=1)
    data = task_data("t1", None, (done,), (ENQUEUED,), at(70))
    assert data
    assert (data["state"], data["runs"][0]["exit_code"], data["events"]) == ("failed", 1, (ENQUEUED,))


def test_a_task_known_by_an_event_alone_and_one_not_known_at_all() -> None:
    known = task_data("t1", a_view(), (), (ENQUEUED,), at(0))
    assert known
    assert known["state"] == "unknown"
    assert task_data("t2", a_view(), (), (), at(0)) is None
