"""The two providers that need no account keep the contract."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from fleet.providers.fake import FakeCloud
from fleet.providers.local import LocalProvider
from tests.builders import a_resource, an_offer
from tests.providers.contract import Ground, ProviderContract
from tests.waiting import wait_for


class TestFake(ProviderContract):
    @pytest.fixture
    def ground(self) -> Ground:
        cloud = FakeCloud([an_offer(resource="*")], now=lambda: datetime.now(UTC))
        return Ground(provider=cloud, resource=a_resource())


class TestFakeWhoseListLags(ProviderContract):
    @pytest.fixture
    def ground(self) -> Ground:
        lag = timedelta(seconds=0.2)
        cloud = FakeCloud([an_offer(resource="*")], now=lambda: datetime.now(UTC), list_lag=lag)
        return Ground(provider=cloud, resource=a_resource())


@pytest.mark.system
class TestLocal(ProviderContract):
    @pytest.fixture
    def ground(self, tmp_path: Path) -> Iterator[Ground]:
        provider = LocalProvider(tmp_path / "local")
        settings = {"gpus": 2, "usd_per_hour": 1.5}
        yield Ground(provider=provider, resource=a_resource(provider="local", settings=settings), many=3)
        for cluster in ("test", "test-2"):
            provider.terminate([m.cloud_id for m in provider.list(cluster)])
        wait_for(lambda: not [*provider.list("test"), *provider.list("test-2")])
