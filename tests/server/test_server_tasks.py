"""A task's life: the status machine, stop, reset, clone, edit, find."""

from typing import Any

import pytest
import sqlalchemy as sa

from fleet.server import status, tasks
from fleet.server.call import Call, Identity
from fleet.server.refusal import Refusal
from fleet.server.tables import TASK
from tests.server.embedded import Client

AGENT = {"force": True, "status_reason": "", "status_message": ""}


def test_the_words_of_an_agent_are_idempotent_and_started_is_set_once(client: Client) -> None:
    queue = client.queue()
    task = client.running(queue)
    began = client.held(task)["started"]
    for message in ("launch by agent", "starting execution soon", "worker started execution"):
        client.clock.pass_s(1)
        client.call("tasks.started", task=task, force=True, status_message=message)
    assert client.call("tasks.dequeue", task=task, new_status="in_progress")["updated"] == 1
    assert client.held(task)["started"] == began
    for _ in range(2):
        answer = client.call("tasks.completed", task=task, status_reason="worker execution done", status_message="m")
    assert answer["fields"]["status"] == "completed"
    assert client.held(task)["active_duration"] == 3


def test_a_wrong_change_is_refused_unless_forced(client: Client) -> None:
    task = client.task()
    assert client.ask("tasks.completed", task=task).codes == (400, 110)
    assert client.status(task) == "created"
    client.call("tasks.failed", task=task, force=True)
    assert client.status(task) == "failed"
    client.call("tasks.publish", task=task)
    assert client.ask("tasks.stopped", task=task).codes == (400, 110)


@pytest.mark.parametrize(
    ("current", "allowed"),
    [
        ("created", {"queued", "in_progress"}),
        ("queued", {"created", "in_progress", "stopped"}),
        ("in_progress", {"stopped", "failed", "created", "completed"}),
        ("published", set()),
    ],
)
def test_the_status_machine(current: str, allowed: set[str]) -> None:
    assert {new for new in status.ALL if status.may_become(current, new)} == allowed | {current}


def test_an_unknown_task_is_400_101_for_every_verb(client: Client) -> None:
    for word in ("get_by_id", "started", "completed", "stop", "reset", "edit", "enqueue", "delete", "clone"):
        assert client.ask(f"tasks.{word}", task="nobody").codes == (400, 101)
    assert client.call("tasks.get_all", id=["nobody"]) == {"tasks": []}


def test_stop_asks_a_living_agent_by_the_word_stopping(client: Client) -> None:
    task = client.running(client.queue())
    fields = client.call("tasks.stop", task=task)["fields"]
    assert (fields["status"], fields["status_message"]) == ("in_progress", "stopping")
    # Neither the agent's repeated words nor its dequeue may take the wish back.
    client.call("tasks.started", task=task, **AGENT)
    client.call("tasks.dequeue", task=task, new_status="in_progress")
    polled = client.call("tasks.get_all", id=[task], only_fields=["status", "status_message"])["tasks"]
    assert polled == [{"status": "in_progress", "status_message": "stopping"}]
    client.call("tasks.stopped", task=task)
    assert client.status(task) == "stopped"


@pytest.mark.parametrize("case", ["queued", "development", "no worker", "silent", "worker gone"])
def test_stop_ends_at_once_what_nobody_would_end(client: Client, case: str) -> None:
    queue = client.queue()
    if case == "queued":
        task = client.queued(queue)
    elif case == "no worker":
        task = client.task()
        client.call("tasks.started", task=task)
    else:
        task = client.running(queue)
    if case == "development":
        client.call("tasks.edit", task=task, force=True, system_tags=["development"])
    elif case == "silent":
        client.clock.pass_s(601)
    elif case == "worker gone":
        client.call("workers.unregister", worker="w:0")
    assert client.call("tasks.stop", task=task)["fields"]["status"] == "stopped"
    assert client.waiting(queue) == []


def test_enqueue_remembers_where_the_task_came_from_and_ends_its_development(client: Client) -> None:
    queue, task = client.queue(), client.task(system_tags=["development", "kept"])
    client.call("tasks.started", task=task)
    client.call("tasks.stopped", task=task)
    answer = client.call("tasks.enqueue", task=task, queue=queue, verify_watched_queue=False)
    assert (answer["queued"], answer["updated"]) == (1, 1)
    assert answer["fields"]["enqueue_status"] == "stopped"
    assert answer["fields"]["execution.queue"] == queue
    assert client.held(task)["system_tags"] == ["kept"]
    assert client.ask("tasks.enqueue", task=task, queue=queue).codes == (400, 706)
    assert client.call("tasks.dequeue", task=task)["fields"]["status"] == "stopped"
    assert client.waiting(queue) == []


