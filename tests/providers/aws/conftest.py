"""One moto for all tests of this room, emptied between them; a client of its own to look behind the provider's back."""

from __future__ import annotations

import functools
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import boto3
import pytest

from fleet.model import Resource
from fleet.providers.aws.access import Access
from fleet.providers.aws.provider import AwsProvider
from fleet.providers.base import FirstBoot, LaunchOrder, Surroundings
from tests.builders import a_resource
from tests.providers.aws.ec2 import Ec2, served

REGION = "us-east-1"
PATIENCE_S = 1.5


@pytest.fixture(scope="session")
def aws() -> Iterator[Ec2]:
    with served() as server:
        # moto reads its lists at the first question, which takes seconds.
        client(server).describe_instance_types(InstanceTypes=["g5.xlarge"])
        client(server).run_instances(ImageId="ami-12c6146b", MinCount=1, MaxCount=1)
        server.ever.clear()
        yield server


@pytest.fixture
def ec2(aws: Ec2, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Ec2:
    """Empty, with credentials in the environment, where boto3's own chain finds them."""
    aws.forget()
    aws.prices.update({"g5.xlarge": 1.006, "g5.12xlarge": 5.672, "t3.micro": 0.0104})
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "testing")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "testing")
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "none"))
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "none"))
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    return aws


@pytest.fixture(scope="module")
def shop(aws: Ec2, tmp_path_factory: pytest.TempPathFactory) -> tuple[AwsProvider, LaunchOrder]:
    """A provider that has looked around, and an order to vary: for tests that need no empty EC2."""
    aws.forget()
    keys: dict[str, object] = {"access_key": "testing", "secret_key": "testing"}
    resource = aws_resource(aws, settings=keys)
    provider = a_provider(tmp_path_factory.mktemp("shop"), resource)
    offer = provider.offers(resource, datetime.now(UTC))[0]
    boot = FirstBoot(centre_url="https://fleet.lab:8765", join_token="t")
    return provider, LaunchOrder(instance="i", cluster="test", resource=resource, offer=offer, first_boot=boot)


@pytest.fixture
def resource(ec2: Ec2) -> Resource:
    return aws_resource(ec2)


@pytest.fixture
def provider(ec2: Ec2, resource: Resource, tmp_path: Path) -> AwsProvider:
    return a_provider(tmp_path, resource)


def aws_resource(ec2: Ec2, name: str = "gpu", settings: dict[str, object] | None = None, **changes: Any) -> Resource:
    base: dict[str, Any] = {
        "provider": "aws",
        "region": REGION,
        "zones": ("us-east-1a",),
        "instance_types": ("g5.xlarge",),
        "image": "ami-12c6146b",
        "settings": {"endpoint_url": ec2.url, **(settings or {})},
    }
    return a_resource(name, **(base | changes))


def a_provider(directory: Path, *resources: Resource, patience_s: float = 10.0) -> AwsProvider:
    surroundings = Surroundings(cluster="test", directory=directory / "aws", resources=resources)
    return AwsProvider(surroundings, access=lambda place: Access(place, read_timeout_s=patience_s))


@functools.cache
def _client(url: str, service: str, region: str) -> Any:
    return boto3.client(service, region_name=region, endpoint_url=url, aws_access_key_id="t", aws_secret_access_key="t")


def client(ec2: Ec2, service: str = "ec2", region: str = REGION) -> Any:
    """Of the test's own."""
    return _client(ec2.url, service, region)


def machines(ec2: Ec2, region: str = REGION) -> list[dict[str, Any]]:
    """Every machine that was ever started, with its state, as EC2 tells it."""
    pages = client(ec2, region=region).get_paginator("describe_instances").paginate(PaginationConfig={"PageSize": 1000})
    return [machine for page in pages for part in page["Reservations"] for machine in part["Instances"]]


def alive(ec2: Ec2) -> list[dict[str, Any]]:
    return [m for m in machines(ec2) if m["State"]["Name"] in ("pending", "running")]
