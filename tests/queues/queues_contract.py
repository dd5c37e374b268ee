"""What every fulfilment of Demand, Claims and Desk does; each test is run against the memory, the client and a server."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any, Protocol

import pytest

from fleet.errors import ServerRefused
from fleet.model import GpuNeed, Queue, Task
from fleet.queues.base import Claims, Demand, Desk, LogLine, Script, TaskState, TaskStatus
from fleet.queues.client import ClearMLServer
from fleet.queues.memory import MemoryServer

ONE = GpuNeed(at_least=1, at_most=1)
TRAIN = Queue(name="train", resources=("gpu",), need=ONE)
URGENT = Queue(name="urgent", resources=("gpu",), need=GpuNeed(at_least=2, at_most=4), priority=10)
SCRIPT = Script(entry_point="train.py --lr 0.1", diff="print('hello')\n")


class Server(Demand, Claims, Desk, Protocol):
    def waiting(self, queues: Sequence[Queue]) -> tuple[Task, ...]: ...
    def put_back(self, task: str, queue: str, why: str) -> None: ...
    def states(self, tasks: Sequence[str]) -> Mapping[str, TaskState]: ...


class People(Protocol):
    """What users do with the server, by other ways than ours."""

    def enqueue(self, task: str, queue: str) -> None: ...
    def ask_to_stop(self, task: str) -> None: ...
    def reset(self, task: str) -> None: ...
    def delete(self, task: str) -> None: ...
    def draft(self, name: str, tags: Sequence[str] = (), properties: Mapping[str, str] | None = None) -> str: ...
    def busy_workers(self) -> Mapping[str, str | None]: ...


class MemoryPeople:
    def __init__(self, server: MemoryServer) -> None:
        self._server = server
        self.enqueue, self.ask_to_stop = server.enqueue, server.ask_to_stop
        self.reset, self.delete = server.reset, server.delete

    def draft(self, name: str, tags: Sequence[str] = (), properties: Mapping[str, str] | None = None) -> str:
        return self._server.add(name, tags=tags, properties=properties)

    def busy_workers(self) -> Mapping[str, str | None]:
        return {worker.id: worker.task for worker in self._server.workers()}


class ApiPeople:
    """The same through the API, as the SDK and the web page do it."""

    def __init__(self, client: ClearMLServer) -> None:
        self._call: Callable[..., Any] = client._transport.call
        self._ids = client.ensure_queues

    def draft(self, name: str, tags: Sequence[str] = (), properties: Mapping[str, str] | None = None) -> str:
        section = {key: {"section": "properties", "name": key, "value": v} for key, v in (properties or {}).items()}
        body = {"name": name, "type": "training", "tags": list(tags), "hyperparams": {"properties": section}}
        return str(self._call("tasks.create", body).text("id"))

    def enqueue(self, task: str, queue: str) -> None:
        self._call("tasks.enqueue", {"task": task, "queue": self._ids([queue])[queue]})

    def ask_to_stop(self, task: str) -> None:
        self._call("tasks.stop", {"task": task})

    def reset(self, task: str) -> None:
        self._call("tasks.reset", {"task": task, "force": True})

    def delete(self, task: str) -> None:
        self._call("tasks.delete", {"task": task, "force": True})

    def busy_workers(self) -> Mapping[str, str | None]:
        workers = self._call("workers.get_all", {"last_seen": 3600}).objects("workers")
        return {worker.text("id"): worker.object("task").text_or_none("id") for worker in workers}


class QueuesContract:
    """Subclasses give the fixtures `server` and `people`."""

    @pytest.fixture(autouse=True)
    def _queues(self, server: Server) -> None:
        server.ensure_queues(["train", "urgent"])

    def put(self, people: People, *names: str, queue: str = "train", **wishes: Any) -> list[str]:
        tasks = [people.draft(name, **wishes) for name in names]
        for task in tasks:
            people.enqueue(task, queue)
        return tasks

    def ids(self, server: Server, *queues: Queue) -> list[str]:
        return [task.id for task in server.waiting(queues or (TRAIN,))]

    def take(self, server: Server, people: People, *, start: bool = True) -> str:
        """A task that is claimed and, unless told otherwise, runs."""
        (id_,) = self.put(people, "claimed")
        (task,) = server.waiting([TRAIN])
        assert server.claim(task)
        if start:
            server.started(id_, "w:gpu0", "claimed by a test")
            server.report("w:gpu0", id_, ["train"], {}, datetime.now(UTC))
        return id_

    def status(self, server: Server, task: str) -> TaskStatus:
        return server.states([task])[task].status

    # --- Demand

    def test_queues_that_are_missing_are_made_and_keep_their_ids(self, server: Server) -> None:
        first = server.ensure_queues(["train", "new one (a+b)"])
        assert server.ensure_queues(["new one (a+b)", "train"]) == first
        assert len(set(first.values())) == 2

    def test_what_waits_is_shown_by_priority_then_in_order(self, server: Server, people: People) -> None:
        first, second = self.put(people, "first", "second")
        (hot,) = self.put(people, "hot", queue="urgent")
        waiting = server.waiting([TRAIN, URGENT])
        assert [(t.id, t.queue, t.position, t.name) for t in waiting] == [
            (hot, "urgent", 0, "hot"),
            (first, "train", 0, "first"),
            (second, "train", 1, "second"),
        ]
        assert [t.need for t in waiting] == [URGENT.need, ONE, ONE]
        assert all(abs(datetime.now(UTC) - t.enqueued_at) < timedelta(minutes=5) for t in waiting)

    def test_an_empty_queue_and_an_unknown_one_hold_nothing(self, server: Server) -> None:
        unknown = Queue(name="unknown", resources=("gpu",), need=ONE)
        assert server.waiting([TRAIN, unknown]) == ()
        assert server.waiting([]) == ()

    def test_a_task_asks_for_itself_by_tag_and_property(self, server: Server, people: People) -> None:
        self.put(
            people, "tagged", tags=["gpus:2", "gpu_type:A100", "gpus:many", "mine"], properties={"gpu_memory": "40"}
        )
        (task,) = server.waiting([TRAIN])
        assert (task.need, task.gpu_type, task.gpu_memory_gib) == (GpuNeed(at_least=2, at_most=2), "a100", 40)
        assert task.notes == ("tag 'gpus:many' is ignored: a number of GPUs is 2, 0.5, 0 or 1-4",)

    def test_states_leaves_out_tasks_that_do_not_exist(self, server: Server, people: People) -> None:
        (task,) = self.put(people, "one")
        states = server.states([task, "0" * 32])
        assert {(s.id, s.name, s.status, s.status_message) for s in states.values()} == {
            (task, "one", TaskStatus.QUEUED, "")
        }
        assert server.states([]) == {}

    # --- Claims

    def test_a_claimed_task_is_in_its_queue_no_more(self, server: Server, people: People) -> None:
        first, second = self.put(people, "first", "second")
        (head, _) = server.waiting([TRAIN])
        assert server.claim(head)
        assert not server.claim(head)
        assert (head.id, self.ids(server)) == (first, [second])

    def test_a_task_in_the_middle_is_claimed_without_touching_the_others(self, server: Server, people: People) -> None:
        first, second, third = self.put(people, "first", "second", "third")
        assert server.claim(server.waiting([TRAIN])[1])
        assert self.ids(server) == [first, third]
        assert self.status(server, second) is TaskStatus.QUEUED

    def test_a_claim_by_an_old_position_takes_the_same_task(self, server: Server, people: People) -> None:
        _first, second = self.put(people, "first", "second")
        head, _ = server.waiting([TRAIN])
        server.put_back(second, "train", "moved to the head in between")
        assert server.claim(head)
        assert self.ids(server) == [second]

    def test_a_deleted_task_cannot_be_claimed(self, server: Server, people: People) -> None:
        (id_,) = self.put(people, "one")
        (task,) = server.waiting([TRAIN])
        people.delete(id_)
        assert not server.claim(task)

    def test_a_claimed_task_can_be_started_and_ended_repeatedly(self, server: Server, people: People) -> None:
        task = self.take(server, people)
        server.started(task, "w:gpu0", "again")
        assert self.status(server, task) is TaskStatus.IN_PROGRESS
        server.completed(task, "exit 0")
        server.completed(task, "exit 0")
        assert self.status(server, task) is TaskStatus.COMPLETED

    def test_a_task_fails_or_is_stopped(self, server: Server, people: People) -> None:
        first, second = self.take(server, people), self.take(server, people)
        server.failed(first, "exit 1")
        server.stopped(second, "by its user")
        assert [self.status(server, task) for task in (first, second)] == [TaskStatus.FAILED, TaskStatus.STOPPED]

    def test_an_abort_is_seen_while_the_task_runs(self, server: Server, people: People) -> None:
        task = self.take(server, people)
        people.ask_to_stop(task)
        state = server.states([task])[task]
        assert (state.status, state.last_worker) == (TaskStatus.IN_PROGRESS, "w:gpu0")
        assert "stopping" in state.status_message

    def test_a_ping_is_a_sign_of_life(self, server: Server, people: People) -> None:
        task = self.take(server, people)
        before = server.states([task])[task].last_update
        server.ping(task)
        after = server.states([task])[task].last_update
        assert before is not None
        assert after is not None
        assert after >= before

    def test_the_console_comes_back_in_order_and_only_once(self, server: Server, people: People) -> None:
        task = self.take(server, people)
        at = datetime.now(UTC)
        server.send_log(
            task, "w:gpu0", [LogLine(at=at, text="one\n"), LogLine(at=at + timedelta(seconds=1), text="zwei ü\n")]
        )
        texts, position = server.log(task)
        assert "".join(texts) == "one\nzwei ü\n"
        server.send_log(task, "w:gpu0", [LogLine(at=at + timedelta(seconds=2), text="three\n")])
        texts, last = server.log(task, position)
        assert texts == ("three\n",)
        assert server.log(task, last) == ((), last)

    def test_workers_come_report_and_go(self, server: Server, people: People) -> None:
        task = self.take(server, people)
        server.register("fleet:w1", ["train"], 90, ["fleet"])
        stats = {"cpu_usage": [1.5], "memory_used": 100.0, "gpu_usage": [50.0], "gpu_memory_used": [10]}
        server.report("fleet:w1", task, ["train"], stats, datetime.now(UTC))
        assert people.busy_workers()["fleet:w1"] == task
        server.report("fleet:w1", None, ["train"], stats, datetime.now(UTC))
        assert people.busy_workers()["fleet:w1"] is None
        server.unregister("fleet:w1")
        server.unregister("fleet:w1")
        assert "fleet:w1" not in people.busy_workers()

    # --- the way back

    def test_a_task_that_is_claimed_and_never_started_is_lost_until_put_back(
        self, server: Server, people: People
    ) -> None:
        (waits,) = self.put(people, "waits")
        (task,) = server.waiting([TRAIN])
        assert server.lost([TRAIN]) == ()
        server.claim(task)
        assert [state.id for state in server.lost([TRAIN])] == [waits]
        assert server.lost([URGENT]) == ()
        self.put(people, "behind")
        server.put_back(waits, "train", "its machine was lost")
        assert server.lost([TRAIN]) == ()
        assert self.ids(server)[0] == waits

    def test_a_running_task_goes_back_to_the_head(self, server: Server, people: People) -> None:
        task = self.take(server, people)
        (other,) = self.put(people, "other")
        server.put_back(task, "train", "its machine was preempted")
        server.put_back(task, "train", "its machine was preempted")
        assert self.ids(server) == [task, other]
        assert self.status(server, task) is TaskStatus.QUEUED
        assert server.lost([TRAIN]) == ()

    @pytest.mark.parametrize("end", ["completed", "failed", "stopped"])
    def test_an_ended_task_is_not_put_back(self, server: Server, people: People, end: str) -> None:
        task = self.take(server, people)
        getattr(server, end)(task, "it ended")
        server.put_back(task, "train", "its machine was lost")
        assert (self.status(server, task), self.ids(server)) == (TaskStatus(end), [])

    def test_a_task_that_its_user_reset_or_deleted_is_not_put_back(self, server: Server, people: People) -> None:
        reset, deleted = self.take(server, people), self.take(server, people)
        people.reset(reset)
        people.delete(deleted)
        for task in (reset, deleted):
            server.put_back(task, "train", "its machine was lost")
        assert (self.status(server, reset), self.ids(server)) == (TaskStatus.CREATED, [])

    def test_a_task_whose_user_asked_for_its_end_is_stopped_instead(self, server: Server, people: People) -> None:
        task = self.take(server, people)
        people.ask_to_stop(task)
        server.put_back(task, "train", "its machine was lost")
        assert (self.status(server, task), self.ids(server)) == (TaskStatus.STOPPED, [])

    def test_a_task_that_we_ask_to_save_itself_goes_back_to_the_head_and_is_resumable_until_it_is_reset(
        self, server: Server, people: People
    ) -> None:
        task = self.take(server, people)
        (other,) = self.put(people, "other")
        server.ask_to_save(task, "preempted")
        state = server.states([task])[task]
        assert ("stopping" in state.status_message, state.is_stop_asked) == (True, False)
        server.mark_resumable(task)
        server.put_back(task, "train", "preempted")
        assert [(t.id, t.resumes) for t in server.waiting([TRAIN])] == [(task, 1), (other, 0)]
        assert self.status(server, task) is TaskStatus.QUEUED
        people.reset(task)
        people.enqueue(task, "urgent")
        assert [(t.id, t.resumes) for t in server.waiting([URGENT])] == [(task, 0)]

    def test_a_user_who_stops_a_task_while_it_saves_itself_is_obeyed(self, server: Server, people: People) -> None:
        task = self.take(server, people)
        server.ask_to_save(task, "preempted")
        people.ask_to_stop(task)
        assert server.states([task])[task].is_stop_asked
        server.put_back(task, "train", "preempted")
        assert (self.status(server, task), self.ids(server)) == (TaskStatus.STOPPED, [])

    def test_a_task_that_its_user_moved_to_another_queue_stays_there(self, server: Server, people: People) -> None:
        task = self.take(server, people, start=False)
        people.reset(task)
        people.enqueue(task, "urgent")
        server.put_back(task, "train", "its machine was lost")
        assert self.ids(server, TRAIN, URGENT) == [task]
        assert server.waiting([URGENT])[0].id == task

    # --- Desk

    def test_a_submitted_script_waits_in_its_queue(self, server: Server) -> None:
        task = server.submit(name="my run", project="mine", queue="train", script=SCRIPT, tags=["gpus:2"])
        (waiting,) = server.waiting([TRAIN])
        assert (waiting.id, waiting.name, waiting.project, waiting.need.at_least) == (task, "my run", "mine", 2)

    def test_submitting_to_an_unknown_queue_names_the_one_that_is_meant_or_those_that_exist(
        self, server: Server
    ) -> None:
        for near in ("trian", "Train"):
            with pytest.raises(ServerRefused) as refused:
                server.submit(name="my run", project="mine", queue=near, script=SCRIPT)
            assert str(refused.value) == f"no queue is called '{near}'; did you mean train?"
        with pytest.raises(ServerRefused, match="no queue is called 'gpu_box'; there are ") as refused:
            server.submit(name="my run", project="mine", queue="gpu_box", script=SCRIPT)
        assert all(name in str(refused.value) for name in ("train", "urgent"))

    def test_a_verb_on_an_unknown_task_is_refused(self, server: Server) -> None:
        with pytest.raises(ServerRefused):
            server.completed("0" * 32, "exit 0")


class ConcurrentContract(QueuesContract):
    """For those that are shared between threads."""

    def test_of_many_who_claim_at_once_one_gets_the_task(self, server: Server, people: People) -> None:
        self.put(people, *(f"task {i}" for i in range(4)))
        tasks = server.waiting([TRAIN])
        won: list[str] = []
        ready = threading.Barrier(4)

        def claim_all() -> None:
            ready.wait()
            won.extend(task.id for task in tasks if server.claim(task))

        threads = [threading.Thread(target=claim_all) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert sorted(won) == sorted(task.id for task in tasks)