def test_dequeue_tells_an_agent_that_requires_a_queue_whether_the_task_was_in_one(client: Client) -> None:
    task = client.task()
    assert client.call("tasks.dequeue", task=task, new_status="in_progress")["updated"] == 0
    assert client.status(task) == "created"
    client.call("tasks.started", task=task)
    assert client.call("tasks.dequeue", task=task, new_status="in_progress")["updated"] == 1


def test_a_status_that_somebody_changed_meanwhile_is_not_overwritten(client: Client) -> None:
    task = client.task()
    with client.server.database.write() as connection:
        seen = connection.execute(sa.select(TASK).where(TASK.c.id == task)).one()
        connection.execute(sa.update(TASK).values(status="queued"))
        call = Call(
            name="test",
            fields={},
            identity=Identity(user="", access_key="", company=""),
            at=client.clock(),
            connection=connection,
            settings=client.server.settings,
            is_writing=True,
        )
        with pytest.raises(Refusal) as refused:
            tasks.change_status(call, seen, status.IN_PROGRESS)
    assert (refused.value.code, refused.value.subcode) == (400, 121)


def test_enqueue_by_name_makes_the_queue_and_can_say_whether_anybody_listens(client: Client) -> None:
    task = client.task()
    answer = client.call("tasks.enqueue", task=task, queue_name="new one", verify_watched_queue=True)
    assert answer["queue_watched"] is False
    assert client.enqueued == ["new one"]


def test_reset_leaves_nothing_of_the_run(client: Client) -> None:
    queue = client.queue()
    task = client.running(queue)
    client.call("tasks.edit", task=task, force=True, runtime={"progress": "50"}, hyperparams=PARAMS)
    artifact = {"key": "a", "type": "dict", "uri": "http://x", "mode": "output"}
    given = {**artifact, "key": "b", "mode": "input"}
    client.call("tasks.add_or_update_artifacts", task=task, artifacts=[artifact, given], force=True)
    client.report({"type": "log", "task": task, "msg": "old", "timestamp": 1}, scalar(task, 0, 1.0))
    answer = client.call("tasks.reset", task=task, force=True)
    assert (answer["fields"]["status"], answer["updated"]) == ("created", 1)
    held = client.held(task)
    assert held["runtime"] == {}
    assert [a["key"] for a in held["execution"]["artifacts"]] == ["b"]
    assert held["last_metrics"] == {}
    assert held["hyperparams"] == PARAMS
    assert not {"last_worker", "started", "completed"} & set(held)
    assert client.console(task) == []


def test_a_clone_has_what_makes_the_task_and_nothing_of_its_run(client: Client) -> None:
    queue = client.queue()
    project = client.call("projects.create", name="proj")["id"]
    source = client.running(queue)
    client.call(
        "tasks.edit",
        task=source,
        force=True,
        project=project,
        hyperparams=PARAMS,
        runtime={"x": 1},
        script={"diff": "print(1)"},
        container={"image": "ubuntu"},
        configuration={"c": {"name": "c", "value": "1", "type": "t"}},
    )
    clone = client.call("tasks.clone", task=source, new_task_name="clone", new_task_parent=source)["id"]
    held, of = client.held(clone), client.held(source)
    for field in ("hyperparams", "container", "configuration", "script", "project", "type"):
        assert held[field] == of[field]
    assert (held["status"], held["runtime"], held["parent"], held["name"]) == ("created", {}, source, "clone")
    assert not {"last_worker", "started", "queue"} & (set(held) | set(held["execution"]))


def test_edit_replaces_whole_fields_but_keeps_the_rest_of_a_script(client: Client) -> None:
    task = client.task(hyperparams=PARAMS, script={"diff": "print(1)", "binary": "python3.11"})
    client.call("tasks.edit", task=task, hyperparams={"Other": {}}, script={"diff": "print(2)"})
    held = client.held(task)
    assert held["hyperparams"] == {"Other": {}}
    assert (held["script"]["binary"], held["script"]["diff"]) == ("python3.11", "print(2)")


