"""What the reading commands print, asked of a dispatcher's real web."""

import json
import os
import signal
import subprocess
import sys
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest

from fleet.cli.status import render
from fleet.model import Event, Waiting
from tests.cli.running import Shell
from tests.signals import heed_signals
from tests.waiting import PATIENCE, wait_for
from tests.web.nouns import ALLOCATION, DEMAND, GPUS, T0, Web, a_run, a_view, an_instance, at, serving, settings

TASK, OTHER = "ab" * 16, "ac" * 16


@pytest.fixture
def busy(web: Web) -> Web:
    """Two machines; one runs a task, another task waits."""
    store = web.store
    store.record_intents([an_instance("5e1f-0"), an_instance("5e2f-0")])
    store.note_launched("5e1f-0", "cloud-1", T0)
    store.expect("5e1f-0", "join", at(60))
    store.enroll("5e1f-0", "join", "token", "host", GPUS, at(1))
    store.beat(
        "5e1f-0",
        at=at(2),
        is_pulling=True,
        is_ending=False,
        reason=None,
        idle_since=None,
        allocations=(replace(ALLOCATION, task=TASK),),
        runs=(a_run(TASK, "5e1f-0"),),
        gpus=GPUS,
    )
    store.remember_view(replace(a_view(), waiting=(Waiting(task=OTHER, queue="train", reason=DEMAND),)))
    store.append_events(
        [Event(at=at(n), kind="task.claimed", text="taken", task=TASK, instance="5e1f-0") for n in range(3)]
    )
    return web


def test_status_shows_every_id_whole_in_100_columns(busy: Web, shell: Shell) -> None:
    said = shell.fleet("status", "--url", busy.url).stdout
    assert TASK in said
    assert "5e2f-0" in said
    assert max(map(len, said.splitlines())) <= 100


@pytest.mark.parametrize(("ok", "said"), [(True, "answers"), (False, "DOES NOT ANSWER"), (None, "not asked yet")])
def test_a_server_that_no_pass_has_asked_yet_is_not_said_to_be_silent(ok: bool | None, said: str) -> None:
    budget = {"instances": 0, "max_instances": None, "max_usd_per_hour": None}
    money = dict.fromkeys(("usd_per_hour", "usd_today", "usd_month"), 0.0)
    data = {"cluster": "c", "server": {"url": "http://s", "kind": "embedded", "ok": ok}, "budget": budget | money}
    text = render(data | {"queues": [], "instances": [], "alerts": []})
    assert text.splitlines()[0] == f"cluster c   server http://s (embedded, {said})"


@pytest.mark.parametrize("count", [0, 1, 30])
def test_status_fits_for_any_number_of_instances_and_long_names(count: int) -> None:
    instance = {
        "id": "0a1b2c3d-0",
        "resource": "a-resource-with-a-name-as-long-as-names-may-become-in-a-large-company",
        "state": "busy",
        "age_s": 90000.0,
        "idle_s": None,
        "gpus": [{"index": n, "task": TASK, "model": "NVIDIA A100-SXM4-80GB"} for n in range(8)],
        "tasks": [TASK],
        "usd_per_hour": 32.77,
        "usd": 12345.67,
    }
    queue = {
        "name": "a queue of people who like long names, and then some more of it",
        "queued": 12345,
        "oldest_wait_s": 90000.0,
        "running": 123,
        "gpus_per_task": "1-4",
        "resources": ["one-resource", "another-resource", "a-third-resource"],
    }
    data = {
        "cluster": "c",
        "server": {"url": "http://127.0.0.1:8008", "kind": "embedded", "ok": True},
        "queues": [queue],
        "instances": [instance] * count,
        "budget": {
            "instances": count,
            "max_instances": 64,
            "usd_per_hour": 983.1,
            "max_usd_per_hour": 1000.0,
            "usd_today": 10000.0,
            "usd_month": 300000.0,
        },
        "alerts": [],
    }
    said = render(data)
    assert max(map(len, said.splitlines())) <= 100
    assert said.count("0a1b2c3d-0") == 2 * count
    assert said.count(TASK) == count


@pytest.mark.parametrize(
    ("command", "key"),
    [
        (["status"], "instances"),
        (["cost"], "resources"),
        (["explain", TASK], "runs"),
    ],
)
def test_json_is_one_object(busy: Web, shell: Shell, command: list[str], key: str) -> None:
    assert key in json.loads(shell.fleet(*command, "--url", busy.url, "--json").stdout)


