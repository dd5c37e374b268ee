"""docs/aws.md as its reader follows it: the commands of the page, in its order, against EC2 over HTTP, to a machine that was launched."""

from __future__ import annotations

import json
import os
import re
import signal
import socket
import stat
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.markdown import Page
from tests.ports import a_free_port
from tests.providers.aws.conftest import alive
from tests.providers.aws.ec2 import Answer, Ec2, Fault, served
from tests.system.ring import ROOT
from tests.waiting import wait_for

pytestmark = [pytest.mark.system, pytest.mark.xdist_group("cloud-pages")]

MOST_COMMANDS = 10
PAGES = ("aws", "gcp", "genesis")
AMI = "ami-12c6146b"  # one of those that moto has
UBUNTU = json.dumps({"Parameter": {"Name": "ubuntu", "Type": "String", "Value": AMI, "Version": 1}}).encode()
# What the page has its reader do to the host and the account; here both are ready.
PREPARED = ("python3 -m venv", ". ", "pip install", "aws configure")


def commands(name: str) -> list[str]:
    (block,) = Page(ROOT / "docs" / f"{name}.md").blocks("sh")
    return block.splitlines()


@pytest.mark.parametrize("name", PAGES)
def test_a_page_needs_ten_commands_or_fewer(name: str) -> None:
    lines = commands(name)
    assert len(lines) <= MOST_COMMANDS
    assert [line.split()[1] for line in lines if line.startswith("fleet ")][:3] == ["init", "doctor", "dispatch"]


class Reader:
    """Somebody at a shell of the dispatcher's host, with nothing of his own but credentials in the environment."""

    def __init__(self, place: Path, ec2: Ec2) -> None:
        self.place, self.ec2 = place, ec2
        shim = place / "bin" / "fleet"
        shim.parent.mkdir()
        shim.write_text(f'#!/bin/sh\nexec {sys.executable} -m fleet "$@"\n')
        shim.chmod(shim.stat().st_mode | stat.S_IXUSR)
        kept = {k: v for k, v in os.environ.items() if not k.startswith(("AWS_", "FLEET_", "CLEARML_"))}
        self.environment = {
            **kept,
            "HOME": str(place),
            "PATH": f"{shim.parent}:{os.environ['PATH']}",
            "PYTHONPATH": str(ROOT),
            "AWS_ENDPOINT_URL": ec2.url,
            "AWS_ACCESS_KEY_ID": "AKIAREADER",
            "AWS_SECRET_ACCESS_KEY": "s3cret-of-the-reader",
            "AWS_EC2_METADATA_DISABLED": "true",
        }
        self.dispatcher: subprocess.Popen[bytes] | None = None

    def types(self, line: str) -> str:
        done = subprocess.run(
            ["bash", "-c", line],
            cwd=self.place,
            env=self.environment,
            capture_output=True,
            text=True,
            timeout=90,
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

    def log(self) -> str:
        return (self.place / "dispatch.log").read_text()

    def close(self) -> None:
        if self.dispatcher and self.dispatcher.poll() is None:
            self.dispatcher.send_signal(signal.SIGKILL)
            self.dispatcher.wait()


@pytest.fixture
def reader(tmp_path: Path) -> Iterator[Reader]:
    with served() as ec2:
        ec2.prices["g5.xlarge"] = 1.006
        ec2.quotas.update({"L-DB2E81BA": 8.0, "L-3819A6DF": 8.0})
        # Canonical's public parameter, which moto does not have: "Finding AMIs with SSM" (Ubuntu on AWS)
        told = Fault(action="GetParameter", instead=Answer(body=UBUNTU, kind="application/x-amz-json-1.1"))
        ec2.faults.extend([told] * 50)
        person = Reader(tmp_path, ec2)
        yield person
        person.close()


def test_the_page_of_aws_leads_from_nothing_to_a_running_machine(reader: Reader) -> None:
    (reader.place / "train.py").write_text("print('trained')\n")
    machines: list[dict[str, Any]] = []
    for line in (line for line in commands("aws") if not line.startswith(PREPARED)):
        if line.startswith("fleet dispatch"):
            reader.starts(line)
            wait_for(lambda: "fleet runs" in reader.log() or reader.dispatcher.poll() is not None, 60)  # type: ignore[union-attr]
            assert "fleet runs" in reader.log()
        elif line.startswith("fleet status"):
            wait_for(lambda: alive(reader.ec2), 60, what="a machine is launched")

            def known() -> list[dict[str, Any]] | None:
                seen, there = json.loads(reader.types("fleet status --json")), alive(reader.ec2)
                ids = [i["cloud_id"] for i in seen["instances"]]
                return there if len(there) == 1 and ids == [there[0]["InstanceId"]] else None

            machines = wait_for(known, 150, what="the one machine is known", every_s=1) or []
        else:
            said = reader.types(line)
            if line.startswith("fleet init"):
                _give_it_a_port_that_is_free_here(reader.place / "fleet.yaml")
            elif line.startswith("fleet doctor"):
                assert "WRONG" not in said
                assert re.search(r"ok .*credentials.* arn:aws:", said)
    (machine,) = machines
    tags = {tag["Key"]: tag["Value"] for tag in machine["Tags"]}
    assert tags["fleet:cluster"] == "research"
    assert machine["InstanceType"] == "g5.xlarge"
    text = "\n".join(p.read_text(errors="replace") for p in reader.place.glob("*") if p.is_file())
    assert "s3cret-of-the-reader" not in text


def _give_it_a_port_that_is_free_here(file: Path) -> None:
    """The page's port may be somebody else's on a machine that runs tests."""
    text = file.read_text()
    port = a_free_port()
    assert text.count("8765") == 2
    file.write_text(text.replace("8765", str(port)))
    with socket.socket() as probe:
        probe.bind(("0.0.0.0", port))
