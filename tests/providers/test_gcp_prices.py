"""Google's prices: the machine is the sum of its parts as the Cloud Billing Catalog API tells them, or its price is unknown.

The price list is tests.providers.price_list, served by tests.providers.compute_engine; both name their documents.
"""

from __future__ import annotations

import json
import random
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from fleet.errors import BadRequest, NotAuthorised, ProviderError, Throttled, UnknownProviderFault
from fleet.model import Market, Resource
from fleet.providers.gcp.parts import market_of, part_of
from fleet.providers.gcp.provider import GcpProvider
from fleet.providers.prices import Price, PriceSource, Unpriced, list_prices
from tests.providers.breaking import BREAKS, breaking
from tests.providers.compute_engine import ComputeEngine, Refused, served
from tests.providers.contract import is_one_line
from tests.providers.held import tried
from tests.providers.price_list import (
    GB_HOUR,
    NOT_OURS,
    americas,
    money,
    rate_of,
    sku,
)
from tests.providers.test_gcp import a_gcp_resource, a_provider

AT = datetime.now(UTC)
G2_24 = 24 * 0.024988 + 96 * 0.002927 + 2 * 0.56004
G2_24_SPOT = 24 * 0.009995 + 96 * 0.001171 + 2 * 0.224016
A_MONTH_H = 744  # what baseUnitConversionFactor has


@pytest.fixture
def cloud() -> ComputeEngine:
    cloud = ComputeEngine()
    cloud.price_list = americas()
    cloud.page = 7
    return cloud


@pytest.fixture
def url(cloud: ComputeEngine) -> Iterator[str]:
    with served(cloud) as url:
        yield url


def told(url: str, place: Path, *types: str, **changes: Any) -> dict[tuple[str, str, Market], Price | Unpriced]:
    resource = a_gcp_resource(url, instance_types=types or ("g2-standard-24",), **changes)
    found = a_provider(place, resource).prices(resource, AT)
    return {(each.type, each.region, each.market): each for each in found}


def usd(found: Price | Unpriced) -> float:
    assert isinstance(found, Price), found
    return found.usd_per_hour


def why(found: Price | Unpriced) -> str:
    assert isinstance(found, Unpriced), found
    assert is_one_line(str(found))
    return found.why


def test_the_provider_is_a_source_of_prices(tmp_path: Path) -> None:
    assert isinstance(a_provider(tmp_path), PriceSource)


