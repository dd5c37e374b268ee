"""What the server is told of a task: in order, whole, and however long it is away."""

import errno
import threading
from collections.abc import Callable
from datetime import UTC, datetime

import pytest

from fleet.errors import ServerRefused, ServerUnreachable
from fleet.model import GpuNeed, Queue, Reason, RunResult, Task
from fleet.queues.base import TaskStatus
from fleet.queues.memory import MemoryServer
from fleet.supervisor import sender as sender_module
from fleet.supervisor.events import Announced, Settled, Watched
from fleet.supervisor.instructions import StopTask
from fleet.supervisor.jobs import Job
from fleet.supervisor.sender import Ending, Outbox, Sender
from fleet.supervisor.spool import Spool
from tests.waiting import wait_for

TRAIN = Queue(name="train", resources=("lab",), need=GpuNeed(at_least=1, at_most=1))


class Moody(MemoryServer):
    """A server that is away, or refuses, when it is told to; it remembers what was asked of it."""

    def __init__(self) -> None:
        super().__init__(lambda: datetime.now(UTC))
        self.ensure_queues(["train"])
        self.calls: list[str] = []
        self.is_away = False
        self.refuses: set[str] = set()
        self.during_log: Callable[[], None] = lambda: None

    def __getattribute__(self, name: str):
        verb = super().__getattribute__(name)
        if name not in ("started", "send_log", "states", "completed", "failed", "stopped", "put_back"):
            return verb

        def call(*args):
            if self.is_away:
                raise ServerUnreachable("away")
            self.calls.append(name)
            if name == "send_log":
                self.during_log()
            if name in self.refuses:
                raise ServerRefused("no", 400, 110)
            return verb(*args)

        return call

    def a_claimed_task(self) -> Task:
        id = self.add("mnist")
        self.enqueue(id, "train")
        (task,) = (task for task in self.waiting([TRAIN]) if task.id == id)
        assert self.claim(task)
        return task


@pytest.fixture
def server() -> Moody:
    return Moody()


@pytest.fixture
def told() -> list:
    return []


@pytest.fixture
def sender(server, told, monkeypatch):
    monkeypatch.setattr(sender_module, "FIRST_DELAY_S", 0.02)
    monkeypatch.setattr(sender_module, "SEND_EVERY_S", 0.05)
    sender = Sender(server, lambda: datetime.now(UTC), told.append, lambda at: None)
    is_over = threading.Event()

    def loop() -> None:
        while not is_over.is_set():
            sender.step()

    threading.Thread(target=loop, daemon=True).start()
    yield sender
    is_over.set()


@pytest.fixture
def outbox(server, sender, tmp_path):
    task = server.a_claimed_task()
    box = Outbox(key="a1", task=task, worker="w", spool=Spool(tmp_path / "spool"))
    sender.add(box)
    return box


def say(sender: Sender, box: Outbox, text: str) -> None:
    box.spool.append(datetime.now(UTC), text)
    sender.has_text(box.key)


def settled(told: list) -> RunResult:
    return wait_for(lambda: [event for event in told if isinstance(event, Settled)], 5)[0].result


def test_the_start_then_the_log_then_the_result(server, sender, outbox, told):
    sender.announce("a1")
    say(sender, outbox, "one\n")
    say(sender, outbox, "two\n")
    sender.finish("a1", Ending(exit_code=0, stop=None))
    assert settled(told) is RunResult.COMPLETED
    assert server.calls[:2] == ["states", "started"]
    assert server.calls[-2:] == ["states", "completed"]
    assert "".join(server.log(outbox.task.id)[0]) == "one\ntwo\n"
    assert isinstance(told[0], Announced)


def test_while_the_server_is_away_nothing_is_lost_or_reordered(server, sender, outbox, told):
    server.is_away = True
    sender.announce("a1")
    for number in range(2000):
        say(sender, outbox, f"{number}\n")
    sender.finish("a1", Ending(exit_code=3, stop=None))
    assert told == []
    server.is_away = False
    assert settled(told) is RunResult.FAILED
    assert "".join(server.log(outbox.task.id)[0]) == "".join(f"{number}\n" for number in range(2000))
    assert server.states([outbox.task.id])[outbox.task.id].status is TaskStatus.FAILED


def test_a_spool_that_cannot_be_read_for_a_moment_is_read_again_and_the_task_does_not_stay_for_ever(
    server, sender, outbox, told, monkeypatch, caplog
):
    faults = [OSError(errno.EMFILE, "Too many open files")] * 3
    peek = outbox.spool.peek

    def peek_with_faults(limit_bytes: int):
        if faults:
            raise faults.pop()
        return peek(limit_bytes)

    monkeypatch.setattr(outbox.spool, "peek", peek_with_faults)
    sender.announce("a1")
    say(sender, outbox, "one\n")
    sender.finish("a1", Ending(exit_code=0, stop=None))
    assert settled(told) is RunResult.COMPLETED
    assert "".join(server.log(outbox.task.id)[0]) == "one\n"
    assert caplog.messages.count("messages of a task not sent") == 3


