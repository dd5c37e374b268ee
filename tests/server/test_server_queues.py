"""What waits: order, claims under a lease, tasks held back, tombstones."""

from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from queue import Queue

import pytest

from fleet.server import credentials
from fleet.server.app import ServerSettings, create_server
from tests.server.embedded import Client, Clock, basic
from tests.waiting import PATIENCE


def test_a_queue_gives_its_tasks_in_order_and_then_nothing(client: Client) -> None:
    queue = client.queue()
    tasks = [client.queued(queue, f"task {i}") for i in range(3)]
    assert [client.pop(queue) for _ in range(4)] == [*tasks, None]


def test_a_popped_task_is_still_queued_until_it_starts(client: Client) -> None:
    queue = client.queue()
    task = client.queued(queue)
    client.pop(queue)
    assert (client.status(task), client.waiting(queue)) == ("queued", [])


def test_get_next_task_with_a_task_pops_only_the_head(client: Client) -> None:
    queue = client.queue()
    first, second = client.queued(queue), client.queued(queue)
    assert client.pop(queue, task=second) is None
    assert client.pop(queue, task=first) == first
    assert client.pop(queue, task=second) == second


def test_remove_task_has_one_winner(client: Client) -> None:
    queue = client.queue()
    client.queued(queue)
    task = client.queued(queue)
    removed = [client.call("queues.remove_task", queue=queue, task=task)["removed"] for _ in range(2)]
    assert removed == [1, 0]


def test_claims_whose_answer_was_lost_come_back_to_the_head_in_their_order(client: Client) -> None:
    queue = client.queue()
    first, second, third, fourth = (client.queued(queue) for _ in range(4))
    client.pop(queue)
    client.clock.pass_s(1)
    client.call("queues.remove_task", queue=queue, task=second)
    client.clock.pass_s(43)
    client.server.run_chores()
    assert client.waiting(queue) == [third, fourth]
    client.enqueued.clear()
    client.clock.pass_s(2)
    client.server.run_chores()
    assert client.waiting(queue) == [first, second, third, fourth]
    assert client.enqueued == ["train"]


def test_whoever_claimed_a_task_and_is_long_about_to_start_it_keeps_it_by_signs_of_life(client: Client) -> None:
    queue = client.queue()
    slow, dead = client.queued(queue), client.queued(queue)
    assert [client.pop(queue), client.pop(queue)] == [slow, dead]
    for _ in range(5):
        client.clock.pass_s(30)
        client.call("tasks.ping", task=slow)
        client.server.run_chores()
    assert client.waiting(queue) == [dead]
    client.clock.pass_s(46)
    client.server.run_chores()
    assert client.waiting(queue) == [slow, dead]


def test_a_claim_finds_leases_that_ran_out_without_the_chores(client: Client) -> None:
    queue = client.queue()
    task = client.queued(queue)
    client.pop(queue)
    client.clock.pass_s(46)
    assert client.pop(queue) == task


@pytest.mark.parametrize("word", ["tasks.started", "tasks.dequeue", "tasks.stop", "tasks.reset", "tasks.delete"])
def test_a_claim_ends_when_the_task_is_no_longer_queued(client: Client, word: str) -> None:
    queue = client.queue()
    task = client.queued(queue)
    client.pop(queue)
    client.call(word, task=task, force=True)
    client.clock.pass_s(60)
    assert client.pop(queue) is None


def test_a_restart_gives_every_claim_its_whole_lease_again(open_client: Callable[[], Client]) -> None:
    client = open_client()
    queue = client.queue()
    client.queued(queue)
    client.pop(queue)
    client.clock.pass_s(300)  # the server was away for so long, and so was tasks.started
    client = open_client()
    assert client.pop(queue) is None
    client.clock.pass_s(46)
    assert client.pop(queue) is not None


def test_a_task_queued_again_is_held_back_until_its_worker_reports_idle(client: Client) -> None:
    queue = client.queue()
    task = client.running(queue, "w:0")
    client.call("tasks.stop", task=task, force=True)
    client.call("tasks.stopped", task=task, force=True)
    client.call("tasks.enqueue", task=task, queue=queue)
    assert client.waiting(queue) == [task]
    assert client.pop(queue) is None
    assert client.call("queues.remove_task", queue=queue, task=task)["removed"] == 0
    client.enqueued.clear()
    client.call("workers.status_report", worker="w:0", timestamp=2)
    assert client.enqueued == ["train"]
    assert client.pop(queue) == task


@pytest.mark.parametrize("word", ["unregisters", "reports another task", "is silent"])
def test_a_held_task_is_let_go_when_its_worker(client: Client, word: str) -> None:
    queue = client.queue()
    task = client.running(queue, "w:0")
    other = client.task("other")
    client.call("tasks.stopped", task=task, force=True)
    client.call("tasks.enqueue", task=task, queue=queue)
    client.clock.pass_s(5)
    assert client.pop(queue) is None
    client.enqueued.clear()
    if word == "unregisters":
        client.call("workers.unregister", worker="w:0")
    elif word == "reports another task":
        client.call("workers.status_report", worker="w:0", task=other, timestamp=2)
    else:
        client.clock.pass_s(8)
        client.server.run_chores()
    assert client.enqueued == ["train"]
    assert client.pop(queue) == task


