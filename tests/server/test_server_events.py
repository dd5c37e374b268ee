"""What tasks report: nothing lost, nothing twice, and readable again."""

import json
from collections.abc import Callable
from typing import Any

from tests.server.embedded import Client


def line(task: str, text: str, at: int) -> dict[str, Any]:
    return {"type": "log", "level": "DEBUG", "task": task, "worker": "w:0", "msg": text, "timestamp": at}


def scalar(task: str, iteration: int, value: float, metric: str = "loss", variant: str = "train") -> dict[str, Any]:
    name = {"type": "training_stats_scalar", "task": task, "metric": metric, "variant": variant}
    return {**name, "iter": iteration, "value": value, "timestamp": 1000 + iteration}


def test_a_batch_says_how_many_it_added(client: Client) -> None:
    task = client.task()
    answer = client.report(*(line(task, f"{i}", i) for i in range(1, 4)))
    assert answer.data == {"added": 3, "errors": 0, "errors_info": {}}
    assert client.console(task) == ["1", "2", "3"]


def test_lines_may_come_as_one_object_or_as_a_list(client: Client) -> None:
    task = client.task()
    client.send("GET", "/v2.23/events.add_batch", json.dumps(line(task, "one", 1), indent=1).encode())
    client.send("POST", "/events.add_batch", json.dumps([line(task, "two", 2), line(task, "three", 3)]).encode())
    client.call("events.add", **line(task, "four", 4))
    assert client.console(task) == ["one", "two", "three", "four"]


def test_a_batch_that_is_sent_again_is_answered_as_stored_and_not_stored_twice(
    open_client: Callable[[], Client],
) -> None:
    client = open_client()
    task = client.task()
    first = client.report(line(task, "a", 1), line(task, "b", 2)).data
    client.clock.pass_s(120)  # the answer was lost; the server was killed; the agent's back-off is long
    client = open_client()
    client.server.run_chores()
    assert client.report(line(task, "a", 1), line(task, "b", 2)).data == first
    client.report(line(task, "a", 1), line(task, "b", 3))
    assert client.console(task) == ["a", "a", "b", "b"]


def test_a_batch_without_times_may_be_meant_twice(client: Client) -> None:
    task = client.task()
    for _ in range(2):
        client.report({"type": "log", "task": task, "msg": "again"})
    assert client.console(task) == ["again", "again"]


def test_lines_are_in_the_order_of_their_times_and_of_their_arrival(client: Client) -> None:
    task = client.task()
    client.report(line(task, "3", 7), line(task, "4", 7))
    client.report(line(task, "1", 5))  # came late, over a slower way
    client.report(line(task, "2", 6))
    assert client.console(task) == ["1", "2", "3", "4"]


def test_the_console_is_read_in_pages_from_either_end(client: Client) -> None:
    task = client.task()
    client.report(*(line(task, str(i), i) for i in range(1, 11)))

    def page(**fields: Any) -> list[str]:
        return [e["msg"] for e in client.call("events.get_task_log", task=task, **fields)["events"]]

    assert page(batch_size=2, navigate_earlier=True, order="asc") == ["9", "10"]
    assert page(batch_size=2) == ["10", "9"]
    assert page(batch_size=3, navigate_earlier=False, order="asc") == ["1", "2", "3"]
    assert page(batch_size=3, from_timestamp=4, navigate_earlier=False, order="asc") == ["4", "5", "6"]
    assert page(batch_size=3, from_timestamp=4, navigate_earlier=True, order="asc") == ["1", "2", "3"]
    assert client.call("events.get_task_log", task=task, batch_size=2)["total"] == 10


def test_events_of_an_unknown_task_are_errors_and_the_others_are_stored(client: Client) -> None:
    task = client.task()
    answer = client.report(line(task, "kept", 1), line("nobody", "lost", 1)).data
    assert (answer["added"], answer["errors"]) == (1, 1)
    assert client.report(line("nobody", "lost", 1)).codes == (400, 131)
    assert client.send("POST", "/events.add_batch", b"{broken").codes == (400, 131)


