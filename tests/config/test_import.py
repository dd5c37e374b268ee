"""ClearML's aws_autoscaler.yaml becomes a fleet file that describes the same fleet."""

from __future__ import annotations

from datetime import timedelta

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fleet.config import import_aws_autoscaler, parse
from fleet.errors import ConfigError
from fleet.model import GpuNeed, MarketPolicy, Queue, Resource, ServerAccess

THEIRS = """\
configurations:
  extra_clearml_conf: |
    sdk.aws.s3 { key: "AKIA", secret: "hunter2" }
    agent.pip_version: "<23"
  extra_vm_bash_script: |
    export WANDB_API_KEY=hunter2
    nvidia-smi
  queues:
    aws4gpu_machines:
    - - aws4gpu
      - 3
    - [aws1gpu, 5]
    cpu_tasks:
    - [cpu, 2]
  resource_configurations:
    aws4gpu:
      ami_id: ami-1
      availability_zone: us-east-1b
      ebs_device_name: /dev/sda1
      ebs_volume_size: 100
      ebs_volume_type: gp3
      instance_type: g4dn.12xlarge
      is_spot: true
      key_name: null
      security_group_ids: null
      tags: team=vision, cost = 7
    aws1gpu: {ami_id: ami-1, subnet_id: subnet-1, instance_type: g5.xlarge, is_spot: false,
              security_group_ids: [sg-1, sg-2], extra_configurations: {MetadataOptions: {HttpTokens: required}}}
    cpu: {ami_id: ami-2, availability_zone: us-east-1a, instance_type: c5.large, is_spot: false, cpu_only: true, colour: red}
hyper_params:
  cloud_credentials_key: AKIAhunter2
  cloud_credentials_region: us-east-1
  cloud_credentials_secret: hunter2
  cloud_credentials_token: ''
  cloud_provider: AWS
  default_docker_image: nvidia/cuda:12.6.3-runtime-ubuntu22.04 --ipc=host
  git_pass: hunter2
  git_user: me
  iam_arn: ''
  iam_name: gpu-role
  max_idle_time_min: 15
  max_spin_up_time_min: 30
  polling_interval_time_min: 5
  workers_prefix: dynamic_worker
  log_level: DEBUG
"""
ENVIRONMENT = {
    "CLEARML_API_HOST": "https://api.clear.ml",
    "CLEARML_API_ACCESS_KEY": "A",
    "CLEARML_API_SECRET_KEY": "S",
    "FLEET_ADVERTISE_URL": "https://fleet.lab:8765",
    "AWS_ACCESS_KEY_ID": "aws key",
    "AWS_SECRET_ACCESS_KEY": "aws secret",
    "AGENT_GIT_PASS": "git token",
}


def test_the_same_fleet_comes_out() -> None:
    config = parse(import_aws_autoscaler(THEIRS), "fleet.yaml", ENVIRONMENT)
    assert config.cluster == "dynamic-worker"
    assert isinstance(config.server, ServerAccess)
    assert config.queues == (
        Queue(name="aws4gpu_machines", resources=("aws4gpu", "aws1gpu"), need=GpuNeed(at_least=1, at_most=4)),
        Queue(name="cpu_tasks", resources=("cpu",), need=GpuNeed(at_least=0, at_most=0), slots=1),
    )
    common = {
        "access_key": "aws key",
        "secret_key": "aws secret",
        "iam_instance_profile": "gpu-role",
        "init_script": 'export WANDB_API_KEY="TAKEN-OUT"\nnvidia-smi\n',
    }
    spot, plain, cpu = config.resources
    assert spot == Resource(
        name="aws4gpu",
        provider="aws",
        region="us-east-1",
        zones=("us-east-1b",),
        instance_types=("g4dn.12xlarge",),
        market=MarketPolicy.SPOT,
        image="ami-1",
        max_instances=3,
        idle_timeout=timedelta(minutes=15),
        boot_timeout=timedelta(minutes=30),
        settings={
            **common,
            "disk_gib": 100,
            "disk_type": "gp3",
            "disk_device": "/dev/sda1",
            "tags": {"team": "vision", "cost": "7"},
        },
    )
    assert (plain.market, plain.max_instances, plain.zones) == (MarketPolicy.ON_DEMAND, 5, ())
    assert plain.settings == {
        **common,
        "subnets": ["subnet-1"],
        "security_groups": ["sg-1", "sg-2"],
        "launch_spec": {"MetadataOptions": {"HttpTokens": "required"}},
    }
    assert cpu.settings == {**common, "cpu_only": True}


