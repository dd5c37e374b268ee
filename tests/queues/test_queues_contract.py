"""The memory and the client keep the same contract."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime

import pytest

from fleet.queues.client import ClearMLServer
from fleet.queues.memory import MemoryServer
from tests.queues.fake_clearml import FakeClearML
from tests.queues.queues_contract import ApiPeople, ConcurrentContract, MemoryPeople, QueuesContract


class TestInMemory(QueuesContract):
    @pytest.fixture
    def server(self) -> MemoryServer:
        return MemoryServer(lambda: datetime.now(UTC))

    @pytest.fixture
    def people(self, server: MemoryServer) -> MemoryPeople:
        return MemoryPeople(server)


class TestOverHttp(ConcurrentContract):
    @pytest.fixture
    def fake(self) -> Iterator[FakeClearML]:
        fake = FakeClearML()
        yield fake
        fake.close()

    @pytest.fixture
    def server(self, fake: FakeClearML) -> Iterator[ClearMLServer]:
        client = ClearMLServer(fake.access)
        yield client
        client.close()

    @pytest.fixture
    def people(self, server: ClearMLServer) -> ApiPeople:
        return ApiPeople(server)


class TestOverHttpToAnOldServer(TestOverHttp):
    """One that pops whoever is first, and cannot add to a queue without changing the task."""

    @pytest.fixture
    def fake(self) -> Iterator[FakeClearML]:
        fake = FakeClearML(knows_expected_head=False, has_add_task=False)
        yield fake
        fake.close()
