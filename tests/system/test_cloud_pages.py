"""The pages docs/aws.md, gcp.md and genesis.md as their readers follow them: the commands of the page, in its order, against the cloud's
API over HTTP (moto, and the fakes of tests/providers), to a machine that was launched."""

from __future__ import annotations

import json
import os
import re
import signal
import socket
import stat
import subprocess
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest

from tests.markdown import Page
from tests.ports import a_free_port
from tests.providers import compute_engine
from tests.providers.aws.conftest import alive
from tests.providers.aws.ec2 import Answer, Ec2, Fault, served
from tests.providers.genesis_cloud import TOKEN, GenesisCloud
from tests.system.ring import ROOT
from tests.waiting import PATIENCE, wait_for

pytestmark = [pytest.mark.system, pytest.mark.xdist_group("cloud-pages")]

MOST_COMMANDS = 10
PAGES = ("aws", "gcp", "genesis")
AMI = "ami-12c6146b"  # one of those that moto has
UBUNTU = json.dumps({"Parameter": {"Name": "ubuntu", "Type": "String", "Value": AMI, "Version": 1}}).encode()
# What the page has its reader do to the host and the account; here both are ready.
PREPARED = ("python3 -m venv", ". ", "pip install", "aws configure", "gcloud auth", "export ")
CLOUDS = ("AWS_", "FLEET_", "CLEARML_", "GOOGLE_", "CLOUDSDK_", "GENESIS")


def commands(name: str) -> list[str]:
    block, *_ = Page(ROOT / "docs" / f"{name}.md").blocks("sh")  # what else a fleet may want comes after
    return block.splitlines()


@pytest.mark.parametrize("name", PAGES)
def test_a_page_needs_ten_commands_or_fewer(name: str) -> None:
    lines = commands(name)
    assert len(lines) <= MOST_COMMANDS
    assert [line.split()[1] for line in lines if line.startswith("fleet ")][:3] == ["init", "doctor", "dispatch"]


class Reader:
    """Somebody at a shell of the dispatcher's host, with nothing of his own but credentials in the environment."""

    def __init__(self, place: Path, own: Mapping[str, str]) -> None:
        self.place = place
        shim = place / "bin" / "fleet"
        shim.parent.mkdir()
        shim.write_text(f'#!/bin/sh\nexec {sys.executable} -m fleet "$@"\n')
        shim.chmod(shim.stat().st_mode | stat.S_IXUSR)
        kept = {k: v for k, v in os.environ.items() if not k.startswith(CLOUDS)}
        self.environment = {
            **kept,
            "HOME": str(place),
            "PATH": f"{shim.parent}:{os.environ['PATH']}",
            "PYTHONPATH": str(ROOT),
            **own,
        }
        self.dispatcher: subprocess.Popen[bytes] | None = None

    def types(self, line: str) -> str:
        done = subprocess.run(
            ["bash", "-c", line],
            cwd=self.place,
            env=self.environment,
            capture_output=True,
            text=True,
            timeout=90 * PATIENCE,
            check=False,
        )
        assert done.returncode == 0, (line, done.stdout, done.stderr)
        return done.stdout

    def starts(self, line: str) -> None:
        with (self.place / "dispatch.log").open("wb") as log:
            self.dispatcher = subprocess.Popen(
                ["bash", "-c", f"exec {line.removesuffix('&').strip()}"],
                cwd=self.place,
                env=self.environment,
                stdout=log,
                stderr=log,
            )

    def follows(
        self, page: str, alive: Callable[[], list[Any]], id_of: Callable[[Any], str], endpoint: str | None = None
    ) -> Any:
        """Each command of the page; the one machine that runs in the cloud then, which `fleet status` knows too.

        `endpoint`: where the cloud of the resource is, which no page says.
        """
        (self.place / "train.py").write_text("print('trained')\n")
        for line in (line for line in commands(page) if not line.startswith(PREPARED)):
            if line.startswith("fleet dispatch"):
                self.starts(line)
                wait_for(lambda: "fleet runs" in self.log() or self.has_ended(), 60)
                assert "fleet runs" in self.log()
            elif line.startswith("fleet status"):
                wait_for(alive, 60, what="a machine is launched")

                def known() -> list[Any] | None:
                    seen, there = json.loads(self.types("fleet status --json")), alive()
                    ids = [i["cloud_id"] for i in seen["instances"]]
                    return there if len(there) == 1 and ids == [id_of(there[0])] else None

                (machine,) = wait_for(known, 150, what="the one machine is known", every_s=1) or []
                return machine
            else:
                said = self.types(line)
                if line.startswith("fleet init"):
                    _fit_to_this_computer(self.place / "fleet.yaml", endpoint)
                elif line.startswith("fleet doctor"):
                    assert "WRONG" not in said, said
                    # A path stays whole.
                    assert [row for row in said.splitlines() if len(row) > 100 and str(self.place) not in row] == []
                    (self.place / "doctor.out").write_text(said)
        raise AssertionError(f"docs/{page}.md does not look at what runs")

    def has_ended(self) -> bool:
        return self.dispatcher is not None and self.dispatcher.poll() is not None

    def log(self) -> str:
        return (self.place / "dispatch.log").read_text()

    def close(self) -> None:
        if self.dispatcher and self.dispatcher.poll() is None:
            self.dispatcher.send_signal(signal.SIGKILL)
            self.dispatcher.wait()