def test_the_result_of_a_task_that_ends_while_its_log_is_sent_does_not_wait(server, sender, outbox, told, monkeypatch):
    monkeypatch.setattr(sender_module, "SEND_EVERY_S", 3600.0)
    server.during_log = lambda: sender.finish("a1", Ending(exit_code=0, stop=None))
    sender.announce("a1")
    say(sender, outbox, "the last words\n")
    assert settled(told) is RunResult.COMPLETED


def test_the_result_waits_for_the_whole_log(server, sender, outbox, told, monkeypatch):
    monkeypatch.setattr(sender_module, "BATCH_BYTES", 50)
    sender.announce("a1")
    for number in range(100):
        outbox.spool.append(datetime.now(UTC), f"line {number}\n")
    sender.finish("a1", Ending(exit_code=0, stop=None))
    settled(told)
    assert server.calls[-3:] == ["send_log", "states", "completed"]
    assert server.calls.count("send_log") > 10


def test_a_log_that_is_refused_does_not_hold_up_the_result(server, sender, outbox, told):
    server.refuses = {"send_log", "started"}
    sender.announce("a1")
    say(sender, outbox, "nobody wants this\n")
    sender.finish("a1", Ending(exit_code=0, stop=None))
    assert settled(told) is RunResult.REQUEUED  # as far as the server knows it never started
    assert "completed" not in server.calls


def test_a_task_that_its_script_marked_itself_is_left_as_it_is(server, sender, outbox, told):
    sender.announce("a1")
    wait_for(lambda: told, 5)
    server.failed(outbox.task.id, "the script said so")
    sender.finish("a1", Ending(exit_code=0, stop=None))
    assert settled(told) is RunResult.FAILED
    assert server.calls.count("completed") == 0


def test_a_task_that_never_started_goes_back_to_the_head_of_its_queue(server, sender, outbox, told):
    stop = StopTask(task=outbox.task.id, reason=Reason(code="end", text="ending"), then=RunResult.REQUEUED)
    sender.finish("a1", Ending(exit_code=None, stop=stop))
    assert settled(told) is RunResult.REQUEUED
    assert [task.id for task in server.waiting([TRAIN])] == [outbox.task.id]


def test_a_deleted_task_is_nobody_s_business(server, sender, outbox, told):
    sender.announce("a1")
    wait_for(lambda: told, 5)
    server.delete(outbox.task.id)
    say(sender, outbox, "late\n")
    sender.finish("a1", Ending(exit_code=-15, stop=None))
    assert settled(told) is RunResult.STOPPED


def test_the_spool_is_gone_when_all_is_told(sender, outbox, told, tmp_path):
    sender.announce("a1")
    sender.finish("a1", Ending(exit_code=0, stop=None))
    settled(told)
    assert not (tmp_path / "spool").exists()


def test_a_chatty_task_is_sent_in_batches(server, sender, outbox, told, monkeypatch):
    monkeypatch.setattr(sender_module, "SEND_EVERY_S", 30.0)
    sender.announce("a1")
    say(sender, outbox, "first\n")
    wait_for(lambda: server.log(outbox.task.id)[1], 5)  # at once
    for number in range(500):
        say(sender, outbox, f"{number}\n")
    sender.finish("a1", Ending(exit_code=0, stop=None))  # and the rest at once with the end
    settled(told)
    assert server.calls.count("send_log") == 2


def test_what_its_user_stopped_before_its_agent_ran_stays_stopped(server, sender, outbox, told):
    """Between the claim and the start lie minutes where an image is pulled: its start took the user's word back."""
    server.ask_to_stop(outbox.task.id)
    sender.announce("a1")
    announced, seen = wait_for(lambda: len(told) == 2 and told)
    assert isinstance(announced, Announced)
    assert isinstance(seen, Watched)
    assert (announced.is_ours, seen.asked, seen.asked_at) == (False, ("a1",), announced.at)
    assert seen.states[outbox.task.id].status is TaskStatus.STOPPED
    assert server.states([outbox.task.id])[outbox.task.id].status is TaskStatus.STOPPED


def test_a_task_that_was_given_to_another_while_ours_was_made_ready_is_not_taken_from_it(server, sender, outbox, told):
    """Its claim had lapsed while the server was not reached, and two ran it."""
    server.started(outbox.task.id, "another", "its agent was started")
    server.calls.clear()
    sender.announce("a1")
    _, seen = wait_for(lambda: len(told) == 2 and told)
    assert isinstance(seen, Watched)
    assert "started" not in server.calls
    job = Job(key="a1", task=outbox.task, gpus=(), worker="w", claimed_at=seen.asked_at, announced_at=seen.asked_at)
    job.see(seen.states[outbox.task.id], seen.asked_at, seen.asked_at)
    assert job.is_elsewhere
