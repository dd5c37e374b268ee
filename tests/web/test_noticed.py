"""Who was told of notices is remembered for machines that are there, and not for all that ever were."""

from fleet.model import Notice
from fleet.store.memory import MemoryStore
from fleet.web import noticed
from fleet.web.noticed import Noticed
from fleet.wire import Heartbeat, from_data
from tests.web.nouns import a_heartbeat, at

NOTICE = Notice(kind="preemption", at=at(1), deadline=at(121), text="the cloud takes it back at 12:02")


def said_by(instance: str, notice: Notice | None = NOTICE, is_ending: bool = False) -> Heartbeat:
    return from_data(Heartbeat, a_heartbeat(instance, notice=notice, is_ending=is_ending))


def test_machines_that_were_cut_off_under_their_notice_are_forgotten_the_oldest_first(monkeypatch) -> None:
    monkeypatch.setattr(noticed, "MOST", 3)
    store = MemoryStore()
    told = Noticed(store)
    for number in range(20):
        told.take(said_by(f"i{number}"), at(number))
        told.take(said_by(f"i{number}"), at(number))
    assert list(told._told) == ["i17", "i18", "i19"]
    assert len([event for event in store.events() if event.kind == "instance.notice"]) == 20
    told.take(said_by("i18", notice=None), at(99))
    told.take(said_by("i19", is_ending=True), at(99))
    assert list(told._told) == ["i17"]