def test_the_agents_are_set_up_as_before() -> None:
    agent = parse(import_aws_autoscaler(THEIRS), "fleet.yaml", ENVIRONMENT).agent
    assert (agent.mode, agent.image) == ("docker", "nvidia/cuda:12.6.3-runtime-ubuntu22.04")
    assert agent.docker.arguments == "--ipc=host"
    assert agent.extra_conf.splitlines() == [
        'agent.git_user: "me"',
        'agent.git_pass: "git token"',
        'sdk.aws.s3 { key: "TAKEN-OUT", secret: "TAKEN-OUT" }',
        'agent.pip_version: "<23"',
    ]


def test_no_secret_is_copied_and_what_was_left_out_is_said() -> None:
    text = import_aws_autoscaler(THEIRS, "old.yaml")
    assert "hunter2" not in text
    head = text.split("\n\n")[0]
    assert head.splitlines()[0] == "# Imported from ClearML's old.yaml. Check it with: fleet config check"
    assert "AGENT_GIT_PASS, AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY, CLEARML_API_ACCESS_KEY" in head
    assert "# hyper_params.log_level: not known, left out" in head
    assert "# configurations.resource_configurations.cpu.colour: not known, left out" in head
    assert "# configurations.extra_vm_bash_script: 1 secret taken out" in head


def test_a_credentials_chain_needs_no_keys() -> None:
    text = import_aws_autoscaler(THEIRS.replace("log_level: DEBUG", "use_credentials_chain: true"))
    assert "AWS_ACCESS_KEY_ID" not in text


@pytest.mark.parametrize(
    ("old", "new", "expected"),
    [
        ("[aws1gpu, 5]", "[aws2gpu, 5]", "configurations.queues.aws4gpu_machines: no resource is called aws2gpu"),
        (
            "[aws1gpu, 5]",
            "[aws1gpu]",
            "configurations.queues.aws4gpu_machines: expected a list of [resource, max instances]",
        ),
        (
            "[aws1gpu, 5]",
            "aws1gpu",
            "configurations.queues.aws4gpu_machines: expected a list of [resource, max instances]",
        ),
        ("      ami_id: ami-1\n", "", "configurations.resource_configurations.aws4gpu.ami_id: is missing"),
        (
            "is_spot: true",
            "is_spot: maybe",
            "configurations.resource_configurations.aws4gpu.is_spot: expected true or false",
        ),
        (
            "max_idle_time_min: 15",
            "max_idle_time_min: long",
            "hyper_params.max_idle_time_min: expected a number of minutes",
        ),
        ("cloud_provider: AWS", "cloud_provider: GCP", "hyper_params.cloud_provider: only AWS can be imported"),
        ("hyper_params:", "hyperparams:", "hyper_params: is missing"),
        ("configurations:", "queues: {}\nconfiguration:", "configurations: is missing"),
    ],
)
def test_what_cannot_be_meant_is_refused_by_path(old: str, new: str, expected: str) -> None:
    with pytest.raises(ConfigError) as refused:
        import_aws_autoscaler(THEIRS.replace(old, new, 1))
    assert any(problem.startswith(f"aws_autoscaler.yaml: {expected}") for problem in refused.value.problems)


def test_a_fleet_file_is_not_an_autoscalers() -> None:
    with pytest.raises(ConfigError, match="hyper_params: is missing"):
        import_aws_autoscaler("cluster: a\nqueues: {}\n")


values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=5,
)
keys = st.sampled_from(
    ["queues", "resource_configurations", "extra_clearml_conf", "iam_arn", "git_pass", "workers_prefix", "r"]
)


@given(
    st.dictionaries(
        st.sampled_from(["hyper_params", "configurations"]),
        st.dictionaries(keys, st.dictionaries(keys, values) | values) | values,
    )
)
@settings(max_examples=60, deadline=None)
def test_anything_else_is_a_text_or_a_config_error(data: dict[str, object]) -> None:
    import yaml

    try:
        assert isinstance(import_aws_autoscaler(yaml.safe_dump(data)), str)
    except ConfigError:
        return
