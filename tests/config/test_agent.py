"""`agent:` of the fleet, and of a resource that wants it otherwise."""

import json

import pytest

from fleet.config import parse
from fleet.config.settings import Config
from fleet.errors import ConfigError
from fleet.model import AgentSettings


def fleet(agent: str = "{}", of_a_resource: str = "{}") -> Config:
    text = f"""
        cluster: x
        agent: {agent}
        resources:
          plain: {{provider: local}}
          own: {{provider: local, agent: {of_a_resource}}}
        queues: {{train: {{resources: [plain, own]}}}}
    """
    return parse(text, "f", {"TOKEN": "t0p"})


def problem(agent: str = "{}", of_a_resource: str = "{}") -> str:
    with pytest.raises(ConfigError) as caught:
        fleet(agent, of_a_resource)
    (only,) = caught.value.problems
    return only


def test_a_package_manager_of_the_agent_s_and_an_init_script_are_passed_on() -> None:
    agent = fleet("{package_manager: uv, init_script: 'echo ${TOKEN} | login'}").agent
    assert (agent.package_manager, agent.init_script) == ("uv", "echo t0p | login")
    assert "t0p" not in repr(agent)
    assert problem("{package_manager: pipenv}") == (
        "f: agent.package_manager: expected pip, conda, poetry or uv, got 'pipenv'; did you mean pip?"
    )


def test_one_directory_holds_all_that_tasks_of_a_machine_share() -> None:
    agent = fleet("{cache_dir: /scratch, venvs_cache: {max_entries: 3, free_space_threshold: 20GiB}}").agent
    assert agent.extra_conf.splitlines() == [
        'agent.vcs_cache.path: "/scratch/vcs-cache"',
        'agent.pip_download_cache.path: "/scratch/pip-download-cache"',
        'agent.venvs_cache.path: "/scratch/venvs-cache"',
        "agent.venvs_cache.max_entries: 3",
        "agent.venvs_cache.free_space_threshold_gb: 20.0",
    ]
    assert agent.environment == {"PIP_CACHE_DIR": "/scratch/pip", "UV_CACHE_DIR": "/scratch/uv"}
    assert fleet("{cache_dir: /scratch, mode: docker, image: i}").agent.environment == {}
    assert problem("{cache_dir: scratch}") == "f: agent.cache_dir: is not a whole path, as /scratch/clearml"


def test_environments_need_not_be_kept() -> None:
    assert fleet("{venvs_cache: {max_entries: 0}}").agent.extra_conf == 'agent.venvs_cache.path: ""'


def test_a_resource_says_only_what_is_other_there() -> None:
    config = fleet(
        "{mode: interpreter, python: python3, environment: {A: 1, B: 1}, extra_conf: 'a: 1', git: {user: u, token: t}}",
        "{version: 3.0.3, environment: {B: 2}, extra_conf: 'a: 2', package_manager: conda}",
    )
    assert config.agent_of("plain") == config.agent
    assert config.agent_of("own") == AgentSettings(
        mode="interpreter",
        python="python3",
        version="3.0.3",
        environment={"A": "1", "B": "2"},
        package_manager="conda",
        extra_conf='agent.git_user: "u"\nagent.git_pass: "t"\na: 1\na: 2',
    )


def test_what_is_wrong_at_a_resource_is_said_there_and_what_is_wrong_above_only_once() -> None:
    assert problem("{mode: docker}") == "f: agent.image: is missing: mode docker needs a default image"
    assert problem("{}", "{mode: docker}") == (
        "f: resources.own.agent.image: is missing: mode docker needs a default image"
    )
    assert fleet("{image: i}", "{mode: docker}").agent_of("own").image == "i"
    assert problem("{}", "{pyton: 3}") == "f: resources.own.agent.pyton: unknown key; did you mean python?"


def test_another_object_store_than_amazon_s_is_known_to_the_sdk_by_its_host() -> None:
    s3 = (
        "{key: K, secret: S, endpoint: 'http://minio.lab:9000', buckets: [{host: 'old.lab:80', key: A, secret: B, %s}]}"
    )
    (line,) = fleet(f"{{storage: {{s3: {s3 % 'secure: false, multipart: false'}}}}}").agent.extra_conf.splitlines()
    assert json.loads(line.removeprefix("sdk.aws.s3: ")) == {
        "key": "K",
        "secret": "S",
        "credentials": [
            {"host": "old.lab:80", "key": "A", "secret": "B", "secure": False, "multipart": False},
            {"host": "minio.lab:9000", "key": "K", "secret": "S", "secure": False},
        ],
    }
    (line,) = fleet("{storage: {s3: {key: K, secret: S, endpoint: 'minio.lab:9000'}}}").agent.extra_conf.splitlines()
    assert json.loads(line.removeprefix("sdk.aws.s3: "))["credentials"] == [
        {"host": "minio.lab:9000", "key": "K", "secret": "S"}
    ]
    assert problem("{storage: {s3: {endpoint: 'ftp://minio.lab'}}}") == (
        "f: agent.storage.s3.endpoint: is not a host and port, as minio.lab:9000 or http://minio.lab:9000"
    )
