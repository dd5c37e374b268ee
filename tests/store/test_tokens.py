"""A supervisor's token and its successor, in every store: both work until the successor is used, then it alone."""

from functools import partial

import sqlalchemy as sa
from alembic.config import Config
from alembic.runtime.environment import EnvironmentContext
from alembic.script import ScriptDirectory

from fleet.database import Database
from fleet.store.base import OFFERED_ANEW_AFTER, Store
from fleet.store.sql import MIGRATIONS, SqlStore
from tests.store.nouns import GPU0, LATE, an_instance, at, beat, holder, with_instance
from tests.store.test_store_contract import all_at_once

LATER = OFFERED_ANEW_AFTER.total_seconds()


def with_renewing(store: Store, name: str = "i1") -> Store:
    with_instance(store, name)
    store.expect(name, f"join-{name}", at(900))
    assert store.enroll(name, f"join-{name}", f"token-{name}", "host", [GPU0], at(60), renews=True)
    return store


def ages(store: Store, token: str) -> tuple[object, bool] | None:
    bearer = store.who(token)
    return (bearer.issued_at, bearer.is_successor) if bearer else None


def test_a_token_and_its_successor_both_work_until_the_successor_is_used(store: Store) -> None:
    with_renewing(store)
    assert ages(store, "token-i1") == (at(60), False)
    assert store.offer("token-i1", "next", at(100))
    assert holder(store, "token-i1") == holder(store, "next") == store.instance("i1")
    assert (ages(store, "token-i1"), ages(store, "next")) == ((at(60), False), (at(100), True))
    store.take_up("next")
    assert store.who("token-i1") is None
    assert ages(store, "next") == (at(100), False), "its life began when it was given"
    store.take_up("next")
    store.take_up("nobody's")
    assert ages(store, "next") == (at(100), False)


def test_a_successor_is_replaced_only_when_nobody_can_still_be_on_the_way_with_it(store: Store) -> None:
    with_renewing(store)
    assert store.offer("token-i1", "first", at(100))
    assert not store.offer("token-i1", "second", at(100 + LATER - 1))
    assert store.who("second") is None
    assert store.offer("token-i1", "third", at(100 + LATER))
    assert store.who("first") is None, "its answer was lost"
    assert holder(store, "third") == holder(store, "token-i1")


def test_who_holds_another_by_now_or_nothing_is_offered_none(store: Store) -> None:
    with_renewing(store)
    assert store.offer("token-i1", "next", at(100))
    store.take_up("next")
    assert not store.offer("token-i1", "late", at(1000)), "asked before the other was taken up, and answered after"
    assert not store.offer("nobody's", "late", at(1000))
    assert store.who("late") is None
    assert store.offer("next", "after that", at(101)), "nothing is offered to this one yet"


def test_a_token_of_one_that_does_not_renew_has_no_age(store: Store) -> None:
    with_instance(store)
    store.expect("i1", "join", at(900))
    store.enroll("i1", "join", "token", "host", [GPU0], at(60))
    assert ages(store, "token") == (None, False)


def test_tokens_of_a_gone_machine_die_with_it_successors_too(store: Store) -> None:
    with_renewing(store)
    store.offer("token-i1", "next", at(100))
    store.note_gone("i1", LATE, at(101))
    store.take_up("next")
    assert (store.who("token-i1"), store.who("next")) == (None, None)


def test_one_who_enrols_again_has_only_the_token_of_that_enrolment(store: Store) -> None:
    with_renewing(store)
    store.offer("token-i1", "next", at(61))
    assert store.enroll("i1", "join-i1", "token-2", "host", [GPU0], at(62), renews=True)
    assert [store.who(token) for token in ("token-i1", "next")] == [None, None]
    assert ages(store, "token-2") == (at(62), False)


def test_of_many_offers_at_once_one_is_made(store: Store) -> None:
    with_renewing(store)
    names = [f"next{n}" for n in range(4)]
    all_at_once(*[partial(store.offer, "token-i1", name, at(100)) for name in names])
    assert sum(store.who(name) is not None for name in names) == 1


def test_tokens_of_two_machines_do_not_touch_each_other(store: Store) -> None:
    with_renewing(store)
    with_renewing(store, "i2")
    store.offer("token-i1", "next-1", at(100))
    store.offer("token-i2", "next-2", at(100))
    store.take_up("next-2")
    assert [holder(store, t) == store.instance("i1") for t in ("token-i1", "next-1")] == [True, True]
    assert (store.who("token-i2"), holder(store, "next-2")) == (None, store.instance("i2"))
    beat(store, "i2", when=at(101))
    assert holder(store, "next-2") == store.instance("i2")


def test_a_machine_of_the_version_before_keeps_the_token_that_it_has(url: str) -> None:
    database = Database(url)
    script = ScriptDirectory(str(MIGRATIONS))
    environment = EnvironmentContext(Config(), script, fn=lambda rev, _: script._upgrade_revs("0005", rev))
    with database.write() as connection, environment:
        environment.configure(connection=connection, version_table="fleet_version", transactional_ddl=False)
        environment.run_migrations()
        row = {"id": "i1", "cluster": "c", "requested_at": 1.0, "hostname": "h", "gpus": "[]", "allocations": "[]"}
        row |= {"offer": OFFER, "reason": '{"code": "demand", "text": "x"}', "token_hash": "old"}
        names = ", ".join(row)
        values = ", ".join(f":{name}" for name in row)
        connection.execute(sa.text(f"INSERT INTO fleet_instance ({names}) VALUES ({values})"), row)
    store = SqlStore(database)
    assert ages(store, "old") == (None, False)
    database.close()


OFFER = (
    '{"resource": "gpu", "provider": "fake", "type": "t", "market": "spot", "price_usd_per_hour": 1.0, "gpus": 1, '
    f'"seen_at": "{an_instance().requested_at.isoformat()}"}}'
)
