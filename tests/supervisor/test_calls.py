"""What the loop asks of others: one errand at a time for each of them."""

from __future__ import annotations

from datetime import UTC, datetime
from unittest.mock import MagicMock

from fleet.model import GpuNeed, Task
from fleet.supervisor.calls import Calls
from fleet.supervisor.clock import Clock
from fleet.supervisor.jobs import Job

AT = datetime(2026, 11, 22, tzinfo=UTC)
TASK = Task(id="t1", queue="train", position=0, enqueued_at=AT, need=GpuNeed(at_least=1, at_most=1))


def test_claims_are_held_once_however_long_the_server_does_not_answer() -> None:
    """They go before everything else: a server that came back after minutes was asked the same so often before it was asked anything new."""
    claims = MagicMock()
    calls = Calls(
        claims=claims, centre=MagicMock(), senses=MagicMock(), contact=MagicMock(), clock=Clock(), report=MagicMock()
    )
    job = Job(key="a1", task=TASK, gpus=(), worker="w", claimed_at=AT)
    for _ in range(3):
        calls.hold([job])
    while calls.server.has("hold"):
        calls.server.step()
    claims.ping.assert_called_once_with("t1")
