"""`agent.docker` of the fleet file."""

import pytest

from fleet.config import parse
from fleet.errors import ConfigError
from fleet.model import ContainerSettings

FILE = """
cluster: lab
agent: {{mode: docker, image: "a:1", cache_dir: /scratch, docker: {docker}}}
resources:
  gpu: {{provider: local, gpus: 1}}
  mine: {{provider: local, gpus: 1, agent: {{docker: {{shm_size: 1GiB}}}}}}
queues: {{train: {{resources: [gpu, mine]}}}}
"""


def test_containers_are_made_as_the_fleet_file_says_and_a_resource_may_say_otherwise() -> None:
    text = FILE.format(docker='{network: bridge, shm_size: 16, arguments: "-v /etc/pki:/etc/pki:ro", prune_above: 70%}')
    config = parse(text, "f")
    whole = ContainerSettings(
        network="bridge", shm_gib=16, arguments="-v /etc/pki:/etc/pki:ro", cache="/scratch", prune_above=0.7
    )
    assert config.agent_of("gpu").docker == whole
    assert (config.agent_of("mine").docker.shm_gib, config.agent_of("mine").docker.network) == (1, "bridge")


def test_in_a_container_the_caches_are_where_the_agent_looks_for_them() -> None:
    assert parse(FILE.format(docker="{}"), "f").agent.extra_conf == ""


def test_every_wrong_key_of_containers_is_named() -> None:
    with pytest.raises(ConfigError) as caught:
        parse(FILE.format(docker='{network: hosst, prune_above: 850, arguments: "-e \'A", shm: 8}'), "f")
    text = str(caught.value)
    assert "agent.docker.network: expected host, bridge or none, got 'hosst'; did you mean host?" in text
    assert "agent.docker.prune_above: expected a part of the disk, as 85%" in text
    assert "agent.docker.arguments: cannot be read: No closing quotation; see to the quotes" in text
    assert "agent.docker.shm: " in text
