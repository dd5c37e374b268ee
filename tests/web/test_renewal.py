"""A supervisor's token is renewed with its heartbeats, and ends where it is not."""

import hashlib
from datetime import timedelta
from typing import Any

from fleet.store.base import OFFERED_ANEW_AFTER
from fleet.web.renewal import LATE_AFTER_START, RENEWED_AFTER
from fleet.wire import Enrolled, Orders, from_data
from tests.web.nouns import Web, a_heartbeat, an_enrolment, an_instance, at, serving, settings

LIFE_S = timedelta(hours=24).total_seconds()
DUE_S = LIFE_S * RENEWED_AFTER
AGAIN_S = OFFERED_ANEW_AFTER.total_seconds()


def enrolled(web: Web, **facts: Any) -> str:
    web.store.record_intents([an_instance("i1")])
    web.store.expect("i1", hashlib.sha256(b"join").hexdigest(), at(900))
    answer = web.post("/edge/v1/enroll", an_enrolment() | {"renews": True} | facts)
    return from_data(Enrolled, answer.json()).token


def beat(web: Web, token: str) -> str | None:
    """The token that comes with the orders."""
    web.token = token
    response = web.post("/edge/v1/heartbeat", a_heartbeat())
    assert response.status_code == 200, response.text
    return from_data(Orders, response.json()).token


def is_let_in(web: Web, token: str) -> bool:
    web.token = token
    codes = {web.post("/edge/v1/heartbeat", a_heartbeat()).status_code, web.get("/edge/v1/hint?wait_s=0").status_code}
    assert codes in ({200}, {401})
    return codes == {200}


def test_a_token_of_some_age_is_renewed_by_a_heartbeat_and_worth_nothing_once_the_new_one_is_used(web: Web) -> None:
    first = enrolled(web)
    web.now = at(DUE_S - 1)
    assert beat(web, first) is None
    web.now = at(DUE_S)
    second = beat(web, first)
    assert second
    assert is_let_in(web, first), "nobody knows yet whether that answer arrived"
    web.token = second
    assert web.get("/edge/v1/hint?wait_s=0").status_code == 200
    assert is_let_in(web, first), "a question for a hint tells nothing of what was kept"
    assert beat(web, second) is None
    assert not is_let_in(web, first)
    assert is_let_in(web, second)


def test_a_machine_that_loses_answers_is_never_locked_out(web: Web) -> None:
    first = enrolled(web)
    web.now = at(DUE_S)
    lost = beat(web, first)
    assert lost
    assert beat(web, first) is None, "the first may still be on its way"
    web.now = at(DUE_S + AGAIN_S)
    found = beat(web, first)
    assert found not in (None, lost)
    assert not is_let_in(web, lost)
    assert is_let_in(web, str(found))


def test_a_token_that_is_not_renewed_ends_with_its_life(web: Web) -> None:
    first = enrolled(web)
    web.now = at(LIFE_S - 1)
    second = beat(web, first)
    assert second
    web.now = at(LIFE_S)
    assert not is_let_in(web, first)
    assert is_let_in(web, second), "its life began when it was given"


def test_one_that_renews_lives_on_for_ever(web: Web) -> None:
    token, seen = enrolled(web), []
    for turn in range(1, 40):
        web.now = at(turn * (DUE_S + 1))
        token = beat(web, token) or token
        seen.append(token)
    assert len(set(seen)) > 18
    assert web.now > at(3 * LIFE_S)
    assert is_let_in(web, token)


def test_a_dispatcher_that_was_away_for_long_takes_late_tokens_for_a_while_after_its_start(web: Web) -> None:
    first = enrolled(web)
    beat(web, first)
    back = Web(store=web.store, now=at(10 * LIFE_S))
    with serving(back):
        second = beat(back, first)
        assert second
        assert is_let_in(back, second)
        assert not is_let_in(back, first)
    alone = Web(store=web.store, now=at(30 * LIFE_S))
    with serving(alone):
        alone.now += LATE_AFTER_START
        assert not is_let_in(alone, second), "but not for ever"


def test_a_supervisor_of_the_version_before_is_not_offered_what_it_would_not_take(web: Web) -> None:
    token = enrolled(web, renews=False)
    web.now = at(5 * LIFE_S)
    assert beat(web, token) is None
    assert is_let_in(web, token)


def test_the_fleet_file_says_how_long_a_token_lives() -> None:
    with serving(Web(settings=settings(token_life=timedelta(hours=1)))) as web:
        first = enrolled(web)
        web.now = at(300)
        assert beat(web, first)
        web.now = at(3600)
        assert not is_let_in(web, first)


def test_what_is_handed_out_is_kept_as_a_hash_alone(web: Web) -> None:
    first = enrolled(web)
    web.now = at(DUE_S)
    second = str(beat(web, first))
    assert web.store.who(second) is None
    assert web.store.who(hashlib.sha256(second.encode()).hexdigest()) is not None
    assert second not in repr(
        from_data(Orders, web.post("/edge/v1/heartbeat", a_heartbeat()).json() | {"token": second})
    )