@pytest.mark.parametrize("pip", ["clearml == 2.1.12\n", ["attrs==26.1.0", "clearml==2.1.12"]])
def test_requirements_are_kept_as_they_come(client: Client, pip: Any) -> None:
    task = client.task()
    client.call("tasks.set_requirements", task=task, requirements={"pip": pip, "conda": ""})
    assert client.held(task)["script"]["requirements"] == {"pip": pip, "conda": ""}


def test_hyper_parameters_can_be_edited_read_and_deleted_one_by_one(client: Client) -> None:
    task = client.task(hyperparams=PARAMS)
    item = {"section": "properties", "name": "gpus", "value": "2"}
    client.call("tasks.edit_hyper_params", task=task, hyperparams=[item], replace_hyperparams="none")
    (found,) = client.call("tasks.get_hyper_params", tasks=[task])["params"]
    assert {p["name"]: p["value"] for p in found["hyperparams"]} == {"lr": "0.1", "gpus": "2"}
    client.call("tasks.delete_hyper_params", task=task, hyperparams=[{"section": "Args", "name": "lr"}])
    assert client.held(task)["hyperparams"] == {"Args": {}, "properties": {"gpus": item}}


def test_what_is_asked_for_in_part_is_nested_and_never_null(client: Client) -> None:
    task = client.task(script={"requirements": {"pip": "x"}}, runtime={"_abort_poll_freq": "1"})
    fields = ["status", "status_message", "script.requirements", "runtime._abort_callback_timeout"]
    (found,) = client.call("tasks.get_all", id=[task], only_fields=fields, search_hidden=True)["tasks"]
    assert found == {
        "status": "created",
        "status_message": "",
        "script": {"requirements": {"pip": "x"}},
        "runtime": {},
    }
    held = client.held(task)
    assert held["output"] == {}
    assert (held["tags"], held["execution"]["artifacts"], held["models"]) == ([], [], {"input": [], "output": []})


def test_tasks_are_found_by_what_the_sdk_filters_for(client: Client) -> None:
    project = client.call("projects.create", name="proj")["id"]
    one = client.task("train a", tags=["best", "gpu"], project=project, comment="first")
    two = client.task("train b", tags=["debug"], system_tags=["archived"], script={"repository": "git@x/y"})
    three = client.task("test (1)")
    client.call("tasks.started", task=three)

    def found(**filters: Any) -> list[str]:
        return [t["id"] for t in client.call("tasks.get_all", only_fields=["id"], **filters)["tasks"]]

    assert found() == [one, two, three]
    assert found(name="^train") == [one, two]
    assert found(name=r"^test\ \(1\)$") == [three]
    assert found(project=[project]) == [one]
    assert found(status=["in_progress"]) == [three]
    assert found(status=["created"], order_by=["-name"]) == [two, one]
    assert found(tags=["best", "debug"]) == [one, two]
    assert found(tags=["-debug"]) == [one, three]
    assert found(tags=["__$all", "best", "gpu"]) == [one]
    assert found(tags=["__$all", "best", "__$not", "gpu"]) == []
    assert found(tags=["__$or", "debug", "__$not", "best", "__$and", "__$not", "debug"]) == [three]
    assert found(system_tags=["__$all", "__$not", "archived"]) == [one, three]
    assert found(order_by=["created"], page=1, page_size=2) == [three]
    assert found(order_by=["-started"], page=0, page_size=1) == [three]
    assert found(_any_={"fields": ["comment", "script.repository"], "pattern": "first|git@"}) == [one, two]
    assert found(_all_={"fields": ["name", "comment"], "pattern": "."}) == [one]
    assert found(search_text="archived|first") == [one]
    assert found(id=[three, one]) == [one, three]
    assert found(type=["inference"]) == []


def test_tasks_of_a_queue_are_found_by_it(client: Client) -> None:
    queue, other = client.queue(), client.queue("other")
    task = client.queued(queue)
    client.queued(other)
    found = client.call("tasks.get_all", **{"execution.queue": [queue], "status": ["queued"]})["tasks"]
    assert [t["id"] for t in found] == [task]


def test_many_at_once_succeed_and_fail_one_by_one(client: Client) -> None:
    queue, task = client.queue(), client.task()
    answer = client.call("tasks.enqueue_many", ids=[task, "nobody"], queue=queue)
    assert [s["id"] for s in answer["succeeded"]] == [task]
    assert [(f["id"], f["error"]["codes"]) for f in answer["failed"]] == [("nobody", [400, 101])]


