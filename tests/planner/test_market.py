"""What an offer costs for the work that it gets done, and in which order offers are asked for."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fleet.model import Launch, Market, Offer, PoolRecord
from fleet.planner.demand import choices_of
from fleet.planner.market import effective_price, pools_of
from fleet.planner.plan import plan
from fleet.planner.price import known_price
from tests.builders import a_snapshot, a_task, an_offer


def spot(usd: float | None = 1.0, **changes: Any) -> Offer:
    return an_offer(usd=usd, market=Market.SPOT, **{"zone": "a", **changes})


def a_record(machine_h: float, interruptions: int, lost_h: float = 0.0, **changes: Any) -> PoolRecord:
    base = PoolRecord(
        provider="fake", type="fake-4gpu", zone="a", machine_h=machine_h, interruptions=interruptions, lost_h=lost_h
    )
    return replace(base, **changes)


def worth(offer: Offer, *records: PoolRecord) -> float:
    usd = effective_price(offer, pools_of(records))
    assert usd is not None
    return usd


def test_on_demand_costs_its_price() -> None:
    assert worth(an_offer(usd=2.0, zone="a"), a_record(1, 50)) == 2.0


def test_a_pool_that_nobody_has_tried_counts_as_calm() -> None:
    assert 1.0 < worth(spot(1.0)) < 1.01


def test_one_interruption_of_one_machine_bans_no_pool() -> None:
    assert worth(spot(1.0), a_record(0.1, 1, 0.1)) < 1.15


def test_a_pool_that_takes_every_machine_back_within_minutes_is_dearer_than_three_times_its_price() -> None:
    assert worth(spot(1.0), a_record(10, 30, 10)) > 3.0


def test_a_pool_that_works_for_days_costs_about_its_price_whatever_was_lost_once() -> None:
    assert worth(spot(1.0), a_record(500, 2, 3)) < 1.02


def test_another_zones_interruptions_are_not_held_against_a_pool() -> None:
    assert worth(spot(1.0, zone="b"), a_record(10, 30, 10)) == worth(spot(1.0))


def chosen(*offers: Offer, pools: tuple[PoolRecord, ...] = ()) -> list[tuple[Market, str | None]]:
    made = plan(a_snapshot(tasks=(a_task(),), offers=offers, pools=pools))
    return [(a.offer.market, a.offer.zone) for a in made.actions if isinstance(a, Launch)]


def test_spot_that_is_taken_back_too_often_comes_after_on_demand() -> None:
    offers = (spot(1.0), an_offer(usd=2.0, zone="a"))
    assert chosen(*offers) == [(Market.SPOT, "a")]
    assert chosen(*offers, pools=(a_record(10, 30, 10),)) == [(Market.ON_DEMAND, "a")]


def test_what_spot_that_is_taken_back_too_often_would_cost_is_said_of_work_that_lasts() -> None:
    offers = (spot(1.0, type="pool"), an_offer(usd=2.0, zone="a"))
    world = a_snapshot(tasks=(a_task(),), offers=offers)
    (calm,) = plan(world).actions
    assert "fake-4gpu (gpu) would cost $1.00 an hour more" in calm.reason.text
    (stormy,) = plan(replace(world, pools=(a_record(10, 30, 10, type="pool"),))).actions
    assert "pool (gpu) would cost $2.50 more for an hour of work that lasts" in stormy.reason.text


def test_the_calmer_zone_is_asked_first() -> None:
    offers = (spot(1.0, zone="a"), spot(1.0, zone="b"), an_offer(usd=9.0, zone="a"))
    assert chosen(*offers, pools=(a_record(10, 5, 2),)) == [(Market.SPOT, "b")]


def test_the_cheaper_type_and_zone_is_asked_first() -> None:
    offers = [spot(1.0, zone="a"), spot(0.9, zone="b"), spot(0.1, zone="a", type="other")]
    assert asked(offers) == [2, 1, 0]


def test_spot_above_on_demand_loses() -> None:
    assert chosen(spot(2.5), an_offer(usd=2.0, zone="a")) == [(Market.ON_DEMAND, "a")]


@pytest.mark.parametrize("usd", [None, math.nan, math.inf, 0.0, -1.0])
def test_a_spot_price_that_is_none_never_wins(usd: float | None) -> None:
    assert chosen(spot(usd), an_offer(usd=2.0, zone="a")) == [(Market.ON_DEMAND, "a")]
    assert effective_price(spot(usd), {}) is None


def test_a_machine_that_is_there_anyway_may_cost_nothing() -> None:
    assert known_price(an_offer(usd=0.0, provider="local")) == 0.0


def asked(offers: Sequence[Offer], pools: Sequence[PoolRecord] = ()) -> list[int]:
    """The places of these offers of one resource, in the order in which plans ask for them."""
    return [choice.place for choice in choices_of(a_snapshot(offers=tuple(offers), pools=tuple(pools)))["gpu"]]


prices = st.one_of(
    st.none(), st.floats(allow_nan=True, allow_infinity=True), st.sampled_from([0.0, -0.0, -3.0, 1.0, 2.0])
)
records = st.builds(
    a_record,
    machine_h=st.floats(0, 1e6),
    interruptions=st.integers(0, 10_000),
    lost_h=st.floats(0, 1e6),
    zone=st.sampled_from(["a", "b"]),
)


@given(
    prices=st.lists(st.tuples(prices, st.sampled_from(Market), st.sampled_from("ab")), max_size=8),
    pools=st.lists(records),
)
def test_what_is_no_price_never_comes_before_what_is_one(
    prices: list[tuple[float | None, Market, str]], pools: list[PoolRecord]
) -> None:
    offers = [an_offer(usd=usd, market=market, zone=zone) for usd, market, zone in prices]
    order = asked(offers, pools) if offers else []
    assert sorted(order) == list(range(len(offers)))
    is_known = [effective_price(offers[n], pools_of(pools)) is not None for n in order]
    assert is_known == sorted(is_known, reverse=True)
    for offer in offers:
        usd = effective_price(offer, pools_of(pools))
        assert usd is None or (math.isfinite(usd) and usd >= (offer.price_usd_per_hour or 0) > 0) or usd == math.inf