def test_a_machine_costs_what_its_cores_memory_and_gpus_cost_in_each_market(
    url: str, cloud: ComputeEngine, tmp_path: Path
) -> None:
    found = told(url, tmp_path)
    assert usd(found["g2-standard-24", "us-central1", Market.ON_DEMAND]) == pytest.approx(G2_24)
    assert usd(found["g2-standard-24", "us-central1", Market.SPOT]) == pytest.approx(G2_24_SPOT)
    (spot, _) = found.values()
    assert isinstance(spot, Price)
    assert (spot.source, spot.seen_on) == ("Cloud Billing Catalog API", AT.date())
    pages = [query for query in cloud.queries if "pageSize" in query]
    assert len(pages) == -(-len(cloud.price_list) // cloud.page)
    assert {query["currencyCode"] for query in pages} == {"USD"}


def test_a_refresh_needs_no_image_nor_anything_else_that_only_a_launch_needs(url: str, tmp_path: Path) -> None:
    found = told(url, tmp_path, image=None, settings={"scopes": ["a word that is none"]})
    assert usd(found["g2-standard-24", "us-central1", Market.ON_DEMAND]) == pytest.approx(G2_24)
    with pytest.raises(BadRequest, match=r"image: is missing"):
        resource = a_gcp_resource(url, image=None)
        a_provider(tmp_path, resource).offers(resource, AT)


def test_a_gpu_that_is_attached_is_priced_by_itself_as_the_planner_adds_it(url: str, tmp_path: Path) -> None:
    settings = {"gpu_type": "nvidia-tesla-t4", "gpus": 2}
    found = told(url, tmp_path, "n1-standard-8", settings=settings)
    assert usd(found["n1-standard-8", "us-central1", Market.ON_DEMAND]) == pytest.approx(8 * 0.031611 + 30 * 0.004237)
    assert usd(found["nvidia-tesla-t4", "us-central1", Market.ON_DEMAND]) == 0.35
    assert usd(found["nvidia-tesla-t4", "us-central1", Market.SPOT]) == 0.14


def test_local_ssd_that_is_built_in_is_a_part_of_the_price(url: str, tmp_path: Path) -> None:
    found = told(url, tmp_path, "a2-ultragpu-1g", "a3-highgpu-8g")
    ssd = 0.08 / A_MONTH_H
    a2 = 12 * 0.031611 + 170 * 0.004237 + 3.92808 + 375 * ssd
    a3 = 208 * 0.029275 + 1872 * 0.002549 + 8 * 9.796551 + 16 * 375 * ssd
    assert usd(found["a2-ultragpu-1g", "us-central1", Market.ON_DEMAND]) == pytest.approx(a2)
    assert usd(found["a3-highgpu-8g", "us-central1", Market.ON_DEMAND]) == pytest.approx(a3)


def test_what_is_told_for_iowa_is_what_the_list_that_comes_with_fleet_has(url: str, tmp_path: Path) -> None:
    """Two documents, one price: it shows that the parts are the right ones."""
    for kind in ("a2-ultragpu-1g", "g2-standard-24", "n1-standard-8"):
        listed = list_prices()["gcp", kind, "us-central1", Market.ON_DEMAND].usd_per_hour
        found = told(url, tmp_path / kind, kind)
        assert usd(found[kind, "us-central1", Market.ON_DEMAND]) == pytest.approx(listed, rel=0.06)


def test_of_a_core_that_is_shared_its_part_is_paid(url: str, tmp_path: Path) -> None:
    found = told(url, tmp_path, "e2-medium")
    assert usd(found["e2-medium", "us-central1", Market.ON_DEMAND]) == pytest.approx(0.021811 + 4 * 0.002923)


def test_each_region_has_its_own_prices_and_one_without_has_none(
    url: str, cloud: ComputeEngine, tmp_path: Path
) -> None:
    europe = [sku("G2 Instance Core running in Belgium", 0.03, regions=("europe-west1",))]
    cloud.price_list = [s for s in americas() if "us-east1" in s["serviceRegions"]] + europe
    for each in cloud.price_list:
        each["serviceRegions"] = [r for r in each["serviceRegions"] if r != "us-east1"]
    found = told(url, tmp_path, zones=("us-central1-a", "us-central1-b", "us-east1-c"))
    assert len(found) == 4
    assert usd(found["g2-standard-24", "us-central1", Market.ON_DEMAND]) == pytest.approx(G2_24)
    assert (
        why(found["g2-standard-24", "us-east1", Market.ON_DEMAND]) == "Google's price list has no price of core of g2"
    )


@pytest.mark.parametrize(
    ("missing", "part"),
    [
        ("G2 Instance Core running in Americas", "core of g2"),
        ("G2 Instance Ram running in Americas", "memory of g2"),
        ("Nvidia L4 GPU running in Americas", "GPU nvidia-l4"),
    ],
)
def test_with_a_part_missing_there_is_no_sum(
    missing: str, part: str, url: str, cloud: ComputeEngine, tmp_path: Path
) -> None:
    cloud.price_list = [s for s in cloud.price_list if s["description"] != missing]
    found = told(url, tmp_path)
    assert (
        why(found["g2-standard-24", "us-central1", Market.ON_DEMAND]) == f"Google's price list has no price of {part}"
    )
    assert usd(found["g2-standard-24", "us-central1", Market.SPOT]) == pytest.approx(G2_24_SPOT)


@pytest.mark.parametrize(
    ("kind", "said"),
    [
        ("a3-edgegpu-8g", "it is not known how much local SSD it has"),
        ("m3-ultramem-32", "it is not known which cores and memory of the price list it has"),
        ("g2-standard-99", "us-central1-a does not have it"),
    ],
)
def test_a_type_whose_parts_are_not_known_has_no_price(kind: str, said: str, url: str, tmp_path: Path) -> None:
    assert {why(each) for each in told(url, tmp_path, kind).values()} == {said}


@pytest.mark.parametrize(
    ("damage", "said"),
    [
        (lambda s: rate_of(s).update(tieredRates=[{"unitPrice": money(0)}]), "0 is no price"),
        (lambda s: rate_of(s).update(tieredRates=[{"unitPrice": money(-1)}]), "is no price"),
        (lambda s: rate_of(s).update(tieredRates=[{"unitPrice": money(24988000, "EUR")}]), "it is in EUR"),
        (lambda s: rate_of(s).update(tieredRates=[]), "it cannot be read (ValueError)"),
        (lambda s: rate_of(s).update(tieredRates={"unitPrice": 1}), "it cannot be read (TypeError)"),
        (lambda s: rate_of(s)["tieredRates"][0].update(unitPrice={"currencyCode": "USD", "nanos": "7"}), "(TypeError)"),
        (lambda s: rate_of(s)["tieredRates"][0]["unitPrice"].update(units="a dollar"), "(ValueError)"),
        (lambda s: rate_of(s)["tieredRates"][0]["unitPrice"].update(units="9" * 400), "(OverflowError)"),
        (lambda s: rate_of(s).update(usageUnit="mo", baseUnitConversionFactor=2678400), "its unit is mo"),
        (lambda s: rate_of(s).update(baseUnitConversionFactor=60), "its unit is h"),
        (lambda s: rate_of(s).update(baseUnitConversionFactor="many"), "(ValueError)"),
        (lambda s: rate_of(s).update(baseUnit="By.s"), "its unit is h"),
        (lambda s: s.update(pricingInfo=[]), "it does not hold yet"),
        (lambda s: s.update(pricingInfo=None), "(TypeError)"),
        (lambda s: s["pricingInfo"][0].update(effectiveTime="yesterday"), "(ValueError)"),
        (lambda s: s["pricingInfo"][0].update(effectiveTime="2026-01-01T00:00:00"), "(TypeError)"),
        (lambda s: s["pricingInfo"][0].update(effectiveTime="2020-05-05T10:00:00Z"), "it is of 2020-05-05, and stale"),
        (lambda s: s["pricingInfo"][0].update(effectiveTime="2099-05-05T10:00:00Z"), "it does not hold yet"),
    ],
)
def test_a_price_that_cannot_be_believed_is_none_and_no_other_is_taken_for_it(
    damage: Callable[[dict[str, Any]], object], said: str, url: str, cloud: ComputeEngine, tmp_path: Path
) -> None:
    damage(cloud.price_list[0])
    found = why(told(url, tmp_path)["g2-standard-24", "us-central1", Market.ON_DEMAND])
    assert found.startswith("Google's price list has a price of core of g2 that cannot be used: ")
    assert said in found


def test_of_two_prices_for_one_part_neither_is_believed(url: str, cloud: ComputeEngine, tmp_path: Path) -> None:
    cloud.price_list.append(sku("G2 Instance Core running in Iowa", 0.03, regions=("us-central1",)))
    found = why(told(url, tmp_path)["g2-standard-24", "us-central1", Market.ON_DEMAND])
    assert found == "Google's price list has 2 prices of core of g2: $0.024988 to $0.03"


def test_of_several_rates_the_dearest_counts_and_of_several_times_the_latest(
    url: str, cloud: ComputeEngine, tmp_path: Path
) -> None:
    core = cloud.price_list[0]
    rate_of(core)["tieredRates"] = [
        {"startUsageAmount": 0, "unitPrice": money(0)},
        {"startUsageAmount": 744, "unitPrice": money(30_000_000)},
        {"startUsageAmount": 7440, "unitPrice": money(20_000_000)},
    ]
    before = sku("x", 0.5, age=timedelta(hours=11))["pricingInfo"][0]
    core["pricingInfo"].insert(0, before)
    found = told(url, tmp_path)["g2-standard-24", "us-central1", Market.ON_DEMAND]
    assert usd(found) == pytest.approx(G2_24 + 24 * (0.03 - 0.024988))


def test_memory_by_the_decimal_gigabyte_is_counted_in_gib(url: str, cloud: ComputeEngine, tmp_path: Path) -> None:
    cloud.price_list[1] = sku("G2 Instance Ram running in Americas", 0.002927, GB_HOUR)
    found = told(url, tmp_path)["g2-standard-24", "us-central1", Market.ON_DEMAND]
    assert usd(found) == pytest.approx(G2_24 + 96 * 0.002927 * (2**30 / 1e9 - 1))


@pytest.mark.parametrize("other", [each["description"] for each in NOT_OURS if "Frankfurt" not in each["description"]])
def test_what_is_sold_under_another_name_is_no_part_of_a_machine(other: str) -> None:
    (usage,) = {s["category"]["usageType"] for s in NOT_OURS if s["description"] == other}
    assert part_of(other) is None or market_of(other, usage) is None


@pytest.mark.parametrize(
    ("description", "part"),
    [
        ("N1 Predefined Instance Core running in Americas", "core of n1"),
        ("Preemptible N1 Predefined Instance Ram running in EMEA", "memory of n1"),
        ("Compute optimized Core running in Americas", "core of c2"),
        ("Compute optimized Instance Ram running in Tel Aviv", "memory of c2"),
        ("N2D AMD Instance Core running in Tokyo", "core of n2d"),
        ("A3Plus Instance Core running in Americas", "core of a3-megagpu"),
        ("Spot Preemptible A3Ultra Instance Ram running in Columbus", "memory of a3-ultragpu"),
        ("Nvidia Tesla A100 GPU running in Netherlands", "GPU nvidia-tesla-a100"),
        ("Nvidia Tesla A100 80GB GPU attached to Spot Preemptible VMs running in Iowa", "GPU nvidia-a100-80gb"),
        ("Nvidia H100 80GB Mega GPU attached to Spot Preemptible VMs running in Tokyo", "GPU nvidia-h100-mega-80gb"),
        ("H200 141GB GPU running in Netherlands", "GPU nvidia-h200-141gb"),
        ("RTX 6000 96GB attached to Spot Preemptible VMs running in Belgium", "GPU nvidia-rtx-pro-6000"),
        ("SSD backed Local Storage in Paris", "local SSD"),
        ("C4D Instance Local SSD running in Frankfurt", "local SSD of c4d"),
    ],
)
def test_each_name_of_the_price_list_is_one_part(description: str, part: str) -> None:
    assert str(part_of(description)) == part


# --- the API itself


def test_a_page_that_breaks_off_is_no_end_of_the_list(url: str, cloud: ComputeEngine, tmp_path: Path) -> None:
    whole = json.dumps({"skus": cloud.price_list, "nextPageToken": ""}).encode()

    def cut(verb: str, path: str) -> None:
        if "skus" in path and len(cloud.calls) > 1:
            cloud.raw = whole[: len(whole) // 2]

    cloud.before = cut
    with pytest.raises(UnknownProviderFault, match="what is no JSON") as refused:
        told(url, tmp_path)
    assert is_one_line(str(refused.value))


@pytest.mark.parametrize(
    "body",
    [
        {"skus": {"a": 1}},
        {"skus": None},
        {"skus": "many"},
        {"skus": []},
        {},
        {"skus": [1, None, "x", {}, {"description": 7}], "nextPageToken": 7},
        {"skus": [], "nextPageToken": "again"},
    ],
)
def test_an_answer_of_wrong_types_is_one_line_and_no_price(
    body: dict[str, Any], url: str, cloud: ComputeEngine, tmp_path: Path
) -> None:
    cloud.raw = json.dumps(body).encode()
    with pytest.raises(UnknownProviderFault) as refused:
        told(url, tmp_path)
    assert is_one_line(str(refused.value))


def test_skus_that_nobody_can_read_are_passed_over(url: str, cloud: ComputeEngine, tmp_path: Path) -> None:
    strange = "Quantum Instance Qubit running in Americas"
    cloud.price_list += [{}, [], 7, None, {"description": []}, {"description": strange}, sku(strange, 9.0)]
    cloud.price_list += [{**sku("G2 Instance Core running in Iowa", 1.0), "serviceRegions": "us-central1"}]
    cloud.price_list += [{**sku("G2 Instance Core running in Iowa", 1.0), "category": 7}]
    assert usd(told(url, tmp_path)["g2-standard-24", "us-central1", Market.ON_DEMAND]) == pytest.approx(G2_24)


MAY_BE_READ = ("a clock", "dropped", "twisted")


@pytest.mark.parametrize("name", [name for name in BREAKS if name != "hangs"])
def test_broken_answers_of_the_price_list_end_in_one_line_and_whole_ones_in_the_right_price(
    name: str, url: str, cloud: ComputeEngine, tmp_path: Path
) -> None:
    with breaking() as line:
        line.behind, line.chance, line.breaks = url, random.Random(name), BREAKS[name]
        line.aims_at = "GET /v1/services/6F81-5844-456A/skus"
        resource = a_gcp_resource(line.url)
        said = tried(lambda: list(a_provider(tmp_path, resource).prices(resource, AT)))
        assert line.broken
        if not name.startswith(MAY_BE_READ):
            assert isinstance(said, ProviderError), said
        line.breaks = None
        (_, whole) = a_provider(tmp_path, resource).prices(resource, AT)
        assert usd(whole) == pytest.approx(G2_24)


NOT_ENABLED = {
    "error": {
        "code": 403,
        "message": "Cloud Billing API has not been used in project 123456 before or it is disabled. Enable it by visiting "
        "https://console.developers.google.com/apis/api/cloudbilling.googleapis.com/overview?project=123456 then retry.",
        "status": "PERMISSION_DENIED",
        "details": [
            {
                "@type": "type.googleapis.com/google.rpc.ErrorInfo",
                "reason": "SERVICE_DISABLED",
                "domain": "googleapis.com",
                "metadata": {"service": "cloudbilling.googleapis.com", "consumer": "projects/123456"},
            }
        ],
    }
}
NO_QUOTA_PROJECT = {
    "error": {
        "code": 403,
        "message": "Your application is authenticating by using local Application Default Credentials. The cloudbilling.googleapis.com "
        "API requires a quota project, which is not set by default.",
        "status": "PERMISSION_DENIED",
    }
}


@pytest.mark.parametrize(
    ("body", "fix"),
    [
        (NOT_ENABLED, "gcloud services enable cloudbilling.googleapis.com --project=123456"),
        (
            {"error": {"code": 403, "message": "disabled", "errors": [{"reason": "accessNotConfigured"}]}},
            "gcloud services enable cloudbilling.googleapis.com --project=lab-1",
        ),
        (NO_QUOTA_PROJECT, "gcloud auth application-default set-quota-project lab-1"),
    ],
)
def test_an_api_that_is_not_enabled_is_one_line_with_the_command_that_enables_it(
    body: dict[str, Any], fix: str, url: str, cloud: ComputeEngine, tmp_path: Path
) -> None:
    cloud.raw, cloud.raw_status = json.dumps(body).encode(), 403
    with pytest.raises(NotAuthorised) as refused:
        told(url, tmp_path)
    assert is_one_line(str(refused.value))
    assert str(refused.value).endswith(fix)


def test_other_refusals_are_those_of_every_call(url: str, cloud: ComputeEngine, tmp_path: Path) -> None:
    def refuse(verb: str, path: str) -> None:
        raise Refused(429, "RESOURCE_EXHAUSTED", "Quota exceeded for quota metric 'Queries'")

    cloud.before = refuse
    with pytest.raises(Throttled, match="question for prices"):
        told(url, tmp_path)


# --- what the doctor says of it


def disabled(cloud: ComputeEngine) -> None:
    def refuse(verb: str, path: str) -> None:
        if "/skus" in path:
            raise Refused(403, "accessNotConfigured", "Cloud Billing API is disabled")

    cloud.before = refuse


def finding(provider: GcpProvider, resource: Resource) -> tuple[str, str]:
    (found,) = [f for f in provider.check(resource, AT) if f.name == "price list"]
    return found.found, found.fix


def test_the_doctor_says_whether_the_price_list_may_be_read(url: str, cloud: ComputeEngine, tmp_path: Path) -> None:
    resource = a_gcp_resource(url)
    assert finding(a_provider(tmp_path, resource), resource) == ("may be read by `fleet prices refresh`", "")
    disabled(cloud)
    said, fix = finding(a_provider(tmp_path, resource), resource)
    assert "gcloud services enable cloudbilling.googleapis.com --project=lab-1" in said
    assert fix == ""  # the prices are known without
    unknown = a_provider(tmp_path, resource, price_of=lambda *place: None)
    said, fix = finding(unknown, resource)
    assert said == "may not be read, and nobody knows what g2-standard-24 costs"
    assert "gcloud services enable cloudbilling.googleapis.com --project=lab-1" in fix
