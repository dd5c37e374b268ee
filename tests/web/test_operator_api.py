"""The operator API and /metrics, as commands and Prometheus call them."""

import threading
import time
from collections.abc import Iterator
from dataclasses import replace

import pytest
import requests
from prometheus_client.parser import text_string_to_metric_families

from fleet.model import Event, RunResult
from tests.waiting import PATIENCE
from tests.web.nouns import ALLOCATION, DEMAND, GPUS, IDLE, T0, Web, a_run, a_view, an_instance, at, serving, settings


@pytest.fixture
def busy(web: Web) -> Web:
    """One machine with two GPUs that runs a task on one of them; another has gone."""
    store = web.store
    store.record_intents([an_instance("i0", requested_at=at(-3600)), an_instance("i1", requested_at=at(-1800))])
    store.note_gone("i0", IDLE, at(-1800))
    store.note_launched("i1", "cloud-1", at(-1800))
    store.expect("i1", "join", at(0))
    store.enroll("i1", "join", "token", "host", GPUS, at(-1700))
    facts = {"allocations": (ALLOCATION,), "runs": (a_run(),), "gpus": GPUS}
    quiet = {"is_pulling": True, "is_ending": False, "reason": None, "idle_since": None}
    store.beat("i1", at=at(-4), **(facts | quiet))  # type: ignore[arg-type]
    store.remember_view(a_view(at(-2)))
    store.append_events([Event(at=T0, kind="task.claimed", text="taken", task="t1", instance="i1", reason=DEMAND)])
    return web


def error(response: requests.Response) -> tuple[int, str]:
    text = response.json()["error"]
    assert "\n" not in text
    return response.status_code, text


def test_status_is_that_of_the_store_now(busy: Web) -> None:
    data = busy.get("/api/v1/status").json()
    assert (data["cluster"], data["at"], data["alerts"]) == ("c", "2026-03-01T12:00:00+00:00", [])
    assert data["server"] == {"url": "http://127.0.0.1:8008", "kind": "embedded", "ok": True}
    assert [(q["name"], q["queued"], q["running"]) for q in data["queues"]] == [("train", 1, 1)]
    assert [(i["id"], i["state"], i["tasks"]) for i in data["instances"]] == [("i1", "busy", ["t1"])]
    assert data["budget"] == {
        "instances": 1,
        "max_instances": 4,
        "usd_per_hour": 3.6,
        "max_usd_per_hour": 20.0,
        "usd_today": pytest.approx(3.6),
        "usd_month": pytest.approx(3.6),
        "max_usd_per_day": None,
        "max_usd_per_month": None,
        "when_spent": "hold",
    }


def test_money_of_today_begins_at_midnight_utc(busy: Web) -> None:
    busy.now = at(12 * 3600)
    budget = busy.get("/api/v1/status").json()["budget"]
    assert (budget["usd_today"], budget["usd_month"]) == (0.0, pytest.approx(3.6 + 12 * 3.6))


def test_events_are_listed_and_filtered(busy: Web) -> None:
    busy.store.append_events([Event(at=T0, kind="instance.gone", text="gone", instance="i0")] * 2)
    events = busy.get("/api/v1/events").json()["events"]
    first = events[0]
    assert (first["seq"], first["kind"], first["at"]) == (1, "task.claimed", "2026-03-01T12:00:00+00:00")
    assert first["reason"]["text"] == DEMAND.text

    def found(query: str) -> list[int]:
        return [e["seq"] for e in busy.get(f"/api/v1/events?{query}").json()["events"]]

    assert [found("after=1"), found("limit=1"), found("instance=i0"), found("task=t1")] == [[2, 3], [3], [2, 3], [1]]
    assert error(busy.get("/api/v1/events?after=-1"))[0] == 400
    assert error(busy.get("/api/v1/events?limit=many"))[0] == 400


def test_events_can_be_followed(busy: Web) -> None:
    heard: list[object] = []
    follower = threading.Thread(target=lambda: heard.append(busy.get("/api/v1/events?after=1&wait_s=20").json()))
    started = time.monotonic()
    follower.start()
    busy.store.append_events([Event(at=T0, kind="instance.gone", text="gone")])
    follower.join()
    assert [e["seq"] for e in heard[0]["events"]] == [2]  # type: ignore[index]
    assert time.monotonic() - started < 15
    assert busy.get("/api/v1/events?after=2&wait_s=0.1").json() == {"events": []}


