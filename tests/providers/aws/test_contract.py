"""EC2 keeps the contract of providers."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import pytest

from fleet.model import Resource
from tests.providers.aws.conftest import PATIENCE_S, a_provider, aws_resource
from tests.providers.aws.ec2 import Answer, Ec2, Fault, refusal
from tests.providers.contract import Ground, ProviderContract

pytestmark = pytest.mark.xdist_group("aws")


@dataclass
class Trouble:
    ec2: Ec2

    def hang(self) -> None:
        self.ec2.always = Fault(hangs=True)

    def throttle(self) -> None:
        self.ec2.always = Fault(instead=refusal("RequestLimitExceeded", "Request limit exceeded.", 503))

    def refuse_credentials(self) -> None:
        self.ec2.always = Fault(instead=refusal("AuthFailure", "AWS was not able to validate the credentials", 401))

    def garble(self) -> None:
        self.ec2.always = Fault(instead=Answer(body=b"<RunInstancesResponse><instancesSet><item><instanceId>i-"))


class TestAws(ProviderContract):
    @pytest.fixture
    def ground(self, ec2: Ec2, resource: Resource, tmp_path: Path) -> Ground:
        provider = a_provider(tmp_path, resource, patience_s=PATIENCE_S)
        return Ground(provider=provider, resource=resource, trouble=Trouble(ec2), patience_s=PATIENCE_S, many=5)


class TestAwsThatChooses(ProviderContract):
    """The same by CreateFleet."""

    @pytest.fixture
    def ground(self, ec2: Ec2, tmp_path: Path) -> Ground:
        resource = aws_resource(ec2, settings={"allocation_strategy": "price-capacity-optimized"})
        provider = a_provider(tmp_path, resource, patience_s=2 * PATIENCE_S)
        return Ground(provider=provider, resource=resource, trouble=Trouble(ec2), patience_s=2 * PATIENCE_S, many=5)
