"""Every change of an instance or a run is told once, with its reason, whoever made it."""

import contextlib
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import pytest

from fleet.model import Instance, Run, RunResult
from fleet.store.chronicle import ChronicledStore
from fleet.store.memory import MemoryStore
from tests.store.conftest import MakeStore
from tests.store.nouns import ALLOCATION, GPU0, IDLE, LATE, a_run, an_instance, at

JOIN, TOKEN = "a" * 64, "b" * 64


@pytest.fixture
def store() -> ChronicledStore:
    return ChronicledStore(MemoryStore())


def a_ready_one(store: ChronicledStore) -> Instance:
    store.record_intents([an_instance()])
    store.note_launched("i1", "c-1", at(1))
    store.expect("i1", JOIN, at(100))
    enrolled = store.enroll("i1", JOIN, TOKEN, "host", [GPU0], at(2))
    assert enrolled
    return enrolled


def beat(store: ChronicledStore, *runs: Run, is_pulling: bool = True, is_ending: bool = False) -> None:
    store.beat(
        "i1",
        at=at(50),
        is_pulling=is_pulling,
        is_ending=is_ending,
        reason=None if is_pulling else IDLE,
        idle_since=None,
        allocations=(ALLOCATION,) if runs else (),
        runs=runs,
        gpus=(GPU0,),
    )


def told(store: ChronicledStore) -> list[str]:
    return [f"{e.kind}: {e.text}" for e in store.events()]


def test_the_life_of_an_instance_is_told_in_order(store: ChronicledStore) -> None:
    a_ready_one(store)
    beat(store, is_pulling=False)
    beat(store, is_pulling=False, is_ending=True)
    store.note_gone("i1", LATE, at(60))
    assert told(store) == [
        "instance.launching: launching g5.xlarge for gpu ($3.60/h): train: 1 task waits",
        "instance.launched: the cloud calls it c-1",
        "instance.ready: ready on host, 1 GPU",
        "instance.draining: pulls no more: idle for 10 min",
        "instance.ending: ends itself: idle for 10 min",
        "instance.gone: gone: idle for 10 min",
    ]


def test_a_gpu_that_falls_sick_is_told_once_with_what_is_wrong(store: ChronicledStore) -> None:
    a_ready_one(store)
    for sick in (None, "Xid 79: off the bus", "Xid 79: off the bus; and hot", None, "Xid 48"):
        store.beat(
            "i1",
            at=at(50),
            is_pulling=True,
            is_ending=False,
            reason=None,
            idle_since=None,
            allocations=(),
            runs=(),
            gpus=(replace(GPU0, sick=sick),),
        )
    events = store.events(kind="instance.gpu_sick")
    assert [(e.instance, e.text) for e in events] == [
        ("i1", "GPU 0 is out of service: Xid 79: off the bus"),
        ("i1", "GPU 0 is out of service: Xid 48"),
    ]
    assert {e.reason.code for e in events if e.reason} == {"gpu_sick"}


def test_a_repeated_fact_is_told_once(store: ChronicledStore) -> None:
    a_ready_one(store)
    store.record_intents([an_instance()])
    store.note_launched("i1", "c-1", at(3))
    for _ in range(2):
        beat(store, is_pulling=False, is_ending=True)
        store.request_terminate("i1", LATE, at(55))
        store.note_gone("i1", LATE, at(60))
    kinds = [e.kind for e in store.events()]
    assert len(kinds) == len(set(kinds))


def test_a_run_is_told_as_it_goes_on(store: ChronicledStore) -> None:
    a_ready_one(store)
    beat(store, a_run())
    beat(store, a_run(started_at=at(3)))
    beat(store, a_run(started_at=at(3), ended_at=at(8.5), result=RunResult.FAILED, exit_code=1))
    beat(store, a_run(started_at=at(3), ended_at=at(8.5), result=RunResult.FAILED, exit_code=1))
    assert told(store)[3:] == [
        "task.claimed: taken from queue train, 1 GPU",
        "task.started: agent runs as w",
        "task.ended: failed after 5.5 s, exit code 1",
    ]


def test_orders_are_told_with_their_reason(store: ChronicledStore) -> None:
    a_ready_one(store)
    store.request_drain("i1", IDLE, at(4))
    store.request_terminate("i1", LATE, at(5))
    assert [(e.kind, e.reason) for e in store.events()[3:]] == [
        ("instance.draining", IDLE),
        ("instance.terminating", LATE),
    ]


def test_of_one_that_is_gone_no_order_is_told(store: ChronicledStore) -> None:
    a_ready_one(store)
    store.note_gone("i1", LATE, at(4))
    before = store.events()
    store.request_drain("i1", IDLE, at(5), by=at(600))
    store.request_terminate("i1", IDLE, at(6))
    assert store.events() == before


TWICE: list[tuple[str, Callable[[ChronicledStore], object]]] = [
    ("request_drain", lambda store: store.request_drain("i1", IDLE, at(4))),
    ("request_terminate", lambda store: store.request_terminate("i1", LATE, at(4))),
    ("note_gone", lambda store: store.note_gone("i1", LATE, at(4))),
    ("note_launched", lambda store: store.note_launched("i1", "c-1", at(4))),
    ("beat", lambda store: beat(store, a_run(), is_pulling=False, is_ending=True)),
]


@pytest.mark.parametrize(("verb", "call"), TWICE, ids=[verb for verb, _ in TWICE])
def test_of_two_who_change_the_same_at_once_one_is_told(
    verb: str, call: Callable[[ChronicledStore], object], make_store: MakeStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Both had read the instance as it was before either changed it, and both told the change."""
    inner, both_have_read = make_store(), threading.Barrier(2)
    change = getattr(inner, verb)

    def meet(*arguments: object, **named: object) -> object:
        with contextlib.suppress(threading.BrokenBarrierError):  # one waits for the other: it never comes this far
            both_have_read.wait(0.2)
        return change(*arguments, **named)

    store = ChronicledStore(inner)
    store.record_intents([an_instance()])
    if verb == "beat":
        store.note_launched("i1", "c-1", at(1))
    known = len(store.events())
    monkeypatch.setattr(inner, verb, meet)
    with ThreadPoolExecutor(2) as pool:
        for done in [pool.submit(call, store) for _ in range(2)]:
            done.result()
    kinds = [event.kind for event in store.events()[known:]]
    assert kinds
    assert len(kinds) == len(set(kinds)), kinds
