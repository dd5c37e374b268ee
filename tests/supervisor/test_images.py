"""Images that several threads want, pull and remove at once: which of them waits for which."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from fleet.model import AgentSettings, Gpu, GpuNeed, ServerAccess, Task
from fleet.queues.base import TaskContainer
from fleet.supervisor.agents import Order
from fleet.supervisor.arguments import Options
from fleet.supervisor.containers import Containers, Owner
from fleet.supervisor.engine import EngineFault
from fleet.supervisor.images import Images
from fleet.supervisor.successor import Successor
from tests.waiting import PATIENCE

FULL = 0.000_001  # any disk is fuller than that
TASK = Task(
    id="t1",
    queue="train",
    position=0,
    enqueued_at=datetime(2026, 11, 22, tzinfo=UTC),
    need=GpuNeed(at_least=1, at_most=1),
)
ORDER = Order(mark="a1", task=TASK, worker="w", gpus=(Gpu(uuid="g0", index=0, model="A10", memory_gib=24),))


class AnEngine:
    """With these images. A pull goes on until `is_pulled` is set, and tells how far it is all the time, at least once."""

    def __init__(self, *here: str) -> None:
        self.here = set(here)
        self.is_pulling, self.is_pulled = threading.Event(), threading.Event()
        self.pulled: list[str] = []

    def place(self) -> str:
        return "/"

    def image(self, name: str) -> Mapping[str, str] | None:
        return {"Id": f"id of {name}"} if name in self.here else None

    def images_in_use(self) -> frozenset[str]:
        return frozenset()

    def remove_image(self, name: str) -> None:
        self.here.discard(name)

    def pull(self, name: str) -> Iterator[str]:
        self.is_pulling.set()
        yield "a layer"
        while not self.is_pulled.wait(0.001):
            yield "a layer"
        self.pulled.append(name)
        self.here.add(name)


class AQueue:
    """A lock, which tells when somebody waits for it with all his patience."""

    def __init__(self) -> None:
        self._lock, self.has_asked = threading.Lock(), threading.Event()
        self.acquire, self.release = self._lock.acquire, self._lock.release

    def __enter__(self) -> None:
        self.has_asked.set()
        self._lock.acquire()

    def __exit__(self, *_: object) -> None:
        self._lock.release()


def test_a_task_that_waits_while_another_image_is_pulled_is_called_off_all_the_same(tmp_path: Path) -> None:
    """It held its GPU, and the machine could not end, for as long as somebody else's image took."""
    engine = AnEngine()
    images = Images(engine, "", 1.1, tmp_path / "used")  # type: ignore[arg-type]
    first = threading.Thread(target=images.pull, args=("large",), daemon=True)
    first.start()
    assert engine.is_pulling.wait(20 * PATIENCE)
    told: list[str] = []

    def want() -> None:
        try:
            images.have("small", goes_on=lambda: False)
        except EngineFault as fault:
            told.append(str(fault))

    second = threading.Thread(target=want, daemon=True)
    second.start()
    second.join(20 * PATIENCE)
    assert told == ["docker: small was not pulled to its end: nobody wants it any more"]
    assert engine.pulled == []
    engine.is_pulled.set()
    first.join()
    assert engine.pulled == ["large"]


def test_an_image_that_a_task_has_had_pulled_meanwhile_is_the_newest_already(tmp_path: Path) -> None:
    """At the start of a machine nobody knows which comes first: the first task, or what is pulled for all of them."""
    engine = AnEngine()
    images = Images(engine, "", 1.1, tmp_path / "used")  # type: ignore[arg-type]
    images._pulling = queue = AQueue()  # type: ignore[assignment]
    first = threading.Thread(target=images.have, args=("default",), daemon=True)
    first.start()
    assert engine.is_pulling.wait(20 * PATIENCE)
    warm_up = threading.Thread(target=images.pull, args=("default",), daemon=True)
    warm_up.start()
    assert queue.has_asked.wait(20 * PATIENCE)
    engine.is_pulled.set()
    for thread in (first, warm_up):
        thread.join()
    assert engine.pulled == ["default"]
    images.pull("default")
    assert engine.pulled == ["default"] * 2, "later there may be a newer one"


def test_an_image_that_a_task_has_found_here_is_not_removed_before_its_container_is_made(tmp_path: Path) -> None:
    """A full disk is looked after by the thread of a task that has ended, at any moment of one that starts."""
    engine = AnEngine("theirs", "old")
    images = Images(engine, "", FULL, tmp_path / "used")  # type: ignore[arg-type]
    for name in ("theirs", "old"):
        images.use(name)
    with images.kept("theirs"):
        images.have("theirs")
        images.make_room()
        assert engine.here == {"theirs"}
    images.make_room()
    assert engine.here == set()


def test_a_start_that_is_called_off_before_its_thread_runs_pulls_nothing(tmp_path: Path) -> None:
    """The thread forgot what it had not heard yet, and a task that nobody wanted held its GPU until its image was here."""
    access = ServerAccess(api_url="http://lab", files_url="", web_url="", access_key="", secret_key="")
    containers = Containers(
        AgentSettings(mode="docker", image="large"),
        access,
        Owner(cluster="lab", instance="i1"),
        tmp_path / "agents",
        tmp_path / "private",
        lambda task: TaskContainer(),
        Successor(tmp_path, timedelta(seconds=1)),
    )
    engine = AnEngine()
    containers._engine_ = engine  # type: ignore[assignment]
    containers._ours = Options()
    containers._images = Images(engine, "large", 1.1, tmp_path / "used")  # type: ignore[arg-type]
    engine.is_pulled.set()  # so that a pull that goes on comes to its end
    containers.call_off("a1")
    with pytest.raises(EngineFault, match="large was not pulled to its end: nobody wants it any more"):
        containers.start(ORDER)
    assert engine.pulled == []