def secrets_written(place: Path, secret: str) -> list[str]:
    """Files of the reader's directory that hold it."""
    return [p.name for p in place.glob("*") if p.is_file() and secret in p.read_text(errors="replace")]


def test_the_page_of_aws_leads_from_nothing_to_a_running_machine(tmp_path: Path) -> None:
    with served() as ec2:
        ec2.prices["g5.xlarge"] = 1.006
        ec2.quotas.update({"L-DB2E81BA": 8.0, "L-3819A6DF": 8.0})
        # Canonical's public parameter, which moto does not have: "Finding AMIs with SSM" (Ubuntu on AWS)
        told = Fault(action="GetParameter", instead=Answer(body=UBUNTU, kind="application/x-amz-json-1.1"))
        ec2.faults.extend([told] * 50)
        reader = Reader(tmp_path, environment_of_aws(ec2))
        try:
            machine = reader.follows("aws", lambda: alive(ec2), lambda m: str(m["InstanceId"]))
        finally:
            reader.close()
    tags = {tag["Key"]: tag["Value"] for tag in machine["Tags"]}
    assert tags["fleet:cluster"] == "research"
    assert machine["InstanceType"] == "g5.xlarge"
    assert re.search(r"ok .*credentials.* arn:aws:", (tmp_path / "doctor.out").read_text())
    assert secrets_written(tmp_path, "s3cret-of-the-reader") == []


def environment_of_aws(ec2: Ec2) -> dict[str, str]:
    return {
        "AWS_ENDPOINT_URL": ec2.url,
        "AWS_ACCESS_KEY_ID": "AKIAREADER",
        "AWS_SECRET_ACCESS_KEY": "s3cret-of-the-reader",
        "AWS_EC2_METADATA_DISABLED": "true",
    }


def test_the_page_of_google_cloud_leads_from_nothing_to_a_running_machine(tmp_path: Path) -> None:
    cloud = compute_engine.ComputeEngine()
    (tmp_path / "adc.json").write_text(json.dumps({"type": "authorized_user", "refresh_token": "of-the-reader"}))
    reader = Reader(tmp_path, {"GOOGLE_APPLICATION_CREDENTIALS": str(tmp_path / "adc.json")})
    with compute_engine.served(cloud) as url:
        try:
            machine = reader.follows(
                "gcp",
                lambda: [(zone, name, m) for (_, zone, name), m in cloud.instances.items()],
                lambda found: f"my-project/{found[0]}/{found[1]}",
                endpoint=url,
            )[2]
        finally:
            reader.close()
    assert machine["labels"]["fleet-cluster"] == "research"
    assert machine["machineType"] == "g2-standard-4"
    assert machine["scheduling"]["provisioningModel"] == "SPOT"
    assert machine["scheduling"]["instanceTerminationAction"] == "DELETE"
    assert int(machine["scheduling"]["maxRunDuration"]["seconds"]) > 48 * 3600
    assert secrets_written(tmp_path, "of-the-reader") == ["adc.json"]


def test_the_page_of_genesis_cloud_leads_from_nothing_to_a_running_machine(
    tmp_path: Path,
) -> None:
    cloud = GenesisCloud()
    cloud.sells("vcpu-4_memory-12g_nvidia-rtx-3080-1")
    reader = Reader(tmp_path, {"GENESIS_TOKEN": TOKEN})
    with compute_engine.served(cloud) as url:
        try:
            machine = reader.follows(
                "genesis", lambda: list(cloud.instances.values()), lambda m: str(m["id"]), endpoint=url
            )
        finally:
            reader.close()
    assert machine["name"].startswith("fleet_research_")
    (body,) = cloud.bodies
    assert body["ssh_keys"] == ["key-0"]
    assert body["destroy_on_shutdown"] is True
    assert secrets_written(tmp_path, TOKEN) == []


def _fit_to_this_computer(file: Path, endpoint: str | None) -> None:
    """The page's port may be somebody else's on a machine that runs tests, and its cloud is not here."""
    text = file.read_text()
    port = a_free_port()
    assert text.count("8765") == 2
    text = text.replace("8765", str(port))
    if endpoint:
        text = re.sub(r"^(    provider: .*)$", rf"\1\n    endpoint_url: {endpoint}", text, count=1, flags=re.MULTILINE)
    file.write_text(text)
    with socket.socket() as probe:
        probe.bind(("0.0.0.0", port))
