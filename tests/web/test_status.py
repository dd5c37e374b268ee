"""fleet/web/status.py: what `fleet status --json` says."""

from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from fleet.model import Budget, GpuNeed, Instance, QueueView, Reason, View, Waiting
from fleet.web.status import PASS_IS_LATE_AFTER, status_data
from tests.web.nouns import ALLOCATION, DEMAND, GPUS, IDLE, TRAIN, a_view, an_instance, at

BUSY = replace(
    an_instance(), cloud_id="c-1", launched_at=at(10), enrolled_at=at(60), gpus=GPUS, allocations=(ALLOCATION,)
)


def status(*instances: Instance, view: View | None = None, seconds: float = 110, **changes: Any) -> dict[str, Any]:
    whole = {"cluster": "c", "budget": Budget(max_instances=4, usd_per_hour=20.0), "usd_today": 1.5, "usd_month": 9.0}
    now = at(seconds)
    return status_data(view=view or a_view(now), instances=instances, at=now, **(whole | changes))


def test_the_status_of_a_busy_fleet_is_what_the_design_says() -> None:
    assert status(BUSY) == {
        "cluster": "c",
        "at": "2026-03-01T12:01:50+00:00",
        "server": {"url": "http://127.0.0.1:8008", "kind": "embedded", "ok": True},
        "queues": [
            {
                "name": "train",
                "queued": 1,
                "oldest_wait_s": 140.0,
                "running": 1,
                "gpus_per_task": 1,
                "resources": ["gpu"],
            }
        ],
        "instances": [
            {
                "id": "i1",
                "cloud_id": "c-1",
                "provider": "fake",
                "resource": "gpu",
                "type": "g5.2xlarge",
                "zone": "z1",
                "market": "spot",
                "state": "busy",
                "reason": "train: 1 task waits",
                "age_s": 110.0,
                "idle_s": None,
                "gpus": [
                    {"index": 0, "uuid": "GPU-0", "model": "NVIDIA A10G", "task": "t1", "util": 0.0},
                    {"index": 1, "uuid": "GPU-1", "model": "NVIDIA A10G", "task": None, "util": 50.0},
                ],
                "tasks": ["t1"],
                "usd_per_hour": 3.6,
                "usd": pytest.approx(0.1),
            }
        ],
        "budget": {
            "instances": 1,
            "max_instances": 4,
            "usd_per_hour": 3.6,
            "max_usd_per_hour": 20.0,
            "usd_today": 1.5,
            "usd_month": 9.0,
            "max_usd_per_day": None,
            "max_usd_per_month": None,
            "when_spent": "hold",
        },
        "alerts": [],
        "notes": [],
    }


def test_an_open_window_is_named_and_its_maximum_is_the_one_that_is_shown() -> None:
    note = Reason(code="schedule", text="budget.schedule[0] is open")
    data = status(view=replace(a_view(at(110)), notes=(note,), max_instances=9))
    assert (data["notes"], data["budget"]["max_instances"]) == ([note.text], 9)


def test_an_instance_that_ends_says_why_it_ends() -> None:
    ending = replace(BUSY, allocations=(), idle_since=at(50), drain_requested_at=at(100), end_reason=IDLE)
    (shown,) = status(ending)["instances"]
    assert (shown["state"], shown["reason"], shown["idle_s"], shown["tasks"]) == ("draining", IDLE.text, 60.0, [])


def test_an_unknown_price_is_unknown_and_counts_nothing() -> None:
    data = status(an_instance(usd=None), an_instance("i2"))
    assert [i["usd_per_hour"] for i in data["instances"]] == [None, 3.6]
    assert data["instances"][0]["usd"] is None
    assert data["budget"]["usd_per_hour"] == 3.6


def test_tasks_that_share_a_gpu_are_both_named() -> None:
    shared = replace(BUSY, allocations=(ALLOCATION, replace(ALLOCATION, task="t2")))
    assert status(shared)["instances"][0]["gpus"][0]["task"] == "t1, t2"


