"""Who works: registration, reports, expiry, and the properties by which a stock agent is drained."""

from tests.server.embedded import Client


def ids(client: Client, **filters: object) -> list[str]:
    return [w["id"] for w in client.call("workers.get_all", **filters)["workers"]]


def test_a_worker_is_seen_from_its_registration_to_its_end(client: Client) -> None:
    queue = client.queue()
    client.call("workers.register", worker="w:0", queues=[queue])
    assert ids(client) == ["w:0"]
    client.call("workers.unregister", worker="w:0", queues=[])
    client.call("workers.unregister", worker="w:0", queues=[])  # agents say it twice
    assert ids(client) == []


def test_a_report_registers_an_unknown_worker_and_tells_what_it_does(client: Client) -> None:
    queue = client.queue()
    task = client.running(queue, "w:0", "train it")
    client.call("workers.status_report", worker="w:0", task=task, queue=queue, queues=[queue], timestamp=1)
    (worker,) = client.call("workers.get_all", last_seen=600)["workers"]
    assert (worker["task"]["id"], worker["task"]["name"]) == (task, "train it")
    assert worker["queue"] == {"id": queue, "name": "train", "num_tasks": 0}
    assert client.held(task)["last_worker"] == "w:0"
    client.call("workers.status_report", worker="w:0", timestamp=2, machine_stats=None, tags=None)
    (worker,) = client.call("workers.get_all")["workers"]
    assert "task" not in worker
    assert [q["name"] for q in worker["queues"]] == ["train"]  # a report without queues does not change them


def test_a_silent_worker_expires_after_its_own_timeout_or_ten_minutes(client: Client) -> None:
    client.call("workers.register", worker="short", timeout=30)
    client.call("workers.register", worker="usual")
    client.clock.pass_s(31)
    assert ids(client) == ["usual"]
    client.clock.pass_s(550)
    assert ids(client) == ["usual"]
    client.call("workers.status_report", worker="usual", timestamp=1)
    client.clock.pass_s(590)
    assert ids(client) == ["usual"]
    client.clock.pass_s(11)
    client.server.run_chores()
    assert ids(client) == []


def test_workers_are_found_by_pattern_sight_and_tags(client: Client) -> None:
    client.call("workers.register", worker="host:gpu0,1", tags=["a100"])
    client.clock.pass_s(100)
    client.call("workers.register", worker="host:gpu2")
    assert ids(client, worker_pattern="host:gpu*") == ["host:gpu0,1", "host:gpu2"]
    assert ids(client, worker_pattern="*0,1") == ["host:gpu0,1"]
    assert ids(client, last_seen=50) == ["host:gpu2"]
    assert ids(client, last_seen=0, tags=["a100"]) == ["host:gpu0,1"]
    assert ids(client, tags=["-a100"]) == ["host:gpu2"]


def test_runtime_properties_are_set_one_by_one_and_outlive_a_registration(client: Client) -> None:
    def said() -> dict[str, str]:
        found = client.call("workers.get_runtime_properties", worker="w:0")["runtime_properties"]
        return {p["key"]: p["value"] for p in found}

    assert said() == {}
    for key, value in (("force", "off"), ("max_num_instances", 2)):
        client.call("workers.set_runtime_properties", worker="w:0", runtime_properties=[{"key": key, "value": value}])
    client.call("workers.register", worker="w:0")
    client.call("workers.unregister", worker="w:0")
    assert said() == {"force": "off", "max_num_instances": "2"}
    client.call("workers.set_runtime_properties", worker="w:0", runtime_properties=[{"key": "force", "value": ""}])
    assert said() == {"max_num_instances": "2"}
    wrong = client.ask("workers.set_runtime_properties", worker="w:0", runtime_properties=[{"value": "off"}])
    assert wrong.codes == (400, 800)


def test_a_worker_name_that_no_table_holds_is_refused(client: Client) -> None:
    assert client.ask("workers.register", worker="w" * 300).codes == (400, 800)
