"""Packer's templates are right, and `fleet bake` makes an AMI of a resource with them, against moto's EC2."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from fleet.assemble import baking
from fleet.assemble.image_line import with_image
from fleet.config import parse
from fleet.errors import ConfigError
from tests.cli.running import Shell
from tests.images.packing import PACKER, PACKER_MISSING, quiet, switches
from tests.providers.aws.ec2 import Ec2, served

needs_packer = pytest.mark.skipif(PACKER_MISSING is not None, reason=str(PACKER_MISSING))
POLICY = PACKER.parent / "iam" / "aws-bake-policy.json"
VARIABLES = {
    "aws": {"region": "us-east-1", "source_filters": {"name": "ubuntu*"}, "source_owners": ["099720109477"]},
    "gcp": {"project": "p", "zone": "us-central1-a", "source_family": "f", "source_projects": ["ubuntu-os-cloud"]},
}
FLEET_FILE = """\
cluster: lab   # ours
advertise_url: https://fleet.lab
resources:
  # spot, because it is cheap
  a10: {provider: aws, region: us-east-1, instance_types: [g5.xlarge], endpoint_url: "URL", market: spot}  # all of it
queues:
  train: {resources: [a10], gpus: 1}
"""
# Stands before the real Packer: it takes out what needs a machine that one can log in to, which moto does not start.
WITHOUT_LOGIN = """\
#!{python}
import os, pathlib, re, sys
for file in pathlib.Path().glob("*.pkr.hcl"):
    text = file.read_text().replace('communicator  = "ssh"', 'communicator  = "none"')
    file.write_text(re.sub(r"(?ms)^  provisioner .*?^  }}\\n", "", text))
os.execv("{packer}", ["packer", *sys.argv[1:]])
"""


@needs_packer
@pytest.mark.parametrize("cloud", VARIABLES)
def test_packer_finds_nothing_wrong_with_a_template(cloud: str, tmp_path: Path) -> None:
    shutil.copy(PACKER / f"{cloud}.pkr.hcl", tmp_path)
    (tmp_path / "package").mkdir()
    told = {
        **VARIABLES[cloud],
        "package": str(tmp_path / "package"),
        "manifest": str(tmp_path / "m"),
        "name": "fleet-x",
    }
    (tmp_path / "x.auto.pkrvars.json").write_text(json.dumps(told))
    for command in (["packer", "validate", "."], ["packer", "fmt", "-check", "."]):
        done = subprocess.run(command, cwd=tmp_path, env=quiet(tmp_path), capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stdout + done.stderr


def test_both_templates_provision_alike() -> None:
    aws, gcp = (
        re.sub(r"source\.\S+", "", (PACKER / f"{c}.pkr.hcl").read_text().split("build {")[1]) for c in VARIABLES
    )
    assert aws == gcp
    assert aws.count("provision/run.sh bake") == 1


@pytest.fixture(scope="module")
def moto() -> Iterator[Ec2]:
    """EC2's API, as moto has it, with a record of what was called."""
    with served() as server:
        yield server


@pytest.fixture
def shell(tmp_path: Path) -> Shell:
    keys = {"AWS_ACCESS_KEY_ID": "k", "AWS_SECRET_ACCESS_KEY": "s", "AWS_EC2_METADATA_DISABLED": "true"}
    return Shell(tmp_path, {**switches(tmp_path / "packer.d"), **keys})


@pytest.mark.system
@needs_packer
def test_fleet_bake_makes_an_ami_says_its_id_and_writes_it_into_the_fleet_file(shell: Shell, moto: Ec2) -> None:
    import boto3

    ec2 = boto3.client("ec2", "us-east-1", endpoint_url=moto.url, aws_access_key_id="k", aws_secret_access_key="s")
    source = ec2.describe_images(Filters=[{"Name": "root-device-type", "Values": ["ebs"]}])["Images"][0]["ImageId"]
    moto.calls.clear()
    programs = shell.place / "bin"
    programs.mkdir()
    (programs / "packer").write_text(WITHOUT_LOGIN.format(python=sys.executable, packer=shutil.which("packer")))
    (programs / "packer").chmod(0o755)
    file = shell.place / "fleet.yaml"
    file.write_text(FLEET_FILE.replace("URL", moto.url))
    done = shell.fleet("bake", "aws", "--source", source, "--write", PATH=f"{programs}:{os.environ['PATH']}")
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-2000:]
    called = set(moto.calls) - {"sts:GetCallerIdentity"}  # needs no permission
    image = done.stdout.splitlines()[-1]
    (made,) = ec2.describe_images(ImageIds=[image])["Images"]
    assert re.fullmatch(r"fleet-lab-a10-\d{8}-\d{6}", made["Name"])
    assert {"Key": "fleet:cluster", "Value": "lab"} in made["Tags"]
    states = [i["State"]["Name"] for r in ec2.describe_instances()["Reservations"] for i in r["Instances"]]
    assert set(states) == {"terminated"}
    assert_policy_allows(moto, called)
    written = FLEET_FILE.replace("URL", moto.url).replace("{provider: aws", f"{{image: {image}, provider: aws")
    assert file.read_text() == written