def test_a_held_task_does_not_hold_up_the_one_behind_it(client: Client) -> None:
    queue = client.queue()
    task = client.running(queue, "w:0")
    client.call("tasks.stopped", task=task, force=True)
    client.call("tasks.enqueue", task=task, queue=queue)
    behind = client.queued(queue)
    assert client.pop(queue, task=behind) == behind
    assert client.pop(queue) is None


def test_moving_a_task_answers_its_new_position(client: Client) -> None:
    queue = client.queue()
    one, two, three = (client.queued(queue) for _ in range(3))
    moves = [
        ("move_task_to_front", three, 1, 0, [three, one, two]),
        ("move_task_backward", three, 1, 1, [one, three, two]),
        ("move_task_to_back", one, 1, 2, [three, two, one]),
        ("move_task_forward", one, 9, 0, [one, three, two]),
    ]
    for word, task, count, position, order in moves:
        assert client.call(f"queues.{word}", queue=queue, task=task, count=count) == {"position": position}
        assert client.waiting(queue) == order
    assert client.ask("queues.move_task_to_front", queue=queue, task="nobody").codes == (400, 703)
    assert client.call("queues.get_num_entries", queue=queue) == {"num": 3}
    assert client.call("queues.peek_task", queue=queue) == {"task": one}


def test_queue_names_are_unique_and_found_by_regex(client: Client) -> None:
    queue = client.queue("default")
    assert client.ask("queues.create", name="default").codes == (400, 801)
    assert client.ask("queues.create", name="ab").codes == (400, 800)
    assert client.ask("queues.get_by_id", queue="default").codes == (400, 701)
    assert client.call("queues.get_all", name="^default$", only_fields=["id"])["queues"] == [{"id": queue}]
    assert client.call("queues.get_all", name="def")["queues"][0]["id"] == queue
    assert client.call("queues.get_default") == {"id": queue, "name": "default"}


def test_a_polled_queue_always_answers_a_list_of_tags(client: Client) -> None:
    queue = client.queue()
    polled = client.call("queues.get_all", id=[queue], only_fields=["id", "tags"])
    assert polled == {"queues": [{"id": queue, "tags": []}]}


def test_a_deleted_queue_that_is_still_polled_is_switched_off_and_not_an_error(client: Client) -> None:
    queue = client.queue()
    task = client.queued(queue)
    assert client.ask("queues.delete", queue=queue).codes == (400, 702)
    assert client.call("queues.delete", queue=queue, force=True) == {"deleted": 1}
    assert client.status(task) == "created"
    polled = client.call("queues.get_all", id=[queue], only_fields=["id", "tags"])
    assert polled == {"queues": [{"id": queue, "tags": ["force_workers:off"]}]}
    assert client.pop(queue) is None
    assert client.call("queues.get_all")["queues"] == []
    assert client.queue("train") != queue  # the name is free again


def test_a_task_that_was_claimed_from_a_queue_that_is_deleted_does_not_stay_queued_nowhere(client: Client) -> None:
    queue = client.queue()
    task = client.queued(queue)
    assert client.pop(queue) == task
    client.call("queues.delete", queue=queue, force=True)
    client.clock.pass_s(44)
    client.server.run_chores()
    assert client.status(task) == "queued"  # whoever claimed it may still start it
    client.clock.pass_s(2)
    client.server.run_chores()
    assert client.status(task) == "created"
    client.call("tasks.enqueue", task=task, queue=client.queue())
    assert client.status(task) == "queued"


def test_a_queue_can_be_renamed_tagged_and_cleared(client: Client) -> None:
    queue = client.queue()
    task = client.queued(queue)
    answer = client.call("queues.update", queue=queue, name="renamed", tags=["force_workers:off"])
    assert answer == {"fields": {"name": "renamed", "tags": ["force_workers:off"]}, "updated": 1}
    assert client.call("queues.clear_queue", queue=queue) == {"removed_tasks": [task]}
    assert client.status(task) == "created"


def test_add_task_enqueues(client: Client) -> None:
    queue, task = client.queue(), client.task()
    assert client.call("queues.add_task", queue=queue, task=task) == {"added": 1}
    assert (client.status(task), client.waiting(queue)) == ("queued", [task])
    assert client.ask("queues.add_task", queue=queue, task=task).codes == (400, 706)


def test_the_chores_bring_a_lost_claim_back_by_themselves_and_tell_of_it(settings: ServerSettings) -> None:
    told: Queue[str] = Queue()
    server = create_server(replace(settings, lease=timedelta(seconds=0.2)), told.put)
    client = Client(server, Clock(), basic(credentials.create(server.database, "ada", "test")), [])
    server.start()
    queue = client.queue()
    task = client.queued(queue)
    assert told.get(timeout=5 * PATIENCE) == "train"
    assert client.pop(queue) == task
    assert told.get(timeout=5 * PATIENCE) == "train"
    assert client.waiting(queue) == [task]
    server.close()