def test_events_as_json_are_an_array(busy: Web, shell: Shell) -> None:
    events = json.loads(shell.fleet("events", "--url", busy.url, "--json", "--limit", "2").stdout)
    assert [e["seq"] for e in events] == [2, 3]


def test_an_event_is_one_line_that_can_be_copied_from(busy: Web, shell: Shell) -> None:
    last = shell.fleet("events", "--url", busy.url, TZ="UTC").stdout.splitlines()[-1]
    assert last == f"2026-03-01 12:00:02+0000  task.claimed          {TASK} on 5e1f-0: taken"


def test_a_task_is_known_by_the_beginning_of_its_id(busy: Web, shell: Shell) -> None:
    assert TASK in shell.fleet("explain", "aba", "--url", busy.url).stdout
    assert f"task {OTHER} waits" in shell.fleet("explain", "ac", "--url", busy.url).stdout
    assert "several tasks" in shell.refusal("explain", "a", "--url", busy.url)
    assert "has an id that begins with ffff; give the whole id" in shell.refusal("explain", "ffff", "--url", busy.url)
    assert "nothing is known" in shell.refusal("explain", "f" * 32, "--url", busy.url)
    assert "'a/b' cannot be the id of a task;" in shell.refusal("explain", "a/b", "--url", busy.url)
    assert "'a/b' cannot be the id of an instance;" in shell.refusal("drain", "a/b", "--url", busy.url)


def test_an_instance_is_known_by_the_beginning_of_its_id(busy: Web, shell: Shell) -> None:
    assert "several instances" in shell.refusal("drain", "5e", "--url", busy.url)
    assert "no instance" in shell.refusal("drain", "77", "--url", busy.url)
    assert busy.store.instance("5e2f-0").drain_requested_at is None  # type: ignore[union-attr]
    assert shell.fleet("drain", "5e2", "--url", busy.url).stdout.startswith("5e2f-0 drains")
    assert busy.store.instance("5e2f-0").drain_requested_at  # type: ignore[union-attr]
    assert "has 10m for its tasks" in shell.fleet("drain", "5e2", "--within", "10m", "--url", busy.url).stdout
    instance = busy.store.instance("5e2f-0")
    assert instance
    assert instance.drain_by == busy.now + timedelta(minutes=10)


def test_terminate_asks_before_it_ends_what_runs(busy: Web, shell: Shell) -> None:
    done = shell.fleet("terminate", "5e1", "--url", busy.url)
    assert (done.returncode, "1 running task goes back" in done.stderr) == (1, True)
    assert shell.fleet("terminate", "--yes", "5e1", "--url", busy.url).stdout == "5e1f-0 is being ended\n"


def test_a_reader_that_has_enough_is_no_error(busy: Web, shell: Shell) -> None:
    busy.store.append_events([Event(at=T0, kind="k", text="x" * 1000) for _ in range(300)])
    command = f"{sys.executable} -m fleet events --limit 1000 --url {busy.url} | head -1; exit ${{PIPESTATUS[0]}}"
    done = subprocess.run(
        ["bash", "-c", command], cwd=shell.place, env=shell.environment, capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stderr, done.stdout.count("\n")) == (0, "", 1)


def test_a_full_disk_is_one_line(busy: Web, shell: Shell) -> None:
    with Path("/dev/full").open("w") as full:
        done = subprocess.run(
            [sys.executable, "-m", "fleet", "status", "--url", busy.url],
            cwd=shell.place,
            env=shell.environment,
            stdout=full,
            stderr=subprocess.PIPE,
            text=True,
            check=False,
        )
    assert (done.returncode, done.stderr) == (
        1,
        "fleet: No space left on device, where this is written to; make room, and give the command again\n",
    )


def test_who_follows_what_is_quiet_ends_when_nobody_reads_any_more(busy: Web, shell: Shell) -> None:
    """`| head -1` has its line; the next event may come tomorrow."""
    command = f"{sys.executable} -m fleet events --follow --url {busy.url} | head -1; exit ${{PIPESTATUS[0]}}"
    done = subprocess.run(
        ["bash", "-c", command],
        cwd=shell.place,
        env=shell.environment,
        capture_output=True,
        text=True,
        check=False,
        timeout=30 * PATIENCE,
    )
    assert (done.returncode, done.stderr, done.stdout.count("\n")) == (0, "", 1)


