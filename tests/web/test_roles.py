"""Who may do what, for every route of the operator API."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator

import pytest

from fleet.web.roles import LEAST, Operator, Role
from tests.web.nouns import Web, a_view, an_instance, serving, settings

POSTS = [path for path, least in LEAST.items() if least is not Role.VIEWER]


def who_is(sha256: str) -> Operator | None:
    found = [role for role in Role if hashlib.sha256(f"{role}'s".encode()).hexdigest() == sha256]
    return Operator(name=f"ann the {found[0]}", role=found[0]) if found else None


@pytest.fixture
def web() -> Iterator[Web]:
    conf = "api {{ credentials of {} }}".format
    with serving(Web(settings=settings(operator_token="s3cret", who_is=who_is, enlist=conf))) as web:
        web.store.record_intents([an_instance("i1")])
        web.store.remember_view(a_view())
        yield web


def call(web: Web, path: str, token: str) -> int:
    web.token = token
    whole = path.format(task="t9", instance="i1", resource="gpu")
    return (web.post(whole) if path in POSTS else web.get(whole)).status_code


@pytest.mark.parametrize("path", LEAST)
def test_a_route_is_open_from_its_least_role_on(web: Web, path: str) -> None:
    expected = {str(role): 200 if role.may(LEAST[path]) else 403 for role in Role}
    assert {str(role): call(web, path, f"{role}'s") for role in Role} == expected
    assert [call(web, path, token) for token in ("s3cret", "", "nobody's", "Viewer's")] == [200, 401, 401, 401]


def test_each_role_may_do_what_those_before_it_may() -> None:
    assert [[one.may(other) for other in Role] for one in Role] == [
        [True, False, False],
        [True, True, False],
        [True, True, True],
    ]


def test_who_may_not_is_told_which_role_it_takes(web: Web) -> None:
    web.token = "viewer's"
    refused = web.post("/api/v1/instances/i1/terminate")
    assert refused.json() == {"error": "ann the viewer has the role viewer; this takes admin"}
    instance = web.store.instance("i1")
    assert instance
    assert instance.terminate_requested_at is None


def test_an_order_says_whose_it_is(web: Web) -> None:
    web.token = "admin's"
    web.post("/api/v1/instances/i1/drain", {"reason": "a new image"})
    instance = web.store.instance("i1")
    assert instance
    assert instance.end_reason
    assert instance.end_reason.text == "a new image (ann the admin)"


def test_a_submitter_gets_keys_in_his_own_name(web: Web) -> None:
    web.token = "submitter's"
    assert web.post("/api/v1/clearml-conf").json() == {
        "clearml_conf": "api { credentials of ann the submitter }",
        "authority": None,
    }


def test_without_a_server_of_ours_there_are_no_keys() -> None:
    with serving(Web(settings=settings(operator_token="s3cret"), token="s3cret")) as web:
        assert web.post("/api/v1/clearml-conf").status_code == 404
