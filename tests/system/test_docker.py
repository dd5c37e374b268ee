"""Docker mode with real parts: a Docker engine, the embedded server, a supervisor, and the stock clearml-agent in containers."""

import json
import os
import signal
import sys
from collections.abc import Iterator
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import psutil
import pytest

from fleet.model import AgentSettings, ContainerSettings, RunResult
from fleet.queues.base import TaskStatus
from fleet.supervisor.engine import Engine
from fleet.supervisor.images import Images
from tests.system import docker_engine
from tests.system.docker_engine import IMAGE, DockerEngine
from tests.system.edge import QUEUES, Machine, Person, Server
from tests.system.test_restart import Restarting
from tests.waiting import PATIENCE, wait_for

pytest.importorskip("clearml_agent")
pytestmark = [
    pytest.mark.system,
    pytest.mark.xdist_group("docker"),
    pytest.mark.skipif(docker_engine.why_not() is not None, reason=str(docker_engine.why_not())),
]
SECRET = "S3CR3T-of-a-bucket"


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    server = Server(tmp_path_factory.mktemp("server") / "state")
    yield server
    server.kill()


@pytest.fixture
def clearml(server: Server) -> Iterator[Person]:
    from fleet.queues.client import ClearMLServer

    client = ClearMLServer(server.access)
    client.ensure_queues([queue.name for queue in QUEUES])
    yield Person(client)
    client.close()


