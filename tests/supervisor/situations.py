"""Situations of a supervisor for tests of what it decides."""

from datetime import UTC, datetime, timedelta

from fleet.model import Gpu, GpuNeed, Queue, Reason, Task
from fleet.supervisor.decide import decide
from fleet.supervisor.instructions import Claim
from fleet.supervisor.situation import Held, Policy, State

T0 = datetime(2026, 1, 1, tzinfo=UTC)
GPUS = tuple(Gpu(index=i, uuid=f"g{i}", model="A10", memory_gib=24) for i in range(4))
WHY = Reason(code="operator", text="an operator said so")


def at(seconds: float) -> datetime:
    return T0 + timedelta(seconds=seconds)


def a_queue(name: str, priority: int = 0, slots: int | None = None) -> Queue:
    return Queue(name=name, resources=("lab",), need=GpuNeed(at_least=1, at_most=1), priority=priority, slots=slots)


POLICY = Policy(
    queues=(a_queue("train"), a_queue("urgent", priority=10)),
    idle_timeout=timedelta(seconds=600),
    contact_timeout=timedelta(seconds=300),
    max_lifetime=timedelta(hours=24),
)


def a_task(id: str, gpus: float = 1, queue: str = "train", position: int = 0) -> Task:
    need = GpuNeed(at_least=gpus, at_most=gpus)
    return Task(id=id, queue=queue, position=position, enqueued_at=T0, need=need)


def held(id: str, *gpus: int, queue: str = "train", **more) -> Held:
    return Held(task=a_task(id, len(gpus), queue), gpus=tuple(f"g{i}" for i in gpus), **more)


def a_part(id: str, share: float, gpu: int, **more) -> Held:
    return Held(task=a_task(id, share), gpus=(f"g{gpu}",), **more)


def a_state(**known) -> State:
    """An idle machine in contact with everybody, ten seconds old."""
    now = known.get("at", at(10))
    idle = None if known.get("held") else T0
    base = {"at": now, "enrolled_at": T0, "gpus": GPUS, "cpus": 2, "idle_since": idle}
    seen = {"server_seen_at": now, "centre_seen_at": now, "peeked_at": now}
    return State(**{**base, **seen, **known})


def claims(state: State, policy: Policy = POLICY) -> list[tuple[str, tuple[str, ...]]]:
    return [(i.task.id, i.gpus) for i in decide(state, policy) if isinstance(i, Claim)]
