"""What a machine is told by its cloud about itself, for others."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from agent_hooks.identity import Statement, statement
from agent_hooks.metadata import NoAnswer
from tests.agent_hooks.clouds import Ec2, Gce


@pytest.fixture
def ec2() -> Iterator[Ec2]:
    cloud = Ec2()
    yield cloud
    cloud.close()


@pytest.fixture
def gce() -> Iterator[Gce]:
    cloud = Gce()
    yield cloud
    cloud.close()


def test_ec2_is_asked_with_a_token_of_its_metadata_service(ec2: Ec2) -> None:
    ec2.rsa2048 = "MIAGCSqGSIb3DQEHAqCA\nMIAC"
    asked = {"FLEET_PROVIDER": "aws", "FLEET_METADATA_URL": ec2.url}
    assert statement(asked, "https://fleet") == Statement(kind="ec2", text=ec2.rsa2048)
    assert ec2.asked == ["PUT /latest/api/token", "GET /latest/dynamic/instance-identity/rsa2048"]


def test_google_is_asked_for_a_whole_token_for_this_dispatcher(gce: Gce) -> None:
    gce.token_for = "token for {}".format
    asked = {"FLEET_PROVIDER": "gcp", "GCE_METADATA_HOST": gce.url.removeprefix("http://")}
    assert statement(asked, "https://fleet:8765/x") == Statement(kind="gce", text="token for https://fleet:8765/x")


def test_a_machine_without_a_service_account_or_a_metadata_server_says_why(gce: Gce, ec2: Ec2) -> None:
    with pytest.raises(NoAnswer, match="identity: answered 404"):
        statement({"FLEET_PROVIDER": "gcp", "FLEET_METADATA_URL": gce.url}, "https://fleet")
    ec2.is_broken = b"oops"
    with pytest.raises(NoAnswer, match="token: answered 500"):
        statement({"FLEET_PROVIDER": "aws", "FLEET_METADATA_URL": ec2.url}, "https://fleet")


def test_a_machine_in_no_cloud_has_nothing_to_say(tmp_path: Path) -> None:
    assert statement({}, "https://fleet", dmi=tmp_path) is None