def test_a_deleted_task_is_gone_from_everywhere(client: Client) -> None:
    queue = client.queue()
    task = client.queued(queue)
    client.report({"type": "log", "task": task, "msg": "x", "timestamp": 1})
    assert client.ask("tasks.delete", task=task).codes == (400, 123)
    assert client.call("tasks.delete", task=task, force=True)["deleted"] is True
    assert client.waiting(queue) == []
    assert client.call("tasks.get_all", id=[task])["tasks"] == []
    assert client.console(task) == []


def test_archived_tasks_carry_the_tag(client: Client) -> None:
    task = client.task()
    assert client.call("tasks.archive", tasks=[task]) == {"archived": 1}
    assert client.held(task)["system_tags"] == ["archived"]


def test_models_of_a_task(client: Client) -> None:
    task = client.task()
    model = client.call("models.create", uri="file:///m", name="Anonymous model", ready=False, task=task)["id"]
    client.call("models.edit", model=model, name="weights", framework="custom", tags=["a"], design={"design": ""})
    client.call("tasks.add_or_update_model", task=task, name="w", model=model, type="output")
    assert client.held(task)["models"]["output"][0]["model"] == model
    held = client.call("models.get_by_id", model=model)["model"]
    assert (held["name"], held["framework"], held["ready"], held["task"]) == ("weights", "custom", False, task)
    assert client.call("models.get_all", task=[task], only_fields=["id"])["models"] == [{"id": model}]
    assert client.ask("models.get_by_id", model="nobody").codes == (400, 201)


def test_projects_are_paths(client: Client) -> None:
    project = client.call("projects.create", name="lab/vision", description="d")["id"]
    parent = client.call("projects.get_all", name="^lab$", only_fields=["id"])["projects"][0]["id"]
    held = client.call("projects.get_by_id", project=project)["project"]
    assert (held["basename"], held["path"], held["description"]) == ("vision", [parent], "d")
    assert client.ask("projects.create", name="lab/vision").codes == (400, 801)
    client.call("projects.create", name="/".join(["deep"] * 1200))
    client.call("projects.update", project=project, tags=["t"])
    client.task(project=project)
    (shown,) = client.call("projects.get_all_ex", id=[project], include_stats=True)["projects"]
    assert (shown["tags"], shown["stats"]["active"]["status_count"]) == (["t"], {"created": 1})
    assert client.ask("tasks.create", name="task", type="training", project="nobody").codes == (400, 401)


def test_the_watchdog_stops_what_gives_no_sign_of_life(client: Client) -> None:
    queue = client.queue()
    silent, alive = client.running(queue, "w:0"), client.running(queue, "w:1")
    client.clock.pass_s(7000)
    client.call("tasks.ping", task=alive)
    client.clock.pass_s(300)
    client.server.run_chores()
    assert (client.status(silent), client.status(alive)) == ("stopped", "in_progress")
    assert client.held(silent)["status_message"] == "Forced stop (non-responsive)"


def test_after_an_outage_the_watchdog_gives_agents_time_to_come_back(open_client: Any) -> None:
    client = open_client()
    task = client.running(client.queue())
    client.clock.pass_s(10_000)
    client = open_client()
    client.server.run_chores()
    assert client.status(task) == "in_progress"


def test_a_host_that_slept_or_whose_clock_was_set_judges_nobody_who_could_not_be_heard(client: Client) -> None:
    queue = client.queue()
    task, claimed = client.running(queue), client.queued(queue)
    assert client.pop(queue) == claimed
    client.server.run_chores()
    client.clock.pass_s(10_000)
    client.server.run_chores()
    assert client.status(task) == "in_progress"
    assert client.waiting(queue) == []  # whoever claimed it is still to start it
    for _ in range(20):
        client.clock.pass_s(40)
        client.server.run_chores()
    assert client.status(task) == "stopped"  # now it has had its time
    assert client.waiting(queue) == [claimed]


PARAMS = {"Args": {"lr": {"section": "Args", "name": "lr", "value": "0.1", "type": "float", "description": ""}}}


def scalar(task: str, iteration: int, value: float, variant: str = "train") -> dict[str, Any]:
    return {
        "type": "training_stats_scalar",
        "task": task,
        "metric": "loss",
        "variant": variant,
        "iter": iteration,
        "value": value,
        "timestamp": 1000 + iteration,
    }
