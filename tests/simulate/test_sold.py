"""Without a price file, types are what fleet knows of them: its own list, what was refreshed, and what the fleet file says."""

from __future__ import annotations

import json
from datetime import date
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from fleet.cli.app import app
from fleet.errors import ConfigError
from fleet.model import Market, MarketPolicy, Resource
from fleet.providers.prices import REFRESHED, Price, as_json
from fleet.simulate.catalog import offers_of, without_spot
from tests.builders import a_resource

H100 = "vcpu-192_memory-1920g_nvidia-h100-sxm5-8"
SPOT_FIRST = MarketPolicy.SPOT_THEN_ON_DEMAND


def sold(state: Path | None = None, file: Path | None = None, **what: Any) -> list[tuple[Any, ...]]:
    resource = a_resource("r", **what)
    found = offers_of([resource], file, state)["r"]
    return [(o.type, o.market.value, o.gpus, o.gpu_model, o.gpu_memory_gib, o.price_usd_per_hour) for o in found]


def refusal(**what: Any) -> str:
    with pytest.raises(ConfigError) as refused:
        sold(**what)
    return str(refused.value).removeprefix("resources.r.instance_types: ")


def test_a_type_of_the_list_is_simulated_as_the_list_has_it() -> None:
    assert sold(provider="aws", region="us-east-1", instance_types=("g5.12xlarge",)) == [
        ("g5.12xlarge", "on_demand", 4, "A10G", 24.0, 5.672)
    ]
    assert sold(provider="gcp", zones=("us-central1-a",), instance_types=("g2-standard-24",), market=SPOT_FIRST) == [
        ("g2-standard-24", "spot", 2, "L4", 24.0, 0.63),
        ("g2-standard-24", "on_demand", 2, "L4", 24.0, 2.11),
    ]


def test_gpus_that_are_attached_are_counted_and_paid_beside_their_machine() -> None:
    settings = {"gpu_type": "nvidia-tesla-t4", "gpus": 4}
    what = {"provider": "gcp", "region": "us-central1", "instance_types": ("n1-standard-16",), "settings": settings}
    ((kind, _, gpus, model, memory, usd),) = sold(**what)
    assert (kind, gpus, model, memory, usd) == ("n1-standard-16", 4, "T4", 16.0, pytest.approx(0.76 + 4 * 0.35))


def test_gpus_that_are_not_to_be_used_are_none() -> None:
    ((_, _, gpus, model, _, usd),) = sold(
        provider="aws", instance_types=("g5.xlarge",), settings={"cpu_only": True}, region="us-east-1"
    )
    assert (gpus, model, usd) == (0, None, 1.006)


def test_what_the_fleet_file_says_goes_before_every_list_and_holds_in_every_region(tmp_path: Path) -> None:
    said = {"g5.xlarge": {Market.ON_DEMAND: 1.5, Market.SPOT: 0.3}}
    what: dict[str, Any] = {"provider": "aws", "instance_types": ("g5.xlarge",), "prices": said, "market": SPOT_FIRST}
    for place in ({"region": "eu-west-1"}, {"region": "us-east-1"}, {"zones": ("eu-west-1a",)}):
        assert [(row[1], row[-1]) for row in sold(**what, **place)] == [("spot", 0.3), ("on_demand", 1.5)]
    file = tmp_path / "prices.csv"
    file.write_text("instance_type,count,on_demand_usd_h,spot_usd_h\ng5.xlarge,1,1.0,0.9\n")
    only_spot = {"g5.xlarge": {Market.SPOT: 0.3}}
    found = sold(file=file, **(what | {"prices": only_spot}))
    assert [(row[1], row[-1]) for row in found] == [("spot", 0.3), ("on_demand", 1.0)]


def test_a_type_of_genesis_says_itself_what_it_is_and_the_fleet_file_what_it_costs() -> None:
    what = {"provider": "genesis", "region": "NORD-NO-KRS-1", "instance_types": (H100,)}
    assert sold(**what, prices={H100: {Market.ON_DEMAND: 20.0}}) == [(H100, "on_demand", 8, "H100", 80.0, 20.0)]


