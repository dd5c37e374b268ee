"""What is noted of a task while it runs here."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta

from fleet.model import Gpu, GpuNeed, RunResult, Task
from fleet.queues.base import TaskState, TaskStatus
from fleet.supervisor.jobs import Job, worker_name

T0 = datetime(2026, 1, 1, tzinfo=UTC)
ONE = GpuNeed(at_least=1, at_most=1)
RUNS = TaskState(
    id="t",
    name="t",
    status=TaskStatus.IN_PROGRESS,
    status_message="",
    queue_id=None,
    last_worker="w:gpu0",
    last_update=None,
)


def at(seconds: float) -> datetime:
    return T0 + timedelta(seconds=seconds)


def a_job(**known) -> Job:
    task = Task(id="t", queue="train", position=0, enqueued_at=T0, need=ONE, name="mnist")
    gpu = Gpu(index=0, uuid="g0", model="A10", memory_gib=24)
    base = {"key": "a1", "task": task, "gpus": (gpu,), "worker": "w:gpu0", "claimed_at": at(1), "announced_at": at(2)}
    return Job(**{**base, **known})


def see(job: Job, state: TaskState | None, seconds: float) -> None:
    job.see(state, at(seconds), at(seconds))


def test_tasks_on_parts_of_one_gpu_are_different_workers():
    gpu = Gpu(index=3, uuid="g3", model="A10", memory_gib=24)
    first, second = (a_job(key=key, worker=f"w:gpu3.{n}") for n, key in ((1, "a1"), (2, "a2")))
    assert worker_name("w", (gpu,), [], 0.5) == "w:gpu3.1"
    assert worker_name("w", (gpu,), [first], 0.5) == "w:gpu3.2"
    assert worker_name("w", (gpu,), [second], 0.5) == "w:gpu3.1"
    assert worker_name("w", (gpu,), [], None) == "w:gpu3"


def test_an_allocation_says_which_share_it_is():
    assert a_job().allocation.share is None
    half = GpuNeed(at_least=0.5, at_most=0.5)
    assert a_job(task=replace(a_job().task, need=half)).allocation.share == 0.5


def test_what_was_asked_before_the_server_knew_of_the_start_means_nothing():
    job = a_job()
    see(job, replace(RUNS, status=TaskStatus.QUEUED), 1.9)
    assert job.sighting is None
    see(a_job(announced_at=None), replace(RUNS, status=TaskStatus.QUEUED), 99)


def test_sightings_of_the_same_status_are_counted():
    job = a_job()
    for expected in (1, 2, 3):
        see(job, replace(RUNS, status=TaskStatus.CREATED), 3 + expected)
        assert (job.sighting.status, job.sighting.times) == (TaskStatus.CREATED, expected)
    see(job, RUNS, 9)
    assert job.sighting.times == 1
    see(job, None, 10)
    assert job.sighting.status is None


def test_the_first_time_that_a_stop_was_asked_for_is_kept():
    job = a_job()
    asks = replace(RUNS, status_message="task is stopping", abort_callback_timeout_s=30.0)
    see(job, asks, 5)
    see(job, replace(asks, is_abort_callback_done=True), 7)
    assert (job.sighting.is_stop_asked, job.sighting.stop_asked_at) == (True, at(5))
    assert (job.sighting.abort_callback_s, job.sighting.is_abort_callback_done) == (30.0, True)


def test_another_worker_counts_once_ours_was_seen_and_only_the_second_time():
    job = a_job()
    other = replace(RUNS, last_worker="another:gpu0")
    see(job, other, 3)  # the name of an earlier attempt
    assert not job.sighting.is_elsewhere
    see(job, RUNS, 4)
    see(job, other, 5)
    assert not job.sighting.is_elsewhere
    see(job, other, 6)
    assert job.sighting.is_elsewhere


def test_an_attempt_counts_as_running_until_its_result_is_known():
    job = a_job(started_at=at(3), ended_at=at(9), exit_code=0)
    assert (job.run("i").ended_at, job.run("i").result, job.run("i").exit_code) == (None, None, None)
    ended = job.run("i", RunResult.COMPLETED)
    assert (ended.instance, ended.ended_at, ended.exit_code) == ("i", at(9), 0)


def test_workers_are_named_after_their_gpus_or_the_lowest_free_number():
    gpus = [Gpu(index=i, uuid=f"g{i}", model="A10", memory_gib=24) for i in (0, 1)]
    assert worker_name("lab:a10:i1", gpus, []) == "lab:a10:i1:gpu0,1"
    busy = [a_job(worker="lab:a10:i1:cpu:0"), a_job(worker="lab:a10:i1:cpu:2")]
    assert worker_name("lab:a10:i1", (), busy) == "lab:a10:i1:cpu:1"
