"""What ClearML's autoscaler applications export becomes a fleet file that describes the same fleet."""

from __future__ import annotations

import json
from datetime import timedelta
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fleet.config import import_clearml, parse
from fleet.config.clearml_form import FORMS
from fleet.errors import ConfigError
from fleet.model import GpuNeed, MarketPolicy
from tests.config.test_import import ENVIRONMENT, THEIRS

AWS: dict[str, Any] = {
    "AWS Credentials": {
        "Use IAM role": False,
        "AWS Region": "us-east-1",
        "Access Key ID": "AKIAhunter2",
        "Secret Access Key": "hunter2",
    },
    "Git User": "me",
    "Git Password / Personal Access Token": "hunter2",
    "Max Idle Time (min)": 20,
    "Spin down instances on Autoscaler shutdown": "idle only",
    "Workers Prefix": "vision_gpus",
    "Polling Interval (min)": 5,
    "Use docker mode": True,
    "Base Docker Image": "nvidia/cuda:12.6.3-runtime-ubuntu22.04 --ipc=host",
    "Compute Resources": [
        {
            "Resource Name": "A10 spot",
            "EC2 Instance Type": "g5.12xlarge",
            "Use Spot Instance": True,
            "Regular Instance Rollback": True,
            "Regular Instance Rollback Timeout": 7,
            "Spot Instance Blackout Period": "30",
            "Availability Zone": "us-east-1a, us-east-1b",
            "AMI ID or image name": "ami-1",
            "Max Number of Instances": 3,
            "Monitored Queue": "train",
            "EC2 Tags": "team=vision, cost = 7",
            "EBS Device": "/dev/sda1",
            "EBS Volume Size (GB)": 100,
            "Security Group ID": ["sg-1", "sg-2"],
            "Custom Launch Spec": '{"EbsOptimized": true}',
            "Colour": "red",
        },
        {
            "resource_name": "cpu",
            "instance_type": "c5.large",
            "cpu_only": True,
            "queue_name": "train",
            "ami_id": "ami-2",
        },
    ],
    "Use IAM instance profile": True,
    "IAM Instance Profile Name": "gpu-role",
    "Init Script": "export WANDB_API_KEY=hunter2\nnvidia-smi",
    "Exclude .bashrc script": True,
    "Mood": "good",
}
GCP: dict[str, Any] = {
    "gcp_project_id": "lab-1",
    "gcp_credentials": {"private_key": "hunter2"},
    "workers_prefix": "gcp",
    "resources": [
        {
            "resource_name": "l4",
            "machine_type": "g2-standard-12",
            "gcp_zone": "us-central1-a",
            "use_preemptible_instance": True,
            "machine_image": "projects/p/global/images/family/f",
            "disc_size": 200,
            "monitored_queue": "train",
            "max_number_of_instances": 4,
            "use_default_service_account": True,
            "service_account_scopes": "storage-ro,logging-write",
            "metadata": "a=1",
        }
    ],
    "global_metadata": "b=2",
}
COMPUTE: dict[str, Any] = {
    "GPU Type": "RTX 3090",
    "Number of GPUs": 2,
    "Monitored Queue": "train",
    "Cloud Machine Limit": 5,
    "Idle Time Limit": 15,
    "Default Docker Image": "nvidia/cuda:12.6.3-runtime-ubuntu22.04",
    "Git user": "me",
    "Git password": "hunter2",
    "Cloud Storage Access credentials": {"key": "hunter2"},
}
MORE = {**ENVIRONMENT, "FLEET_GCP_CREDENTIALS": "/etc/key.json"}


def imported(data: dict[str, Any]) -> str:
    return import_clearml(json.dumps(data), "export.json")


def test_the_fleet_of_the_aws_application_comes_out() -> None:
    config = parse(imported(AWS), "fleet.yaml", ENVIRONMENT)
    assert (config.cluster, config.on_shutdown) == ("vision-gpus", "idle")
    spot, cpu = config.resources
    assert (spot.name, spot.provider, spot.region) == ("a10-spot", "aws", "us-east-1")
    assert (spot.zones, spot.instance_types) == (("us-east-1a", "us-east-1b"), ("g5.12xlarge",))
    assert (spot.market, spot.max_instances, spot.image) == (MarketPolicy.SPOT_THEN_ON_DEMAND, 3, "ami-1")
    assert (spot.fallback_after, spot.blackout) == (timedelta(minutes=7), timedelta(minutes=30))
    assert spot.idle_timeout == cpu.idle_timeout == timedelta(minutes=20)
    assert spot.settings == {
        "access_key": "aws key",
        "secret_key": "aws secret",
        "tags": {"team": "vision", "cost": "7"},
        "disk_device": "/dev/sda1",
        "disk_gib": 100,
        "security_groups": ["sg-1", "sg-2"],
        "iam_instance_profile": "gpu-role",
        "init_script": 'export WANDB_API_KEY="TAKEN-OUT"\nnvidia-smi',
        "launch_spec": {"EbsOptimized": True},
    }
    assert cpu.settings["cpu_only"] is True
    (queue,) = config.queues
    assert (queue.name, queue.resources, queue.need) == ("train", ("a10-spot", "cpu"), GpuNeed(at_least=1, at_most=4))
    assert (config.agent.mode, config.agent.image) == ("docker", "nvidia/cuda:12.6.3-runtime-ubuntu22.04")
    assert config.agent.docker.arguments == "--ipc=host"