def test_what_was_refreshed_goes_before_the_list(tmp_path: Path) -> None:
    (tmp_path / "aws").mkdir()
    told = Price(
        provider="aws",
        type="g5.xlarge",
        region="eu-west-1",
        market=Market.SPOT,
        usd_per_hour=0.41,
        seen_on=date(2026, 11, 1),
        source="EC2 DescribeSpotPriceHistory",
    )
    (tmp_path / "aws" / REFRESHED).write_text(as_json([told]))
    what = {"provider": "aws", "region": "eu-west-1", "instance_types": ("g5.xlarge",), "market": MarketPolicy.SPOT}
    assert [row[-1] for row in sold(tmp_path, **what)] == [0.41]


@pytest.mark.parametrize(
    ("what", "why"),
    [
        (
            {"instance_types": ("x9.mega",)},
            "x9.mega is a type whose GPUs fleet does not know; describe it with --prices FILE (columns instance_type, count, "
            "on_demand_usd_h)",
        ),
        (
            {"instance_types": ("g5.xlarge",), "region": "eu-west-1"},
            "g5.xlarge has no price that is known in eu-west-1; say it with prices: {g5.xlarge: DOLLARS_AN_HOUR} there, ask the "
            "cloud with: fleet prices refresh, or give --prices FILE",
        ),
        (
            {"instance_types": ("g5.xlarge",), "region": "us-east-1", "market": MarketPolicy.SPOT},
            "g5.xlarge has no spot price that is known in us-east-1; say it with prices: {g5.xlarge: {spot: DOLLARS_AN_HOUR}} there, "
            "ask the cloud with: fleet prices refresh, or give --prices FILE",
        ),
        (
            {"instance_types": (H100,), "provider": "genesis", "region": "NORD-NO-KRS-1"},
            f"{H100} has no price that is known in NORD-NO-KRS-1; say it with prices: {{{H100}: DOLLARS_AN_HOUR}} there, or give "
            "--prices FILE",
        ),
    ],
)
def test_what_nobody_knows_is_refused_with_every_way_to_say_it(what: dict[str, Any], why: str) -> None:
    assert refusal(**({"provider": "aws"} | what)) == why


def test_spot_that_nobody_knows_the_price_of_is_left_out() -> None:
    resource: Resource = a_resource(
        provider="aws", region="us-east-1", instance_types=("g5.xlarge", "g6.xlarge"), market=SPOT_FIRST,
        prices={"g6.xlarge": {Market.SPOT: 0.3}},
    )  # fmt: skip
    offers = offers_of([resource], None)[resource.name]
    assert without_spot(resource, offers) == ("g5.xlarge",)


@pytest.mark.parametrize("provider", ["aws", "gcp"])
def test_the_file_that_init_writes_is_simulated_as_it_is(provider: str, tmp_path: Path) -> None:
    region, kind = {"aws": ("us-east-1", "g5.xlarge"), "gcp": ("us-central1", "g2-standard-4")}[provider]
    answers = ["--provider", provider, "--region", region, "--type", kind, "--yes"]
    answers += ["--project", "lab-1"] if provider == "gcp" else []
    assert CliRunner().invoke(app, ["init", str(tmp_path / "fleet.yaml"), *answers]).exit_code == 0
    (tmp_path / "trace.csv").write_text("submit_s,gpus,duration_s\n0,1,600\n")
    named = ["--config", str(tmp_path / "fleet.yaml"), "--trace", str(tmp_path / "trace.csv")]
    done = CliRunner().invoke(app, ["simulate", *named, "--json"])
    assert json.loads(done.stdout)["completed"] == 1
    is_said = (
        "note: resource gpu: nobody says what g5.xlarge costs as spot, so it is simulated on demand; say it"
        in done.stderr
    )
    assert is_said == (provider == "aws")