def test_a_task_is_explained(busy: Web) -> None:
    waiting = busy.get("/api/v1/tasks/t9").json()
    assert (waiting["state"], waiting["waiting"]["reason"]["text"]) == ("waiting", DEMAND.text)
    running = busy.get("/api/v1/tasks/t1").json()
    assert (running["state"], running["waiting"]) == ("claimed", None)
    assert [r["instance"] for r in running["runs"]] == ["i1"]
    assert [e["kind"] for e in running["events"]] == ["task.claimed"]
    code, text = error(busy.get("/api/v1/tasks/nobody"))
    assert (code, "'nobody'" in text) == (404, True)


def test_cost_is_summed_by_resource_and_by_instance(busy: Web) -> None:
    data = busy.get("/api/v1/cost").json()
    assert [(r["resource"], r["instances"], r["hours"]) for r in data["resources"]] == [("gpu", 2, 1.0)]
    assert [(i["id"], i["ended_because"]) for i in data["instances"]] == [("i0", IDLE.text), ("i1", None)]
    assert data["usd"] == pytest.approx(3.6)
    later = busy.get("/api/v1/cost", params={"since": "15m"}).json()
    assert [(i["id"], i["hours"]) for i in later["instances"]] == [("i1", 0.25)]
    assert busy.get("/api/v1/cost", params={"since": at(-900).isoformat()}).json() == later
    for nonsense in ("yesterday", "2026-03-01T00:00:00", "", "-1h"):
        assert error(busy.get("/api/v1/cost", params={"since": nonsense}))[0] == 400


def test_instances_are_listed_with_those_that_went(busy: Web) -> None:
    assert [i["id"] for i in busy.get("/api/v1/instances").json()["instances"]] == ["i1"]
    both = busy.get("/api/v1/instances?gone_since=1h").json()["instances"]
    assert [(i["id"], i["state"], i["facts"]["gone_at"]) for i in both] == [
        ("i0", "gone", at(-1800).isoformat()),
        ("i1", "busy", None),
    ]


def test_an_operator_orders_a_drain_and_an_end(busy: Web) -> None:
    first = busy.post("/api/v1/instances/i1/drain", {"reason": "maintenance\nof the rack"})
    assert (first.status_code, first.json()) == (200, {"instance": "i1", "state": "draining"})
    busy.now = at(5)
    assert busy.post("/api/v1/instances/i1/drain").json() == first.json(), "again"
    instance = busy.store.instance("i1")
    assert instance
    assert instance.drain_requested_at == T0
    assert instance.end_reason
    assert (instance.end_reason.code, instance.end_reason.text) == ("operator", "maintenance of the rack")
    assert busy.post("/api/v1/instances/i1/terminate").json() == {"instance": "i1", "state": "terminating"}
    assert busy.post("/api/v1/instances/i0/terminate").json() == {"instance": "i0", "state": "gone"}


def test_an_operator_closes_the_breaker_of_a_resource_and_no_other(busy: Web) -> None:
    known = sorted({name for queue in busy.settings.queues for name in queue.resources})
    done = busy.post(f"/api/v1/resources/{known[0]}/breaker/reset", {"reason": "a new image"})
    assert (done.status_code, done.json()) == (200, {"resource": known[0]})
    (event,) = busy.store.events(kind="breaker.reset")
    assert event.reason
    assert (event.reason.limit, event.reason.text) == (f"resources.{known[0]}", "a new image")
    assert error(busy.post("/api/v1/resources/nothing/breaker/reset"))[0] == 404


def test_an_order_for_nobody_is_refused(busy: Web) -> None:
    busy.store.record_intents([replace(an_instance("foreign"), cluster="other")])
    for name in ("i9", "foreign"):
        code, text = error(busy.post(f"/api/v1/instances/{name}/drain"))
        assert (code, repr(name) in text) == (404, True)
    assert error(busy.post("/api/v1/instances/i1/drain", {"reason": 1}))[0] == 400
    assert error(busy.post("/api/v1/instances/i1/drain", ["x"]))[0] == 400
    for nonsense in ("10m", -1, True, 1e9):
        code, text = error(busy.post("/api/v1/instances/i1/drain", {"within_s": nonsense}))
        assert (code, text) == (400, "within_s is a number of seconds, 0 to 2592000")
    assert error(busy.get("/api/v1/instances/i1/drain"))[0] == 405
    assert error(busy.get("/api/v1/nothing"))[0] == 404