def test_reporting_is_a_sign_of_life(client: Client) -> None:
    task = client.task()
    client.clock.pass_s(100)
    before = client.held(task)["last_update"]
    client.report(line(task, "x", 1))
    assert client.held(task)["last_update"] > before


def test_scalars_are_curves_and_last_values(client: Client) -> None:
    task = client.task()
    client.report(*(scalar(task, i, value) for i, value in enumerate([1.0, 0.25, 0.5])))
    client.report(scalar(task, -(2**31), 0.9, "Summary", "acc"), scalar(task, -(2**31), 0.95, "Summary", "acc"))
    curves = client.call("events.scalar_metrics_iter_histogram", task=task, key="iter")
    assert curves == {"loss": {"train": {"name": "train", "x": [0, 1, 2], "y": [1.0, 0.25, 0.5]}}}
    (single,) = client.call("events.get_task_single_value_metrics", tasks=[task])["tasks"]
    assert [(v["variant"], v["value"]) for v in single["values"]] == [("acc", 0.95)]
    held = client.held(task)
    (loss,) = [v for m in held["last_metrics"].values() for v in m.values() if v["metric"] == "loss"]
    assert (loss["value"], loss["min_value"], loss["max_value_iteration"], loss["count"]) == (0.5, 0.25, 0, 3)
    assert held["last_iteration"] == 2


def test_long_curves_are_thinned_to_the_samples_that_are_asked_for(client: Client) -> None:
    task = client.task()
    client.report(*(scalar(task, i, float(i)) for i in range(1000)))
    curve = client.call("events.scalar_metrics_iter_histogram", task=task, samples=5)["loss"]["train"]
    assert curve["x"] == [0, 250, 500, 749, 999]


def test_raw_events_come_in_pages_by_scroll(client: Client) -> None:
    task = client.task()
    client.report(*(scalar(task, i, float(i)) for i in range(5)))
    ask = {"task": task, "event_type": "training_stats_scalar", "batch_size": 3, "order": "asc"}
    first = client.call("events.get_task_events", **ask)
    second = client.call("events.get_task_events", **ask, scroll_id=first["scroll_id"])
    assert [e["iter"] for e in first["events"] + second["events"]] == [0, 1, 2, 3, 4]
    assert (first["returned"], second["returned"], first["total"]) == (3, 2, 5)


def test_a_plot_replaces_the_one_of_its_iteration(client: Client) -> None:
    task = client.task()
    plot = {"type": "plot", "task": task, "metric": "h", "variant": "v", "timestamp": 5}
    for iteration, text in ((0, "old"), (1, "one"), (0, "new")):
        client.report({**plot, "iter": iteration, "plot_str": text})
    latest = client.call("events.get_task_plots", task=task, iters=1)["plots"]
    assert [(p["iter"], p["plot_str"]) for p in latest] == [(1, "one")]
    both = client.call("events.get_task_plots", task=task, iters=9)["plots"]
    assert [(p["iter"], p["plot_str"]) for p in both] == [(1, "one"), (0, "new")]


def test_debug_images_come_by_iteration_newest_first_and_end(client: Client) -> None:
    task = client.task()
    image = {"type": "training_debug_image", "task": task, "metric": "img", "variant": "v", "timestamp": 5}
    client.report(*({**image, "iter": i, "url": f"http://x/{i}"} for i in range(3)))
    ask = {"metrics": [{"task": task, "metric": "img", "variants": ["v"]}], "iters": 2}
    answer = client.call("events.debug_images", **ask)
    (metric,) = answer["metrics"]
    assert [(i["iter"], i["events"][0]["url"]) for i in metric["iterations"]] == [(2, "http://x/2"), (1, "http://x/1")]
    again = client.call("events.debug_images", **ask, scroll_id=answer["scroll_id"])
    assert again["metrics"] == [{"task": task, "iterations": []}]
