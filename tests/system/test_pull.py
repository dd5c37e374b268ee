"""Container images are pulled by the real docker client and by the supervisor, from a registry of the test's own."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from fleet.assemble.package import IMAGES
from fleet.model import AgentSettings, ContainerSettings
from fleet.queues.base import TaskStatus
from fleet.supervisor.engine import Engine, EngineFault
from fleet.supervisor.images import Images
from tests.registry import Registry, served
from tests.system import docker_engine
from tests.system.docker_engine import DockerEngine, image_tar
from tests.system.edge import Machine, Person, Server
from tests.waiting import PATIENCE, wait_for

pytest.importorskip("clearml_agent")
pytestmark = [
    pytest.mark.system,
    pytest.mark.xdist_group("docker"),
    pytest.mark.skipif(docker_engine.why_not() is not None, reason=str(docker_engine.why_not())),
]


@pytest.fixture
def registry(engine: DockerEngine) -> Iterator[Registry]:
    with served(Registry()) as registry:
        yield registry
        for name in engine.names():
            if name.startswith(registry.address):
                engine.api.remove_image(name, force=True)


def an_image(registry: Registry, tag: str) -> str:
    """Of directories and links; programs are mounted by whoever runs it. Each tag is another image."""
    path = f"{sys.prefix}/bin:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
    return registry.put("lab/train", tag, image_tar(), {"PATH": path, "TAG": tag})


def provision(engine: DockerEngine, place: Path, image: str, **told: str) -> subprocess.CompletedProcess[str]:
    """60-image.sh, with docker's own client; where systemd is, the engine is not for it to start."""
    (place / "systemctl").write_text("#!/bin/sh\n")
    (place / "systemctl").chmod(0o755)
    own = {"PATH": f"{place}:/usr/bin:/bin", "DOCKER_HOST": engine.url, "HOME": str(place), "FLEET_IMAGE": image}
    return subprocess.run(
        ["bash", str(IMAGES / "provision" / "60-image.sh")],
        env=own | told,
        capture_output=True,
        text=True,
        timeout=60 * PATIENCE,
        check=False,
    )


def test_provisioning_has_the_default_image_at_hand_and_asks_for_it_once(
    engine: DockerEngine, registry: Registry, tmp_path: Path
) -> None:
    image = an_image(registry, "provisioned")
    done = provision(engine, tmp_path, image)
    assert done.returncode == 0, done.stderr
    assert image in engine.names()
    assert any("/blobs/" in each for each in registry.asked)
    registry.asked.clear()
    assert provision(engine, tmp_path, image).returncode == 0
    assert registry.asked == []


def test_a_bake_fails_without_its_image_and_a_first_boot_goes_on(
    engine: DockerEngine, registry: Registry, tmp_path: Path
) -> None:
    image = f"{registry.address}/lab/train:mistyped"
    done = provision(engine, tmp_path, image, FLEET_BAKE="1")
    assert done.returncode == 1
    assert f"fleet provision: {image} could not be pulled; is its name right" in done.stderr
    assert provision(engine, tmp_path, image).returncode == 0


def test_a_supervisor_pulls_its_default_image_once_at_its_start_and_tasks_wait_for_it_and_run_in_it(
    engine: DockerEngine,
    registry: Registry,
    server: Server,
    clearml: Person,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("DOCKER_HOST", engine.url)
    agent = AgentSettings(
        mode="docker",
        image=an_image(registry, "default"),
        docker=ContainerSettings(arguments=engine.arguments),
        environment={"CLEARML_AGENT_SKIP_PYTHON_ENV_INSTALL": "1"},
    )
    task = clearml.submit("train", "echo in an image called $TAG\n")
    here = Machine(tmp_path / "p1", server.access, '{"count": 4}', None, agent=agent)
    try:
        assert clearml.ended(task) == TaskStatus.COMPLETED
        assert "in an image called default" in clearml.log(task)
        said = here.log.read_text()
        assert said.count("image is pulled") == said.count("image was pulled") == 1
        assert said.index("image was pulled") < said.index("agent started")
    finally:
        here.stop()
        sys.stdout.write(here.log.read_text())
    wait_for(lambda: not engine.containers(), 20, "no container is left")


def test_what_a_supervisor_pulls_is_the_newest_under_its_name(
    engine: DockerEngine, registry: Registry, tmp_path: Path
) -> None:
    images = Images(Engine(engine.url), "", 1.1, tmp_path / "used")
    name = registry.put("lab/train", "moving", image_tar(), {"EDITION": "first"})
    images.have(name)
    registry.put("lab/train", "moving", image_tar(), {"EDITION": "second"})
    images.have(name)  # it is here
    assert engine.api.inspect_image(name)["Config"]["Env"] == ["EDITION=first"]
    images.pull(name)
    assert engine.api.inspect_image(name)["Config"]["Env"] == ["EDITION=second"]


def test_an_image_that_may_not_be_pulled_is_said_in_one_line(
    engine: DockerEngine, registry: Registry, tmp_path: Path
) -> None:
    name = an_image(registry, "private")
    registry.login = ("lab", "hunter2")
    images = Images(Engine(engine.url), "", 1.1, tmp_path / "used")
    with pytest.raises(EngineFault) as refused:
        images.have(name)
    assert name.rpartition(":")[0] in str(refused.value)
    assert "\n" not in str(refused.value)
    assert "hunter2" not in str(refused.value) + str(os.environ)