def test_a_machine_whose_clock_is_ahead_has_no_negative_age() -> None:
    assert status(replace(BUSY, idle_since=at(500)))["instances"][0]["idle_s"] == 0.0


def test_the_need_of_a_queue_reads_as_in_the_fleet_file() -> None:
    def need(low: float, high: float) -> object:
        queue = QueueView(
            name="q", queued=0, oldest_enqueued_at=None, need=GpuNeed(at_least=low, at_most=high), resources=()
        )
        return status(view=replace(a_view(at(110)), queues=(queue,)))["queues"][0]["gpus_per_task"]

    assert [need(1.0, 1.0), need(0.5, 0.5), need(1, 4), need(0, 0)] == [1, 0.5, "1-4", 0]


def test_alerts_of_the_last_pass_are_sentences() -> None:
    view = a_view(at(110), alerts=(Reason(code="breaker", text="gpu: three boots failed"),))
    assert status(view=view)["alerts"] == ["gpu: three boots failed"]


def test_a_dispatcher_that_stands_still_is_an_alert() -> None:
    view = a_view(at(0), alerts=(DEMAND,))
    late = PASS_IS_LATE_AFTER + timedelta(seconds=1)
    assert len(status(view=view, seconds=30)["alerts"]) == 1
    first, second = status(view=view, seconds=late.total_seconds())["alerts"]
    assert first.startswith("the dispatcher has not finished a pass since 2026-03-01 12:00:00+00:00")
    assert second == DEMAND.text


def test_before_the_first_pass_nothing_is_claimed_about_queues_and_server() -> None:
    data = status_data(
        cluster="c",
        at=at(0),
        view=None,
        instances=(),
        budget=Budget(),
        usd_today=0.0,
        usd_month=0.0,
        queues=(TRAIN,),
        server_url="http://s",
        server_kind="clearml",
    )
    assert data["server"] == {"url": "http://s", "kind": "clearml", "ok": None}
    (queue,) = data["queues"]
    assert (queue["name"], queue["queued"], queue["oldest_wait_s"], queue["running"]) == ("train", None, None, 0)
    assert data["alerts"] == ["the dispatcher has not finished a pass yet"]


def test_a_task_that_was_taken_since_the_last_pass_is_not_queued_any_more() -> None:
    busy = replace(an_instance(), allocations=(ALLOCATION,))
    view = replace(a_view(), waiting=(Waiting(task=ALLOCATION.task, queue=ALLOCATION.queue, reason=DEMAND),))
    (queue,) = status(busy, view=view)["queues"]
    assert (queue["queued"], queue["oldest_wait_s"], queue["running"]) == (0, None, 1)


def test_what_keeps_an_idle_machine_is_its_reason_and_a_note() -> None:
    awake = Reason(code="kept_awake", text="idle, but kept awake: somebody is logged in")
    data = status(replace(BUSY, allocations=(), idle_since=at(50), kept_awake=awake))
    assert data["instances"][0]["reason"] == awake.text
    assert data["notes"] == ["instance i1 is idle, but kept awake: somebody is logged in"]


def test_the_time_by_which_a_machine_drains_is_a_note_as_long_as_something_runs_there() -> None:
    drains = replace(BUSY, drain_requested_at=at(100), drain_by=at(600), end_reason=IDLE)
    said = "instance i1 drains: what runs there at 2026-03-01 12:10:00 UTC goes back to its queue"
    assert status(drains)["notes"] == [said]
    assert status(replace(drains, allocations=()))["notes"] == []


def test_a_task_that_two_machines_say_they_run_is_an_alert_but_a_gang_is_none() -> None:
    other = replace(BUSY, id="i-2", cloud_id="c-2")
    assert status(BUSY)["alerts"] == []
    assert status(BUSY, other)["alerts"] == [f"task {ALLOCATION.task} runs on {BUSY.id} and i-2 at once"]
    assert status(BUSY, replace(other, gone_at=at(100)))["alerts"] == []
    gang = replace(ALLOCATION, gang="g")
    assert status(replace(BUSY, allocations=(gang,)), replace(other, allocations=(gang,)))["alerts"] == []