@pytest.mark.parametrize("command", ["status", "events"])
def test_ctrl_c_ends_following_with_130_and_no_word(busy: Web, shell: Shell, tmp_path: Path, command: str) -> None:
    out = tmp_path / "out"
    with out.open("w") as file:
        process = subprocess.Popen(
            [sys.executable, "-m", "fleet", command, "--follow", "--url", busy.url],
            cwd=shell.place,
            env=shell.environment,
            stdout=file,
            stderr=file,
            # As a terminal starts it: a shell without job control would have it ignore Ctrl-C.
            preexec_fn=heed_signals,
        )
    wait_for(lambda: out.stat().st_size > 0, what="it prints")
    os.kill(process.pid, signal.SIGINT)
    assert process.wait(10 * PATIENCE) == 130
    assert "Traceback" not in out.read_text()


def test_ctrl_c_while_a_command_is_still_being_loaded_ends_it_without_a_word(shell: Shell) -> None:
    """Loading takes a third of a second, and longer on a busy machine. Here it does not end: a package waits."""
    (shell.place / "typer.py").write_text("open('loading', 'w').close()\nimport time\ntime.sleep(600)\n")
    process = subprocess.Popen(
        [sys.executable, "-m", "fleet", "status"],
        cwd=shell.place,
        env=shell.environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        preexec_fn=heed_signals,
    )
    wait_for((shell.place / "loading").exists, what="it is being loaded")
    os.kill(process.pid, signal.SIGINT)
    said, _ = process.communicate(timeout=10 * PATIENCE)
    assert (process.returncode, said) == (-signal.SIGINT, "")


def test_a_strange_locale_does_no_harm(busy: Web, shell: Shell) -> None:
    busy.store.append_events([Event(at=T0, kind="k", text="ünïcödé …")])
    for environment in ({"LC_ALL": "C"}, {"LC_ALL": "POSIX", "PYTHONCOERCECLOCALE": "0", "PYTHONUTF8": "0"}):
        done = shell.fleet("events", "--url", busy.url, **environment)
        assert (done.returncode, done.stderr) == (0, "")


def test_a_dispatcher_that_wants_a_token_says_where_it_is(shell: Shell) -> None:
    with serving(Web(settings=settings(operator_token="secret"))) as web:
        assert "operator_token" in shell.refusal("status", "--url", web.url)
        assert "does not take this token" in shell.refusal("status", "--url", web.url, FLEET_TOKEN="wrong")
        assert shell.fleet("status", "--url", web.url, FLEET_TOKEN="secret").returncode == 0


def test_a_breaker_is_closed_by_the_name_of_its_resource(busy: Web, shell: Shell) -> None:
    name = busy.settings.queues[0].resources[0]
    assert shell.fleet("breaker", "reset", name, "--url", busy.url).stdout.startswith(f"{name} is launched again")
    assert [e.kind for e in busy.store.events(kind="breaker.reset")] == ["breaker.reset"]
    for none in ("", "a/b"):
        assert f"{none!r} cannot be a resource's name" in shell.refusal("breaker", "reset", none, "--url", busy.url)
    said = shell.refusal("breaker", "reset", f"{name}s", "--url", busy.url)
    assert said == f"fleet: no queue uses a resource '{name}s'; did you mean {name}?"


def test_an_id_that_is_not_there_is_answered_with_the_one_that_is_meant(busy: Web, shell: Shell) -> None:
    no = "fleet: no instance has an id that begins with"
    assert shell.refusal("drain", "5e1g-0", "--url", busy.url) == f"{no} 5e1g-0; did you mean 5e1f-0?"
    assert shell.refusal("drain", "zz", "--url", busy.url).startswith(f"{no} zz; `fleet status`")
    assert f"{TASK} is a task, and an instance is wanted here" in shell.refusal("drain", "abab", "--url", busy.url)
    assert "5e1f-0 is an instance, and a task is wanted" in shell.refusal("explain", "5e1f", "--url", busy.url)
    assert [i.drain_requested_at for i in busy.store.instances("c")] == [None, None]