@pytest.fixture
def machine(server: Server, engine: DockerEngine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator:
    """Makes supervisors in docker mode: machine(name, kind, **agent settings)."""
    monkeypatch.setenv("DOCKER_HOST", engine.url)
    agent = AgentSettings(
        mode="docker",
        image=IMAGE,
        docker=ContainerSettings(arguments=engine.arguments),
        environment={"CLEARML_AGENT_SKIP_PYTHON_ENV_INSTALL": "1", "BUCKET_KEY": SECRET},
        extra_conf=f'sdk.aws.s3.secret: "{SECRET}"',
        stop_grace=timedelta(seconds=5),
    )
    machines = []

    def make(name: str = "d1", kind: type[Machine] = Machine, **settings: object) -> Machine:
        # A name of its own: supervisors end what is left of tasks of the same worker, and tests of the edge run beside these.
        timeout = settings.pop("contact_timeout", timedelta(seconds=300))
        wanted = replace(agent, **settings)  # type: ignore[arg-type]
        machines.append(
            kind(tmp_path / name, server.access, '{"count": 4}', None, agent=wanted, contact_timeout=timeout)
        )
        return machines[-1]

    yield make
    for each in machines:
        each.stop()
        sys.stdout.write(each.log.read_text())  # shown by pytest when the test fails
    wait_for(lambda: not engine.containers(), 20, "no container is left")


def ask_for(clearml: Person, task: str, **container: str) -> None:
    """As the SDK's `set_base_docker` does."""
    clearml.client._transport.call("tasks.edit", {"task": task, "container": container, "force": True})


def submit(clearml: Person, text: str, queue: str = "train", **container: str) -> str:
    """Enqueue a bash script with a container of its own."""
    from fleet.queues.base import Script

    call = clearml.client._transport.call
    script = Script(entry_point="script.sh", binary="/bin/bash", diff=text)
    wanted = {
        "name": "a test task",
        "type": "training",
        "script": {"entry_point": script.entry_point, "binary": script.binary, "diff": script.diff, "working_dir": "."},
        "container": container,
    }
    task = call("tasks.create", wanted).text("id")
    call("tasks.enqueue", {"task": task, "queue_name": queue})
    return task


def test_a_task_runs_in_a_container_of_its_own_and_sees_its_gpus(machine, clearml, engine):
    text = "echo gpus=$CUDA_VISIBLE_DEVICES/$NVIDIA_VISIBLE_DEVICES; cat /proc/1/cmdline | tr '\\0' ' '; echo; exit 3\n"
    task = submit(clearml, text, setup_shell_script="export GREETING=hello\necho setup=$GREETING")
    here = machine()
    assert clearml.ended(task) == TaskStatus.FAILED
    log = clearml.log(task)
    assert "setup=hello\n" in log
    assert "gpus=GPU-sim-d1-0/GPU-sim-d1-0\n" in log
    assert "/dev/init -- /bin/sh /run/fleet/start" in log or "docker-init -- /bin/sh /run/fleet/start" in log
    run = wait_for(lambda: here.centre.runs.get(task), 20)[0]
    assert (run.result, run.exit_code, run.gpus) == (RunResult.FAILED, 3, ("GPU-sim-d1-0",))
    wait_for(lambda: not engine.containers(), 10, "its container is removed")


def test_no_secret_is_seen_by_the_engine_or_in_process_arguments(machine, clearml, engine, server):
    task = submit(clearml, "echo key=$BUCKET_KEY | md5sum; sleep 60\n", arguments="-e MINE=of-the-task-alone")
    machine()
    wait_for(lambda: "-\n" in clearml.log(task), 30, "it runs")
    inspected = json.dumps(engine.inspections())
    arguments = [" ".join(p.info["cmdline"] or []) for p in psutil.process_iter(["cmdline"])]
    secrets = [server.access.secret_key, SECRET, "of-the-task-alone"]
    assert [s for s in secrets if s in inspected or any(s in line for line in arguments)] == []
    assert f'"fleet.task": "{task}"' in inspected
    (container,) = engine.inspections()
    place = Path(next(m["Source"] for m in container["Mounts"] if m["Destination"] == "/run/fleet"))
    assert {each.stat().st_mode & 0o777 for each in place.iterdir()} == {0o600}
    clearml.abort(task)
    assert clearml.ended(task) == TaskStatus.STOPPED
    wait_for(lambda: not place.exists(), 10, "its secrets are gone")


def test_a_task_that_is_aborted_has_its_grace_to_save_itself(machine, clearml):
    text = "trap 'echo saving; sleep 1; echo saved; exit 0' TERM\necho ready\nwhile true; do sleep 0.1; done\n"
    task = submit(clearml, text)
    machine()
    wait_for(lambda: "ready" in clearml.log(task), 30, "it runs")
    clearml.abort(task)
    assert clearml.ended(task) == TaskStatus.STOPPED
    assert "saved\n" in clearml.log(task)


def test_a_task_that_does_not_end_within_its_grace_is_killed(machine, clearml):
    task = submit(clearml, "trap '' TERM\necho ready\nwhile true; do sleep 0.1; done\n")
    here = machine(stop_grace=timedelta(seconds=1))
    wait_for(lambda: "ready" in clearml.log(task), 30, "it runs")
    clearml.abort(task)
    assert clearml.ended(task) == TaskStatus.STOPPED
    assert wait_for(lambda: here.centre.runs.get(task), 20)[0].exit_code == 137


def test_a_task_that_runs_out_of_memory_is_reported_as_such(machine, clearml):
    eat = "python3 -c \"x = [bytearray(10**7) for _ in range(100)]; print('not reached')\"; exit $?\n"
    task = submit(clearml, "echo ready\n" + eat, arguments="--memory 150m")
    machine()
    assert clearml.ended(task) == TaskStatus.FAILED
    state = clearml.client._transport.call("tasks.get_by_id", {"task": task}).object("task")
    assert "out of memory" in state.text("status_reason", "")
    assert "its limit of 150 MiB" in state.text("status_reason", "")
    assert "out of memory: the kernel killed it" in clearml.log(task)


@pytest.mark.parametrize(
    ("container", "words"),
    [
        ({"arguments": "--privileged"}, "docker arguments: unrecognized arguments: --privileged"),
        ({"arguments": "-v /var/run/docker.sock:/d.sock"}, "holds what is the machine's own"),
        ({"image": "fleet-test:not-there"}, "image fleet-test:not-there is not on this machine"),
    ],
)
def test_a_container_that_is_not_allowed_or_not_there_fails_its_task_in_one_line(machine, clearml, container, words):
    task = submit(clearml, "echo hello\n", **container)
    machine()
    assert clearml.ended(task) == TaskStatus.FAILED
    assert words in clearml.log(task)


def test_a_task_in_a_container_survives_its_supervisor_with_its_console_and_its_exit_code(
    machine, clearml, engine, tmp_path
):
    text = "for i in $(seq 1 300); do echo line $i; sleep 0.1; [ -e /root/.clearml/pip-download-cache/go ] && break; done\n"
    task = submit(clearml, text + "echo last line\nexit 5\n")
    here = machine(kind=Restarting)
    wait_for(lambda: "line 3\n" in clearml.log(task), 30, "it runs")
    (old,) = engine.containers()
    here.kill_supervisor()
    wait_for(lambda: "agent adopted" in here.log.read_text(), 20)
    seen = clearml.log(task).count("line")
    wait_for(lambda: clearml.log(task).count("line") > seen + 5, 20, "its console goes on")
    wait_for(lambda: [a.task for a in here.centre.heartbeats[-1].allocations] == [task], 10, "its GPU is held")
    assert [each["Id"] for each in engine.containers()] == [old["Id"]]
    (here.directory / "cache" / "pip-download-cache" / "go").touch()
    assert clearml.ended(task) == TaskStatus.FAILED
    lines = [line for line in clearml.log(task).splitlines() if line.startswith("line ")]
    assert list(dict.fromkeys(lines)) == [f"line {n + 1}" for n in range(len(dict.fromkeys(lines)))]
    assert len(lines) - len(set(lines)) <= 2  # printed in the moment of the kill
    assert "last line\n" in clearml.log(task)
    (run,) = wait_for(lambda: here.centre.runs.get(task), 10)
    assert (run.result, run.exit_code) == (RunResult.FAILED, 5)


def test_a_task_whose_container_ended_while_nobody_looked_has_its_exit_code_all_the_same(machine, clearml, engine):
    task = submit(clearml, "echo ready; sleep 2; echo not seen by anybody\n")
    here = machine(kind=Restarting)
    wait_for(lambda: "ready" in clearml.log(task), 30, "it runs")
    here.pause_restarts()
    os.kill(here.supervisors[-1], signal.SIGKILL)
    wait_for(lambda: [each["State"]["Running"] for each in engine.inspections()] == [False], 20, "it ends")
    here.resume_restarts()
    assert clearml.ended(task) == TaskStatus.COMPLETED
    assert "not seen by anybody\n" in clearml.log(task)
    (run,) = wait_for(lambda: here.centre.runs.get(task), 10)
    assert (run.result, run.exit_code) == (RunResult.COMPLETED, 0)


def test_a_container_that_no_supervisor_remembers_is_removed(machine, engine):
    here = machine()
    cluster = here.centre.enrolled.cluster
    here.stop()
    labels = {"fleet.cluster": cluster, "fleet.instance": "d1", "fleet.allocation": "a7", "fleet.task": "t7"}
    host = engine.api.create_host_config(
        binds=[f"{place}:{place}:ro" for place in ("/usr/bin", "/usr/lib", "/usr/lib64")]
    )
    old = engine.api.create_container(IMAGE, ["/bin/sleep", "300"], labels=labels, host_config=host)["Id"]
    engine.api.start(old)
    machine()
    wait_for(lambda: old not in [each["Id"] for each in engine.containers()], 20, "it is removed")


def test_a_container_whose_supervisor_is_dead_ends_when_no_other_supervisor_comes(machine, clearml, engine):
    task = submit(clearml, "echo ready; sleep 300\n")
    here = machine(contact_timeout=timedelta(seconds=6))
    wait_for(lambda: "ready" in clearml.log(task), 30, "it runs")
    os.kill(here.process.pid, signal.SIGKILL)
    here.process.wait()
    wait_for(lambda: [each["State"] for each in engine.containers()] == ["exited"], 20, "it is killed")
    machine()  # removes it


def test_a_task_runs_as_the_user_that_its_image_names_and_finds_its_secrets(machine, clearml, engine):
    engine.make_image("fleet-test:user", user="researcher")
    task = submit(clearml, "id -u; echo key=$BUCKET_KEY | wc -c\n", image="fleet-test:user")
    machine()
    assert clearml.ended(task) == TaskStatus.COMPLETED
    assert f"1234\n{len(SECRET) + 5}\n" in clearml.log(task)


def test_when_the_disk_fills_the_image_that_was_used_longest_ago_is_removed(engine, tmp_path):
    for name in ("default", "old", "new", "running", "stranger"):
        engine.make_image(f"fleet-prune:{name}", user=name)  # so that each is an image of its own
    running = engine.api.create_container("fleet-prune:running", ["/bin/true"])["Id"]
    record = tmp_path / "images.json"
    images = Images(Engine(engine.url), "fleet-prune:default", 0.0001, record)  # any disk is fuller than that
    for name in ("running", "old", "new", "default"):
        images.use(f"fleet-prune:{name}")
    images.make_room()
    engine.api.remove_container(running)
    left = [tag for image in engine.api.images("fleet-prune") for tag in image["RepoTags"]]
    assert sorted(left) == ["fleet-prune:default", "fleet-prune:running", "fleet-prune:stranger"]
    assert sorted(json.loads(record.read_text())) == ["fleet-prune:default", "fleet-prune:running"]


def test_a_machine_without_the_default_image_says_so_and_ends(machine):
    here = machine(image="fleet-test:gone")
    assert here.process.wait(30 * PATIENCE) == 0
    assert here.centre.goodbye.reason.code == "agent_unusable"
    assert "fleet-test:gone" in here.centre.goodbye.reason.text
