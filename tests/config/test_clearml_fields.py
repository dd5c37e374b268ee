"""Every field of ClearML's autoscaler applications has its row in docs/configuration.md, and each key that a row names exists."""

from __future__ import annotations

import re

import pytest

from fleet.config import clearml_form as form
from fleet.config import parse
from fleet.config.resources import OWN_KEYS
from fleet.errors import ConfigError
from tests.test_docs import CONFIGURATION, EVERYWHERE, OF_A_URL, known_keys

# The fields of the launch forms, as ClearML's own pages name them: "AWS Autoscaler", "GCP Autoscaler" (webapp/applications), and
# "GPU Compute" of an earlier version of the same pages.
AWS = """
Import / Export Configuration; Use IAM role; AWS Region; Access Key ID; Secret Access Key; Git User;
Git Password / Personal Access Token; Max Idle Time; Spin down instances on Autoscaler shutdown; Workers Prefix; Polling Interval;
Use docker mode; Base Docker Image; Resource Name; EC2 Instance Type; Run in CPU mode; Use Spot Instance; Regular Instance Rollback;
Regular Instance Rollback Timeout; Spot Instance Blackout Period; Place tags on resources; Availability Zone; AMI ID or image name;
Max Number of Instances; Monitored Queue; EC2 Tags; EBS Device; EBS Volume Size; EBS Volume Type; Instance Key Pair;
Security Group ID; VPC Subnet ID; Use IAM instance profile; IAM Instance Profile Arn; IAM Instance Profile Name;
Autoscaler Instance Name; Apply Task Owner Vault Configuration; Warn if more than one instance is executing the same task;
Exclude .bashrc script; Ignore vault parsing errors; Init script; Additional ClearML Configuration; Custom Launch Spec;
Run with Service Account
"""
GCP = """
GCP Project ID; GCP Zone; Use full subnet path; Subnet Full Path; Subnet Name; GCP Credentials; Machine Type; GPU Type;
Use Preemptible Instance; Preemptible Provision Model; Machine Image; Disc Size; Use default service account; Service Account Email;
Service Account Scopes; Metadata; Global Metadata
"""
COMPUTE = """
GPU Type; Number of GPUs; Monitored Queue; Cloud Machine Limit; Idle Time Limit; Default Docker Image; Git user; Git password;
Cloud Storage Access credentials; Import configuration
"""
VAULT = """
aws_region; aws_access_key_id; aws_secret_access_key; gcp_credentials; extra_vm_bash_script; extra_clearml_conf; files; environment;
match; app_wizard_overrides
"""
HEADINGS = {
    "Fields of the AWS Autoscaler": (AWS, "aws"),
    "Fields of the GCP Autoscaler": (GCP, "gcp"),
    "Fields of GPU Compute": (COMPUTE, "genesis"),
    "Of the Enterprise vault `auto_scaler.v1`": (VAULT, None),
}


def fields(text: str) -> list[str]:
    return [" ".join(field.split()) for field in text.split(";")]


@pytest.mark.parametrize("heading", HEADINGS)
def test_every_field_has_its_row(heading: str) -> None:
    (table,) = CONFIGURATION.tables(heading)
    assert [row[0] for row in table.rows] == fields(HEADINGS[heading][0])


@pytest.mark.parametrize("heading", HEADINGS)
def test_every_key_that_a_row_names_is_known_to_the_reader(heading: str) -> None:
    known = known_keys(EVERYWHERE)
    known["server"] = known_keys(OF_A_URL)["server"]
    provider = HEADINGS[heading][1]
    own = OWN_KEYS[provider] if provider else (*OWN_KEYS["aws"], *OWN_KEYS["gcp"])
    places = {
        "": known[""],
        "resources.*": known["resources.r"] | set(own),
        "queues.*": known["queues.train"],
        **{path: keys for path, keys in known.items() if path.startswith(("agent", "budget", "server"))},
    }
    (table,) = CONFIGURATION.tables(heading)
    for row in table.rows:
        for name in re.findall(r"`([a-z_.*]+)`", row[1]):
            place, _, key = name.rpartition(".")
            assert key in places[place], f"{row[0]}: {name}"


@pytest.mark.parametrize(
    ("heading", "form"), [(h, f) for h, f in zip(HEADINGS, (form.AWS, form.GCP, form.COMPUTE), strict=False)]
)
def test_the_import_reads_each_field_as_its_row_says(heading: str, form: dict[str, str]) -> None:
    (table,) = CONFIGURATION.tables(heading)
    said = {row[0]: re.findall(r"`([a-z_.*]+)`", row[1])[:1] or [""] for row in table.rows}
    assert {label: [key] for label, key in form.items()} == said


@pytest.mark.parametrize("heading", HEADINGS)
def test_a_field_without_a_key_says_how_it_is_done_here(heading: str) -> None:
    (table,) = CONFIGURATION.tables(heading)
    for row in table.rows:
        assert row[1] or row[2].startswith(("by design: ", "the fleet file itself")), row


def test_global_metadata_by_a_yaml_anchor_is_read() -> None:
    config = parse(
        """
        cluster: lab
        advertise_url: https://fleet.lab
        resources:
          a: {provider: gcp, metadata: &all {team: vision}}
          b: {provider: gcp, metadata: *all}
        queues: {train: {resources: [a, b]}}
        """,
        "f",
        environment={},
    )
    assert [r.settings["metadata"] for r in config.resources] == [{"team": "vision"}] * 2


def test_on_shutdown_is_one_of_three() -> None:
    text = "cluster: lab\nresources: {a: {provider: local}}\nqueues: {train: {resources: [a]}}\non_shutdown: "
    assert parse(text + "idle", "f", environment={}).on_shutdown == "idle"
    with pytest.raises(ConfigError, match="on_shutdown: expected nothing, idle or all, got 'al'"):
        parse(text + "al", "f", environment={})
