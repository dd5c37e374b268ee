"""What a type costs: the fleet file before what the cloud said, that before the list; and what is not believed."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import replace
from datetime import date
from pathlib import Path

import pytest

from fleet.errors import UnknownProviderFault
from fleet.model import Market, Resource
from fleet.providers.prices import REFRESHED, Price, as_json, believable, list_prices, price_of, refreshed, shape_of

A10G = Price(
    provider="aws",
    type="g5.xlarge",
    region="us-east-1",
    market=Market.ON_DEMAND,
    usd_per_hour=1.006,
    seen_on=date(2026, 11, 22),
    source="a test",
)


def of(usd: float, market: Market = Market.ON_DEMAND) -> Price:
    return replace(A10G, usd_per_hour=usd, market=market)


def test_the_list_has_document_date_and_a_believable_price_for_each_type() -> None:
    prices = list_prices()
    fine, refused = believable(prices.values(), {})
    assert (len(fine), refused) == (len(prices), [])
    assert {p.provider for p in prices.values()} == {"aws", "gcp"}
    assert all(p.source and date(2025, 11, 1) < p.seen_on <= date(2026, 12, 31) for p in prices.values())


def test_each_gpu_costs_between_ten_cents_and_twenty_dollars_an_hour() -> None:
    """A misplaced point in the list would be found."""
    for price in list_prices().values():
        shape = shape_of(price.provider, price.type)
        if shape and shape.gpus:
            assert 0.1 < price.usd_per_hour / shape.gpus < 20, price
            assert shape.gpu_model
            assert shape.gpu_memory_gib


def test_a_type_that_is_not_in_the_list_has_no_shape_and_no_price() -> None:
    assert shape_of("aws", "g99.xlarge") is None
    assert shape_of("azure", "g5.xlarge") is None
    assert price_of("aws", "g99.xlarge", "us-east-1", Market.ON_DEMAND) is None
    assert price_of("aws", "g5.xlarge", "eu-west-1", Market.ON_DEMAND) is None
    assert price_of("aws", "g5.xlarge", "us-east-1", Market.SPOT) is None


def test_the_fleet_file_comes_before_the_cloud_and_the_cloud_before_the_list(tmp_path: Path) -> None:
    def asked(prices: Mapping[str, Mapping[Market, float]]) -> float | None:
        resource = Resource(name="gpu", provider="aws", prices=prices)
        return price_of("aws", "g5.xlarge", "us-east-1", Market.ON_DEMAND, resource=resource, directory=tmp_path)

    assert asked({}) == 1.006
    (tmp_path / REFRESHED).write_text(as_json([of(1.1)]))
    assert asked({}) == 1.1
    assert asked({"g5.xlarge": {Market.ON_DEMAND: 0.9}}) == 0.9
    assert asked({"g5.xlarge": {Market.SPOT: 0.4}}) == 1.1


def test_what_was_refreshed_is_read_as_it_was_written(tmp_path: Path) -> None:
    rows = (of(1.1), of(0.4, Market.SPOT))
    (tmp_path / REFRESHED).write_text(as_json(rows))
    assert refreshed(tmp_path) == rows
    assert refreshed(tmp_path / "elsewhere") == ()


@pytest.mark.parametrize("text", ["", "{", "[1]", '[{"provider": "aws"}]', as_json([of(0)]), as_json([of(math.nan)])])
def test_a_damaged_file_of_prices_is_named_with_the_way_out(text: str, tmp_path: Path) -> None:
    (tmp_path / REFRESHED).write_text(text)
    with pytest.raises(UnknownProviderFault, match="make it anew with: fleet prices refresh"):
        refreshed(tmp_path)


@pytest.mark.parametrize(
    ("price", "why"),
    [
        (of(0), "0 is no price"),
        (of(-1), "-1 is no price"),
        (of(math.nan), "nan is no price"),
        (of(math.inf), "inf is no price"),
        (of(1.2, Market.SPOT), r"spot at \$1.2 is above on demand at \$1.006"),
        (of(5.1), r"\$5.1 is more than 5 times away from \$1.006 of 2026-11-22"),
        (of(0.2), "more than 5 times away"),
    ],
)
def test_a_price_that_cannot_be_is_refused_in_a_line(price: Price, why: str) -> None:
    fine, (line,) = believable([price], {A10G.place: A10G})
    assert fine == []
    assert line.startswith(f"aws g5.xlarge us-east-1 {price.market}: ")
    import re

    assert re.search(why, line)


def test_spot_is_held_against_the_new_price_on_demand_too() -> None:
    fine, refused = believable([of(2.0), of(1.5, Market.SPOT)], {A10G.place: A10G})
    assert (len(fine), refused) == (2, [])