def assert_policy_allows(moto: Ec2, called: set[str]) -> None:
    """All that Packer called and nothing else, and the conditions of the policy are met by what it asked for."""
    statements = {s["Sid"]: s for s in json.loads(POLICY.read_text())["Statement"]}
    actions = {a for s in statements.values() for a in ([s["Action"]] if isinstance(s["Action"], str) else s["Action"])}
    # Where the fleet file names a subnet, it looks at it.
    assert called | {"ec2:DescribeSubnets"} == actions
    machine = "LaunchOnlyAMachineThatBakes", "aws:RequestTag/fleet:bake"
    tags = "TagTheImageAndWhatIsBeingMade", "aws:RequestTag/fleet:cluster"
    for sid, condition in (machine, tags):
        assert statements[sid]["Condition"] == {"StringLike": {condition: "*"}}
    (launched,) = [parameters for parameters in moto.started if "packer" in parameters.get("KeyName", "")]
    kinds = [value for key, value in launched.items() if key.endswith("ResourceType")]
    assert kinds == ["instance"]
    # Packer writes its tags in any order.
    keys = [value for key, value in launched.items() if re.fullmatch(r"TagSpecification\.1\.Tag\.\d+\.Key", key)]
    assert "fleet:bake" in keys
    # The tag of the cluster is the image's alone: a dispatcher ends what carries it and that it does not know.
    assert "fleet:cluster" not in launched.values()
    for parameters in (p for p in moto.made if p["Action"] == "CreateTags"):
        assert parameters["ResourceId.1"].startswith(("ami-", "snap-")), parameters
        assert "fleet:cluster" in parameters.values()
    (pair,) = [p["KeyName"] for p in moto.made if p["Action"] == "CreateKeyPair"]
    assert pair.startswith("packer_")


def test_without_packer_it_says_so_in_one_line(shell: Shell) -> None:
    (shell.place / "fleet.yaml").write_text(FLEET_FILE.replace("URL", "http://127.0.0.1:1"))
    said = shell.refusal("bake", "aws", PATH="/nonexistent")
    assert "packer is not on this machine's PATH" in said


def test_it_asks_which_resource_where_there_are_several(shell: Shell) -> None:
    (shell.place / "fleet.yaml").write_text(FLEET_FILE)
    assert "no resource of gcp" in shell.refusal("bake", "gcp")
    assert "no resource of aws is called b; there are " in shell.refusal("bake", "aws", "--resource", "b")


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("resources:\n  r:\n    provider: aws # c\n", "resources:\n  r:\n    image: ami-9\n    provider: aws # c\n"),
        ("resources:\n  r:\n    image: ami-1  # old\n", "resources:\n  r:\n    image: ami-9  # old\n"),
        ("resources: {r: {image: 'ami-1', x: 1}}\n", "resources: {r: {image: ami-9, x: 1}}\n"),
        ("resources: {r: {x: 1}}", "resources: {r: {image: ami-9, x: 1}}"),
    ],
)
def test_an_image_is_written_where_it_belongs_and_nothing_else_changes(before: str, after: str) -> None:
    assert with_image(before, "r", "ami-9") == after


@pytest.mark.parametrize(
    "text", ["resources: {}", "resources: {r: }", "a: [", "resources: {r: &x {y: 1}, s: *x}\nq: *x"]
)
def test_a_file_in_which_its_place_is_not_plain_is_left_to_its_owner(text: str) -> None:
    with pytest.raises(ConfigError, match="put `image: ami-9` into it yourself"):
        with_image(text, "r", "ami-9")


def test_a_machine_of_google_is_baked_in_the_project_and_zone_of_its_resource() -> None:
    from datetime import UTC, datetime

    config = parse(
        "cluster: lab\nadvertise_url: https://fleet.lab\nresources: {r: {provider: gcp, project: p, zones: [us-central1-a], subnets: [s]}}\n"
        "queues: {train: {resources: [r]}}\n",
        "f",
        environment={},
    )
    told = baking.bake_of("gcp", config, config.resources[0], datetime(2026, 1, 2, tzinfo=UTC), source=None).variables
    assert {"project": "p", "zone": "us-central1-a", "subnetwork": "s"}.items() <= told.items()
    assert told["name"] == "fleet-lab-r-20260102-000000"
    assert set(told) <= set(re.findall(r'^variable "(\w+)"', (PACKER / "gcp.pkr.hcl").read_text(), re.MULTILINE))
