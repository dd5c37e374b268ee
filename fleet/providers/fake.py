"""A whole cloud in memory, for tests and the simulator. It can be told to fail, to lag, and to take machines back."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta

from fleet.errors import ProviderError
from fleet.model import Market, Offer, Resource
from fleet.providers.base import Finding, Launched, LaunchFailed, LaunchOrder, Machine, Surroundings


@dataclass(slots=True)
class FakeMachine:
    """A machine of the fake cloud; a test may look at it and end it behind everybody's back."""

    machine: Machine
    order: LaunchOrder
    ended_at: datetime | None = None


class FakeCloud:
    """Keeps the contract of `Provider`; launches are idempotent by the intent's id, as every real one must be."""

    def __init__(
        self,
        shapes: Sequence[Offer] = (),
        *,
        now: Callable[[], datetime],
        list_lag: timedelta = timedelta(0),
    ) -> None:
        self.shapes = list(shapes)
        self.now = now
        self.list_lag = list_lag
        self.machines: dict[str, FakeMachine] = {}  # all there ever were
        self._running: dict[str, FakeMachine] = {}
        self.launch_calls: list[tuple[str, ...]] = []
        self.terminate_calls: list[tuple[str, ...]] = []
        self.consoles: dict[str, str] = {}  # what machines printed, by cloud id
        # Faults to come, one for each call of that verb (a list fault fails the whole call; None = no fault).
        self.next_launch_faults: deque[ProviderError | None] = deque()
        self.next_order_faults: deque[ProviderError | None] = deque()
        self.next_list_faults: deque[ProviderError | None] = deque()
        self.next_terminate_faults: deque[ProviderError | None] = deque()

    def offers(self, resource: Resource, at: datetime) -> Sequence[Offer]:
        return [replace(o, resource=resource.name) for o in self.shapes if o.resource in (resource.name, "*")]

    def launch(self, orders: Sequence[LaunchOrder]) -> Sequence[Launched | LaunchFailed]:
        self.launch_calls.append(tuple(o.instance for o in orders))
        _raise_next(self.next_launch_faults)
        return [self._launch_one(order) for order in orders]

    def _launch_one(self, order: LaunchOrder) -> Launched | LaunchFailed:
        known = self.machines.get(f"fake-{order.instance}")
        if known is None:
            fault = self.next_order_faults.popleft() if self.next_order_faults else None
            if fault:
                return LaunchFailed(instance=order.instance, error=fault)
            machine = Machine(
                cloud_id=f"fake-{order.instance}",
                cluster=order.cluster,
                instance=order.instance,
                resource=order.resource.name,
                launched_at=self.now(),
            )
            known = self.machines[machine.cloud_id] = self._running[machine.cloud_id] = FakeMachine(machine, order)
        return Launched(instance=order.instance, cloud_id=known.machine.cloud_id)

    def list(self, cluster: str) -> Sequence[Machine]:
        _raise_next(self.next_list_faults)
        at = self.now()
        return [
            m.machine
            for m in self._running.values()
            if m.machine.cluster == cluster and at - m.machine.launched_at >= self.list_lag
        ]

    def terminate(self, cloud_ids: Sequence[str]) -> None:
        self.terminate_calls.append(tuple(cloud_ids))
        _raise_next(self.next_terminate_faults)
        for cloud_id in cloud_ids:
            self.end(cloud_id)

    def check(self, resource: Resource, at: datetime) -> Sequence[Finding]:
        return [Finding(name="account", found="in memory; nothing is launched and nothing is paid")]

    def console(self, cloud_id: str) -> str | None:
        return self.consoles.get(cloud_id)

    def end(self, cloud_id: str) -> None:
        """The machine is no more, whoever ended it."""
        found = self._running.pop(cloud_id, None)
        if found:
            found.ended_at = self.now()


def make(surroundings: Surroundings) -> FakeCloud:
    """The entry point: a cloud of one shape, on the real clock, for trying `fleet plan` and the operator API without spending."""
    at = datetime.now(UTC)
    shape = Offer(
        resource="*",
        provider="fake",
        type="fake-4gpu",
        market=Market.ON_DEMAND,
        price_usd_per_hour=1.0,
        gpus=4,
        gpu_model="Fake A100",
        gpu_memory_gib=40.0,
        cpus=16,
        seen_at=at,
    )
    return FakeCloud([shape], now=lambda: datetime.now(UTC))


def _raise_next(faults: deque[ProviderError | None]) -> None:
    fault = faults.popleft() if faults else None
    if fault:
        raise fault