def test_metrics_are_computed_at_the_scrape(busy: Web) -> None:
    response = busy.get("/metrics")
    assert response.headers["Content-Type"].startswith("text/plain")
    samples = {
        (s.name, *sorted(s.labels.values())): s.value
        for family in text_string_to_metric_families(response.text)
        for s in family.samples
    }
    assert samples[("fleet_instances", "busy", "gpu")] == 1
    assert samples[("fleet_instances", "booting", "gpu")] == 0
    assert (samples[("fleet_gpus", "gpu")], samples[("fleet_gpus_allocated", "gpu")]) == (2, 1)
    assert (samples[("fleet_queue_tasks", "train")], samples[("fleet_queue_oldest_wait_seconds", "train")]) == (1, 30)
    assert samples[("fleet_usd_per_hour",)] == 3.6
    assert samples[("fleet_usd_today",)] == pytest.approx(3.6)
    assert (samples[("fleet_heartbeat_age_max_seconds",)], samples[("fleet_pass_age_seconds",)]) == (4, 2)
    assert samples[("fleet_server_ok",)] == 1


def test_metrics_of_an_empty_fleet_are_readable(web: Web) -> None:
    families = list(text_string_to_metric_families(web.get("/metrics").text))
    assert "fleet_usd_per_hour" in {f.name for f in families}


# --- who may ask

OPERATOR_PATHS = (
    *("/api/v1/status", "/api/v1/events", "/api/v1/tasks/t9", "/api/v1/cost", "/api/v1/instances", "/metrics"),
)


@pytest.fixture
def locked() -> Iterator[Web]:
    with serving(Web(settings=settings(operator_token="s3cret"))) as web:
        web.store.record_intents([an_instance()])
        web.store.remember_view(a_view())
        yield web


def test_with_an_operator_token_nobody_asks_or_orders_without_it(locked: Web) -> None:
    for token in ("", "guess", "s3cret2", "ü"):
        locked.token = token.encode().decode("latin-1")
        assert [locked.get(path).status_code for path in OPERATOR_PATHS] == [401] * 6
        assert error(locked.post("/api/v1/instances/i1/terminate"))[0] == 401
    instance = locked.store.instance("i1")
    assert instance
    assert instance.terminate_requested_at is None
    locked.token = "s3cret"
    assert [locked.get(path).status_code for path in OPERATOR_PATHS] == [200] * 6
    assert locked.post("/api/v1/instances/i1/drain").status_code == 200


def test_the_token_of_a_machine_is_not_that_of_an_operator(locked: Web) -> None:
    locked.store.expect("i1", "join", at(9))
    locked.store.enroll("i1", "join", "hash", "host", [], T0)
    locked.token = "hash"
    assert locked.get("/api/v1/status").status_code == 401


def test_the_operator_token_is_not_in_the_text_of_the_settings(locked: Web) -> None:
    assert "s3cret" not in repr(locked.settings)


def test_without_a_token_no_web_page_can_reach_through_a_browser_on_this_machine(busy: Web) -> None:
    terminate = busy.url + "/api/v1/instances/i1/terminate"
    posted_by_a_page = requests.post(terminate, headers={"Origin": "http://evil.example"}, timeout=9 * PATIENCE)
    assert error(posted_by_a_page)[0] == 403
    rebound_name = requests.get(busy.url + "/api/v1/status", headers={"Host": "evil.example"}, timeout=9 * PATIENCE)
    assert error(rebound_name)[0] == 403
    assert requests.get(busy.url + "/api/v1/status", headers={"Host": "["}, timeout=9 * PATIENCE).status_code in (
        400,
        403,
    )
    own = requests.post(terminate.replace("terminate", "drain"), headers={"Origin": busy.url}, timeout=9 * PATIENCE)
    assert own.status_code == 200
    by_name = requests.get(busy.url.replace("127.0.0.1", "localhost") + "/api/v1/status", timeout=9 * PATIENCE)
    assert by_name.status_code == 200


def test_a_run_that_ended_is_in_the_story_of_its_task(busy: Web) -> None:
    busy.store.close_run(a_run(ended_at=at(3), result=RunResult.COMPLETED, exit_code=0))
    story = busy.get("/api/v1/tasks/t1").json()
    assert (story["state"], story["runs"][0]["seconds"], story["runs"][0]["result"]) == ("completed", 3.0, "completed")


def test_ids_are_found_by_their_beginning(busy: Web) -> None:
    assert busy.get("/api/v1/ids?prefix=i").json()["instances"] == ["i1"], "one that is there before those that went"
    assert busy.get("/api/v1/ids?prefix=i0").json() == {"tasks": [], "instances": ["i0"]}
    assert busy.get("/api/v1/ids?prefix=t").json()["tasks"] == sorted(
        {"t1"} | {w.task for w in busy.store.view().waiting if w.task.startswith("t")}  # type: ignore[union-attr]
    )