@pytest.mark.parametrize(
    ("kind", "gpus"),
    [
        ("n1-standard-8", 0),
        ("e2-medium", 0),
        ("a2-highgpu-1g", 1),
        ("g2-standard-4", 1),
        ("a3-megagpu-8g", 8),
        ("g2-standard-24", 2),
    ],
)
def test_a_task_gets_a_whole_machine_of_google_s_with_or_without_gpus(kind: str, gpus: int) -> None:
    text = imported({**GCP, "resources": [{**GCP["resources"][0], "machine_type": kind}]})
    (queue,) = parse(text, "fleet.yaml", MORE).queues
    assert (queue.need.at_most, queue.slots) == (gpus, None if gpus else 1)


def test_the_fleet_of_the_gcp_application_comes_out() -> None:
    config = parse(imported(GCP), "fleet.yaml", MORE)
    (resource,) = config.resources
    assert (resource.provider, resource.zones, resource.market) == ("gcp", ("us-central1-a",), MarketPolicy.SPOT)
    assert (resource.instance_types, resource.max_instances) == (("g2-standard-12",), 4)
    assert resource.image == "projects/p/global/images/family/f"
    assert {
        key: resource.settings[key] for key in ("project", "disk_gib", "service_account", "scopes", "metadata")
    } == {
        "project": "lab-1",
        "disk_gib": 200,
        "service_account": "default",
        "scopes": ["storage-ro", "logging-write"],
        "metadata": {"a": "1", "b": "2"},
    }


def test_the_fleet_of_gpu_compute_comes_out_but_for_the_type_which_its_form_does_not_name() -> None:
    text = imported(COMPUTE)
    config = parse(text, "fleet.yaml", ENVIRONMENT)
    (resource,) = config.resources
    assert (resource.provider, resource.max_instances, resource.instance_types) == ("genesis", 5, ())
    assert resource.idle_timeout == timedelta(minutes=15)
    assert config.queues[0].need == GpuNeed(at_least=2, at_most=2)
    assert "# GPU Type: RTX 3090: name the type under instance_types" in text
    assert "# Cloud Storage Access credentials: not copied" in text


@pytest.mark.parametrize("data", [AWS, GCP, COMPUTE], ids=["aws", "gcp", "compute"])
def test_no_secret_is_copied(data: dict[str, Any]) -> None:
    text = imported(data)
    assert "hunter2" not in text
    assert text.splitlines()[1].startswith("# Secrets were not copied; set these")


def test_what_is_not_known_or_has_no_place_is_said_in_a_line_each() -> None:
    text = imported(AWS)
    assert "# Mood: not known, left out" in text
    assert "# Compute Resources[0].Colour: not known, left out" in text
    assert "# Exclude .bashrc script: has no key here" in text
    assert "# Polling Interval: 5: fleet looks every 2s" in text


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"Max Idle Time (min)": "long"}, "Max Idle Time: expected a number above 0, got 'long'"),
        ({"Compute Resources": [{"Resource Name": "a"}]}, "Monitored Queue: resource a has none"),
        ({"Compute Resources": [{"Monitored Queue": "q", "EC2 Tags": "red"}]}, "EC2 Tags: expected name=text"),
        ({"Compute Resources": [{"Monitored Queue": "q", "Custom Launch Spec": "{"}]}, "Custom Launch Spec: expected"),
        (
            {"Spin down instances on Autoscaler shutdown": "some"},
            "Spin down instances on Autoscaler shutdown: expected",
        ),
    ],
)
def test_what_cannot_be_meant_is_refused_by_its_label(changes: dict[str, Any], expected: str) -> None:
    with pytest.raises(ConfigError) as refused:
        imported(AWS | changes)
    assert any(problem.startswith(f"export.json: {expected}") for problem in refused.value.problems), refused.value


def test_the_yaml_of_the_open_autoscaler_and_a_fleet_file_are_not_taken_for_an_export() -> None:
    assert "aws4gpu" in import_clearml(THEIRS, "aws_autoscaler.yaml")
    with pytest.raises(ConfigError, match="hyper_params: is missing"):
        import_clearml("cluster: a\nqueues: {}\n", "fleet.yaml")


LABELS = sorted({label for form in FORMS.values() for label in form})
VALUES = st.none() | st.booleans() | st.integers() | st.text(max_size=6) | st.lists(st.text(max_size=3), max_size=2)
PARTS = st.dictionaries(
    st.sampled_from(LABELS), VALUES | st.dictionaries(st.text(max_size=4), VALUES, max_size=2), max_size=8
)


@settings(max_examples=60, deadline=None)
@given(PARTS, st.lists(PARTS, max_size=2))
def test_whatever_is_in_it_a_text_or_a_refusal_comes_out(common: dict[str, Any], parts: list[dict[str, Any]]) -> None:
    problems: tuple[str, ...] = ()
    text = ""
    try:
        text = imported({"AWS Region": "r", "Git User": "u", **common, "items": parts})
    except ConfigError as error:
        problems = error.problems
    assert text.startswith("# Imported from ClearML's export.json") or problems
    assert not any("\n" in problem for problem in problems)


def test_a_field_that_is_given_twice_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"export\.json: Git User: given twice"):
        import_clearml('{"Git User": "a", "Git User": "b", "AWS Region": "r"}', "export.json")
