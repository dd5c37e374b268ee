"""The command line against whole fleets: starts and ends of `fleet up`, tokens, PostgreSQL, the demo's end."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from fleet.pinned import fingerprint
from tests.system.ring import ROOT, MakeRing, Ring
from tests.waiting import PATIENCE, is_alive, wait_for

pytestmark = [pytest.mark.system, pytest.mark.xdist_group("ring")]


def machines(ring: Ring) -> list[int]:
    """Pids of the first processes of local instances that live."""
    pids = [json.loads(file.read_text())["pid"] for file in (ring.state / "local").glob("*/machine.json")]
    return [pid for pid in pids if is_alive(pid)]


def test_the_ring_turns_on_postgresql(make_ring: MakeRing, postgres_url: str) -> None:
    ring = make_ring(gpus=2, memory=postgres_url).start()
    tasks = [ring.bash("echo hello from postgres; sleep 1") for _ in range(3)]
    assert ring.ends(*tasks) == ["completed"] * 3
    assert "hello from postgres" in ring.console(tasks[0])
    (instance,) = wait_for(lambda: [i for i in ring.instances() if i.gone_at], what="the machine goes")
    assert instance.end_reason
    assert instance.end_reason.code == "idle"
    assert not list(ring.state.glob("*.db"))
    assert json.loads(ring.fleet("status", "--json").stdout)["instances"] == []


def test_an_address_that_others_reach_wants_the_token(make_ring: MakeRing, tmp_path: Path) -> None:
    ring = make_ring(gpus=1, host="0.0.0.0").start()
    assert ring.fleet("status").returncode == 0  # its own user has the token in the state directory
    url = json.loads((ring.state / "centre.json").read_text())["url"]
    pem = (ring.state / "authority.pem").read_text()
    ring.environment["FLEET_CENTRE_CERT_SHA256"] = fingerprint(pem)
    ring.environment["FLEET_HOME"] = str(tmp_path / "of-somebody-else")
    refused = ring.fleet("status", "--url", url, check=False)
    assert refused.returncode == 1
    assert "operator_token" in refused.stderr
    assert refused.stderr.count("\n") == 1
    ring.environment["FLEET_TOKEN"] = (ring.state / "operator_token").read_text().strip()
    assert "cluster ring" in ring.fleet("status", "--url", url).stdout

    # A guest who may look, and nothing else.
    made = ring.fleet("token", "create", "--name", "ann", "--role", "viewer")
    ring.environment["FLEET_TOKEN"] = made.stdout.strip()
    assert "cluster ring" in ring.fleet("status", "--url", url).stdout
    refused = ring.fleet("breaker", "reset", "gpu", "--url", url, check=False)
    assert (refused.returncode, refused.stderr) == (1, "fleet: ann has the role viewer; this takes admin\n")
    assert "ann" in ring.fleet("token", "list").stdout
    ring.fleet("token", "revoke", "ann")
    assert ring.fleet("status", "--url", url, check=False).returncode == 1


def test_a_fleet_that_runs_is_not_started_again(make_ring: MakeRing) -> None:
    ring = make_ring(gpus=1).start("up")
    for command in ("up", "dispatch"):
        again = ring.fleet(command, check=False)
        assert (again.returncode, again.stderr.count("\n")) == (1, 1)
        assert f"pid {ring.process.pid if ring.process else ''}" in again.stderr
    assert ring.fleet("status").returncode == 0


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
def test_up_ends_its_machines_at_a_signal_and_their_tasks_wait(make_ring: MakeRing, number: signal.Signals) -> None:
    ring = make_ring(gpus=1).start("up")
    task = ring.bash("echo started; sleep 60")
    wait_for(lambda: "started" in ring.console(task), what="the task runs")
    assert ring.process
    ring.process.send_signal(number)
    assert ring.process.wait(60 * PATIENCE) == 0
    assert machines(ring) == []
    assert not (ring.state / "centre.json").exists()
    ring.start("up")
    assert ring.state_of(task).status in ("queued", "in_progress")


def test_a_second_signal_cuts_the_end_short(make_ring: MakeRing) -> None:
    ring = make_ring(gpus=1).start("up")
    task = ring.bash("trap '' TERM INT; echo started; sleep 60")
    wait_for(lambda: "started" in ring.console(task), what="the task runs")
    assert ring.process
    for number in (signal.SIGTERM, signal.SIGINT):
        ring.process.send_signal(number)
    assert ring.process.wait(15 * PATIENCE) == 0


def test_a_new_up_adopts_the_machines_of_one_that_was_killed(make_ring: MakeRing) -> None:
    ring = make_ring(gpus=1).start("up")
    task = ring.bash("echo started; sleep 4; echo finished")
    wait_for(lambda: "started" in ring.console(task), what="the task runs")
    ring.kill()
    ring.start("up")
    assert ring.ends(task) == ["completed"]
    assert len(ring.instances()) == 1
    assert ring.stop() == 0
    assert machines(ring) == []


def test_a_signal_during_the_start_leaves_nothing(make_ring: MakeRing) -> None:
    ring = make_ring(gpus=1)
    process = subprocess.Popen(
        [sys.executable, "-m", "fleet", "up", "-c", "fleet.yaml"], cwd=ring.place, env=ring.environment
    )
    wait_for(lambda: (ring.state / "dispatch.lock").exists(), what="it begins to start")
    process.send_signal(signal.SIGTERM)
    process.wait(30 * PATIENCE)
    assert not (ring.state / "centre.json").exists()
    assert machines(ring) == []
    ring.start("up")  # what it left is no obstacle


def test_explain_and_logs_know_a_task_by_the_beginning_of_its_id(make_ring: MakeRing) -> None:
    ring = make_ring(gpus=1, idle="10m").start()
    task = ring.bash("echo a word; exit 3")
    assert ring.ends(task) == ["failed"]
    wait_for(lambda: [r for r in ring.runs(task) if r.ended_at], what="the ledger knows")
    assert "failed with exit code 3" in ring.fleet("explain", task[:12]).stdout
    assert "a word" in ring.fleet("logs", task[:12]).stdout
    assert "is failed already" in ring.fleet("abort", task[:12], check=False).stderr


def test_wishes_that_are_ignored_or_never_fit_are_explained(make_ring: MakeRing) -> None:
    ring = make_ring(gpus=1).start()
    (ring.place / "x.py").write_text("print(1)")
    done = ring.fleet("submit", "train", "--gpus", "8", "--json", "x.py")
    assert "needs 8 GPUs; the largest resource of queue train (gpu) has 1" in done.stderr
    task = json.loads(done.stdout)["task"]
    wait_for(lambda: "needs 8 GPUs" in ring.fleet("explain", task).stdout, what="a pass has seen it")
    assert "there are double, prep, train" in ring.fleet("submit", "nope", "x.py", check=False).stderr
    assert "asked to end" in ring.fleet("abort", task).stdout
    wait_for(lambda: "is stopped on the server" in ring.fleet("explain", task, check=False).stdout, what="it is told")


def test_what_follows_the_script_is_the_scripts(make_ring: MakeRing) -> None:
    ring = make_ring(gpus=1).start()
    script = ring.place / "ein schöner name.py"
    script.write_text("import sys; print('ARGS', sys.argv[1:])")
    done = ring.fleet("submit", "train", "--json", script.name, "--lr", "0.1", "--name", "a b", 'q"ü')
    assert "--name goes to the script" in done.stderr
    task = json.loads(done.stdout)["task"]
    assert ring.ends(task) == ["completed"]
    assert "ARGS ['--lr', '0.1', '--name', 'a b', 'q\"ü']" in ring.console(task)


def test_ctrl_c_in_the_middle_of_the_demo_leaves_nothing(tmp_path: Path) -> None:
    environment = {**os.environ, "TMPDIR": str(tmp_path), "PYTHONPATH": str(ROOT)}
    with (tmp_path / "out").open("w") as out:
        process = subprocess.Popen(
            [sys.executable, "-m", "fleet", "demo"], cwd=tmp_path, env=environment, stdout=out, stderr=out
        )
    (place,) = wait_for(lambda: list(tmp_path.glob("fleet-demo-*")), what="the demo begins")
    wait_for(lambda: list(place.glob("state/local/*/machine.json")), 60, what="a machine is launched")
    pids = [json.loads(file.read_text())["pid"] for file in place.glob("state/local/*/machine.json")]
    assert pids
    for _ in range(2):  # people press it twice
        process.send_signal(signal.SIGINT)
    assert process.wait(40 * PATIENCE) == 130
    assert [p.name for p in tmp_path.iterdir()] == ["out"]
    wait_for(lambda: not any(map(is_alive, pids)), what="its machines are gone")
    assert "Traceback" not in (tmp_path / "out").read_text()
