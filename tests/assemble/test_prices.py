"""`fleet prices`, and a budget in dollars that meets a type whose price nobody knows."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from importlib.metadata import EntryPoint
from pathlib import Path

import pytest

from fleet.assemble import prices as rooms_prices
from fleet.assemble import providers as rooms_providers
from fleet.assemble.prices import known_prices, refresh, refuse_unpriced, unpriced
from fleet.config import Config, parse
from fleet.errors import ConfigError, ProviderError, Throttled
from fleet.model import Market, MarketPolicy, Resource
from fleet.providers.base import Surroundings
from fleet.providers.fake import FakeCloud
from fleet.providers.prices import Price, refreshed
from tests.providers.compute_engine import ComputeEngine, Refused, served
from tests.providers.price_list import americas, sku


def fleet(place: Path, budget: str = "{usd_per_hour: 10}", resource: str = "") -> Config:
    return parse(
        f"""
        cluster: lab
        state_dir: {place}
        advertise_url: https://fleet.example.org
        budget: {budget}
        resources: {{gpu: {{provider: aws, instance_types: [g5.xlarge], {resource}}}}}
        queues: {{train: {{resources: [gpu]}}}}
        """,
        "fleet.yaml",
        environment={},
    )


@pytest.mark.parametrize(
    ("budget", "resource"),
    [
        ("{max_instances: 3}", "region: eu-west-1"),
        ("{usd_per_hour: 10}", "region: us-east-1"),
        ("{usd_per_hour: 10}", "zones: [us-east-1a, us-east-1b]"),
        ("{usd_per_hour: 10}", "region: us-east-1, market: spot"),
        ("{usd_per_hour: 10}", ""),
        ("{usd_per_hour: 10}", "region: eu-west-1, prices: {g5.xlarge: 1.12}"),
    ],
)
def test_a_price_that_somebody_knows_is_enough(budget: str, resource: str, tmp_path: Path) -> None:
    refuse_unpriced(fleet(tmp_path, budget, resource))


@pytest.mark.parametrize(
    "budget", ["{usd_per_hour: 10}", "{per_user: {usd_per_day: 3}}", "{users: {ann: {usd_per_day: 3}}}"]
)
def test_a_budget_in_dollars_refuses_a_type_without_a_price(budget: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigError) as refused:
        refuse_unpriced(fleet(tmp_path, budget, "region: eu-west-1"))
    assert str(refused.value) == (
        "fleet.yaml: resources.gpu.instance_types: nobody knows what g5.xlarge costs in eu-west-1, and a budget in dollars must; "
        "say it with prices: {g5.xlarge: DOLLARS_AN_HOUR} there, or ask the cloud with: fleet prices refresh"
    )


def test_prices_list_says_who_knows(tmp_path: Path) -> None:
    config = fleet(
        tmp_path, resource="region: us-east-1, market: spot_then_on_demand, prices: {g5.xlarge: {spot: 0.4}}"
    )
    spot, on_demand = known_prices(config)
    assert (spot.usd_per_hour, spot.source) == (0.4, "fleet file")
    assert on_demand.usd_per_hour == 1.006
    assert on_demand.source.startswith("AWS Price List")


class TellingCloud(FakeCloud):
    """A cloud with a price API."""

    said: tuple[float, ...] = ()
    fault: ProviderError | None = None

    def prices(self, resource: Resource, at: datetime) -> Sequence[Price]:
        if self.fault:
            raise self.fault
        return [
            Price(
                provider="aws",
                type=kind,
                region="eu-west-1",
                market=Market.ON_DEMAND,
                usd_per_hour=usd,
                seen_on=at.date(),
                source="AWS Price List Query API",
            )
            for kind, usd in zip(resource.instance_types, self.said, strict=False)
        ]


def make(surroundings: Surroundings) -> TellingCloud:
    return TellingCloud(now=lambda: datetime.now(UTC))


@pytest.fixture
def aws(monkeypatch: pytest.MonkeyPatch) -> type[TellingCloud]:
    point = EntryPoint("aws", f"{__name__}:make", rooms_providers.GROUP)
    monkeypatch.setattr(rooms_providers, "entry_points", lambda group: [point])
    monkeypatch.setattr(TellingCloud, "said", (1.12,))
    monkeypatch.setattr(TellingCloud, "fault", None)
    assert rooms_prices.CLOUDS[0] == "aws"
    return TellingCloud


def test_a_refresh_is_kept_and_makes_the_type_affordable(aws: type[TellingCloud], tmp_path: Path) -> None:
    config = fleet(tmp_path, resource="region: eu-west-1")
    (done,) = refresh(config)
    assert (done.provider, done.used, done.said) == ("aws", 1, ())
    refuse_unpriced(config)
    (known,) = known_prices(config)
    assert (known.usd_per_hour, known.source.split(",")[0]) == (1.12, "AWS Price List Query API")


def test_what_cannot_be_believed_leaves_what_was_known(aws: type[TellingCloud], tmp_path: Path) -> None:
    config = fleet(tmp_path, resource="region: eu-west-1")
    list(refresh(config))
    aws.said = (11.2,)
    (done,) = refresh(config)
    assert done.used == 0
    assert "more than 5 times away from $1.12" in done.said[0]
    assert [p.usd_per_hour for p in refreshed(tmp_path / "aws")] == [1.12]


@pytest.mark.parametrize("head", ["", "resource gpu: "])
def test_a_cloud_that_does_not_answer_is_a_line(head: str, aws: type[TellingCloud], tmp_path: Path) -> None:
    aws.fault = Throttled(f"{head}pricing: too many calls; try again in a minute")
    (done,) = refresh(fleet(tmp_path))
    assert (done.used, done.said) == (0, ("resource gpu: pricing: too many calls; try again in a minute",))


def test_a_damaged_file_is_replaced_by_a_refresh(aws: type[TellingCloud], tmp_path: Path) -> None:
    (tmp_path / "aws").mkdir()
    (tmp_path / "aws" / "prices.json").write_text("{")
    (done,) = refresh(fleet(tmp_path, resource="region: eu-west-1"))
    assert done.used == 1
    assert len(refreshed(tmp_path / "aws")) == 1


@pytest.mark.parametrize(
    ("gpu", "is_refused"),
    [
        ("nvidia-tesla-t4", False),
        ("nvidia-tesla-k80", True),
        ("nvidia-tesla-k80, prices: {nvidia-tesla-k80: 0.45, n1-standard-4: 0.19}", False),
    ],
)
def test_a_gpu_that_is_attached_to_a_machine_needs_a_price_too(gpu: str, is_refused: bool, tmp_path: Path) -> None:
    config = parse(
        f"""
        cluster: lab
        state_dir: {tmp_path}
        advertise_url: https://fleet.example.org
        budget: {{usd_per_day: 100}}
        resources:
          t4: {{provider: gcp, zones: [us-central1-a], instance_types: [n1-standard-4], gpu_type: {gpu}, gpus: 1}}
        queues: {{train: {{resources: [t4]}}}}
        """,
        "fleet.yaml",
        environment={},
    )
    assert [f"nobody knows what {gpu} costs in us-central1" in line for line in unpriced(config)] == [True] * is_refused


# --- clouds with and without an API for prices, as they are


@pytest.fixture
def google() -> Iterator[tuple[ComputeEngine, str]]:
    cloud = ComputeEngine()
    cloud.price_list, cloud.page = americas(), 50
    with served(cloud) as url:
        yield cloud, url


def of_google(place: Path, url: str, resource: str = "instance_types: [g2-standard-24]") -> Config:
    return parse(
        f"""
        cluster: lab
        state_dir: {place}
        advertise_url: https://fleet.example.org
        budget: {{usd_per_hour: 50}}
        resources:
          gpu: {{provider: gcp, project: lab-1, zones: [us-east1-c], image: fleet-1, market: spot_then_on_demand,
                 endpoint_url: "{url}", {resource}}}
        queues: {{train: {{resources: [gpu]}}}}
        """,
        "fleet.yaml",
        environment={},
    )


def test_what_google_tells_is_what_fleet_prices_shows_and_what_the_planner_is_offered(
    google: tuple[ComputeEngine, str], tmp_path: Path
) -> None:
    config = of_google(tmp_path, google[1], "instance_types: [g2-standard-24, n1-standard-8]")
    with pytest.raises(ConfigError, match="ask the cloud with: fleet prices refresh"):
        refuse_unpriced(config)
    (done,) = refresh(config)
    assert (done.provider, done.used, done.said) == ("gcp", 4, ())
    refuse_unpriced(config)
    shown = {(p.type, p.market): (p.usd_per_hour, p.source) for p in known_prices(config)}
    assert {source for _, source in shown.values()} == {
        f"Cloud Billing Catalog API, {price.seen_on}" for price in refreshed(tmp_path / "gcp")
    }
    provider = rooms_providers.providers_of(config, rooms_prices.state_of(config))["gcp"]
    offers = provider.offers(config.resources[0], datetime.now(UTC))
    assert {(o.type, o.market): o.price_usd_per_hour for o in offers} == {key: usd for key, (usd, _) in shown.items()}
    assert shown["n1-standard-8", Market.ON_DEMAND][0] == pytest.approx(8 * 0.031611 + 30 * 0.004237)


def test_a_gpu_that_is_attached_is_refreshed_and_shown_beside_its_machine(
    google: tuple[ComputeEngine, str], tmp_path: Path
) -> None:
    said = "instance_types: [n1-standard-8], gpu_type: nvidia-tesla-t4, gpus: 2"
    config = of_google(tmp_path, google[1], said)
    (done,) = refresh(config)
    assert done.used == 4
    shown = {(p.type, p.market): p.usd_per_hour for p in known_prices(config)}
    assert shown["nvidia-tesla-t4", Market.SPOT] == 0.14
    provider = rooms_providers.providers_of(config, rooms_prices.state_of(config))["gcp"]
    spot, _ = provider.offers(config.resources[0], datetime.now(UTC))
    assert spot.price_usd_per_hour == pytest.approx(8 * 0.006655 + 30 * 0.000892 + 2 * 0.14)


def test_a_price_of_google_that_cannot_be_is_refused_as_every_price_is(
    google: tuple[ComputeEngine, str], tmp_path: Path
) -> None:
    """Spot above on demand, and a part that is missing: what is left is used, and each of the others is a line."""
    cloud, url = google
    config = of_google(tmp_path, url, "instance_types: [g2-standard-24, n1-standard-8]")
    cloud.price_list[3] = sku("Spot Preemptible G2 Instance Core running in Americas", 0.5)
    cloud.price_list = [s for s in cloud.price_list if "N1 Predefined Instance Ram" not in s["description"]]
    (done,) = refresh(config)
    assert done.used == 1
    no_memory = "Google's price list has no price of memory of n1; it is as unknown as before"
    assert set(done.said) == {
        f"gcp n1-standard-8 us-east1 spot: {no_memory}",
        f"gcp n1-standard-8 us-east1 on_demand: {no_memory}",
        "gcp g2-standard-24 us-east1 spot: spot at $12.5604 is above on demand at $2.00078; it is not used. "
        "If it is right, say it in the fleet file under prices",
    }
    assert [(p.type, p.market) for p in refreshed(tmp_path / "gcp")] == [("g2-standard-24", Market.ON_DEMAND)]


def test_of_a_market_that_is_not_bought_in_no_price_is_missed(
    google: tuple[ComputeEngine, str], tmp_path: Path
) -> None:
    cloud, url = google
    cloud.price_list = [s for s in cloud.price_list if "Preemptible" not in s["description"]]
    (done,) = refresh(of_google(tmp_path, url))
    assert (done.used, [line.partition(":")[0] for line in done.said]) == (1, ["gcp g2-standard-24 us-east1 spot"])
    both = of_google(tmp_path, url)
    only = replace(both, resources=(replace(both.resources[0], market=MarketPolicy.ON_DEMAND),))
    (done,) = refresh(only)
    assert (done.used, done.said) == (1, ())


def test_a_price_list_that_may_not_be_read_is_one_line_and_leaves_what_was_known(
    google: tuple[ComputeEngine, str], tmp_path: Path
) -> None:
    cloud, url = google
    config = of_google(tmp_path, url)
    list(refresh(config))
    before = refreshed(tmp_path / "gcp")

    def refuse(verb: str, path: str) -> None:
        raise Refused(403, "accessNotConfigured", "Cloud Billing API has not been used in project 7 before")

    cloud.before = refuse
    (done,) = refresh(config)
    (line,) = done.said
    assert line.startswith(
        "resource gpu: Google Cloud refused the question for prices: the Cloud Billing API is not enabled"
    )
    assert "gcloud services enable cloudbilling.googleapis.com" in line
    assert (done.used, refreshed(tmp_path / "gcp")) == (0, before)


@pytest.mark.parametrize(
    ("prices", "said"),
    [
        ("prices: {vcpu-2_memory-4g: 0.05},", "vcpu-2_memory-4g is $0.05, says the fleet file; set them with"),
        ("", "nobody says what vcpu-2_memory-4g costs; set them with"),
    ],
)
def test_of_a_cloud_whose_api_has_no_prices_a_line_says_where_they_come_from_and_how_they_are_set(
    prices: str, said: str, tmp_path: Path
) -> None:
    config = parse(
        f"""
        cluster: lab
        state_dir: {tmp_path}
        advertise_url: https://fleet.example.org
        resources:
          cpu: {{provider: genesis, region: NORD-NO-KRS-1, instance_types: [vcpu-2_memory-4g], {prices} token: t}}
        queues: {{prep: {{resources: [cpu], gpus: 0}}}}
        """,
        "fleet.yaml",
        environment={},
    )
    (done,) = refresh(config)
    (line,) = done.said
    assert line == (
        f"resource cpu: the API of genesis has no prices; {said} prices: {{vcpu-2_memory-4g: DOLLARS_AN_HOUR}} on the resource"
    )
    assert (done.used, done.tells) == (0, False)


def test_several_regions_of_google_are_all_priced(google: tuple[ComputeEngine, str], tmp_path: Path) -> None:
    text = "instance_types: [g2-standard-24], regions: [us-central1, us-east1]"
    config = of_google(tmp_path, google[1], text)
    several = replace(config, resources=tuple(replace(r, zones=()) for r in config.resources))
    assert {p.region for p in known_prices(several)} == {"us-central1", "us-east1"}
