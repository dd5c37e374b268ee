"""Google Cloud, over HTTP: the contract, and what is special about it. The cloud is `tests.providers.compute_engine`."""

from __future__ import annotations

import json
import logging
import re
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import yaml

from fleet.errors import (
    BadRequest,
    NoCapacity,
    NotAuthorised,
    ProviderError,
    QuotaExceeded,
    Throttled,
    UnknownProviderFault,
)
from fleet.model import Market, MarketPolicy, Resource
from fleet.providers.base import FirstBoot, Launched, LaunchFailed, LaunchOrder, Surroundings
from fleet.providers.first_boot import user_data
from fleet.providers.gcp import labels
from fleet.providers.gcp.account import METHODS, all_permissions
from fleet.providers.gcp.body import in_zone, name_of
from fleet.providers.gcp.provider import GcpProvider
from fleet.providers.gcp.settings import settings_of
from tests.builders import a_resource
from tests.providers.compute_engine import ComputeEngine, Refused, date, served
from tests.providers.contract import Ground, ProviderContract, is_one_line
from tests.waiting import wait_for

AT = datetime.now(UTC)
ROLE = Path(__file__).parents[2] / "images" / "iam" / "gcp-role.yaml"


@pytest.fixture
def cloud() -> ComputeEngine:
    return ComputeEngine()


@pytest.fixture
def url(cloud: ComputeEngine) -> Iterator[str]:
    with served(cloud) as url:
        yield url


def a_gcp_resource(url: str = "http://127.0.0.1:1", **changes: Any) -> Resource:
    settings = {"project": "lab-1", "endpoint_url": url, **changes.pop("settings", {})}
    given = {"zones": ("us-central1-a",), "instance_types": ("g2-standard-24",), "image": "fleet-1", **changes}
    return a_resource(provider="gcp", settings=settings, **given)


def a_provider(place: Path, *resources: Resource, **options: Any) -> GcpProvider:
    usd = {Market.SPOT: 1.0, Market.ON_DEMAND: 2.5}
    options = {
        "price_of": lambda r, kind, region, market: usd[market],
        "user_data": user_data,
        "timeout_s": 1.0,
    } | options
    return GcpProvider(Surroundings(cluster="test", directory=place, resources=resources), **options)


def an_order(
    provider: GcpProvider, resource: Resource, instance: str = "i1", market: Market | None = None
) -> LaunchOrder:
    offers = [o for o in provider.offers(resource, AT) if market in (None, o.market)]
    boot = FirstBoot(centre_url="https://fleet.lab:8765", join_token="token-of-" + instance)
    return LaunchOrder(instance=instance, cluster="test", resource=resource, offer=offers[0], first_boot=boot)


class TestGcp(ProviderContract):
    @pytest.fixture
    def ground(self, cloud: ComputeEngine, url: str, tmp_path: Path) -> Ground:
        resource = a_gcp_resource(url, name="A100_Spot.2", market=MarketPolicy.SPOT_THEN_ON_DEMAND)
        provider = a_provider(tmp_path / "gcp", resource)
        return Ground(provider=provider, resource=resource, trouble=cloud, patience_s=1.0, many=8)


class TestGcpWhereGoogleChoosesTheZone(ProviderContract):
    @pytest.fixture
    def ground(self, cloud: ComputeEngine, url: str, tmp_path: Path) -> Ground:
        resource = a_gcp_resource(url, zones=(), region="us-central1")
        provider = a_provider(tmp_path / "gcp", resource)
        return Ground(provider=provider, resource=resource, trouble=cloud, patience_s=1.0)


# --- offers


def test_each_type_is_offered_in_each_zone_and_market_with_its_gpus_and_price(url: str, tmp_path: Path) -> None:
    resource = a_gcp_resource(
        url,
        zones=("us-central1-a", "us-east1-c"),
        instance_types=("g2-standard-24", "n1-standard-8"),
        market=MarketPolicy.SPOT_THEN_ON_DEMAND,
    )
    offers = a_provider(tmp_path, resource).offers(resource, AT)
    assert len(offers) == 8
    assert {(o.region, o.zone) for o in offers} == {("us-central1", "us-central1-a"), ("us-east1", "us-east1-c")}
    first = offers[0]
    assert (first.type, first.gpus, first.gpu_model, first.gpu_memory_gib) == ("g2-standard-24", 2, "L4", 24.0)
    assert (first.cpus, first.memory_gib, first.market, first.price_usd_per_hour) == (24, 96.0, Market.SPOT, 1.0)
    assert {o.gpus for o in offers if o.type == "n1-standard-8"} == {0}


def test_gpus_that_are_attached_count_and_cost_beside_the_machine(url: str, tmp_path: Path) -> None:
    settings = {"gpu_type": "nvidia-tesla-t4", "gpus": 2}
    resource = a_gcp_resource(url, instance_types=("n1-standard-8",), settings=settings)
    (offer,) = a_provider(tmp_path, resource).offers(resource, AT)
    assert (offer.gpus, offer.gpu_model, offer.gpu_memory_gib) == (2, "Tesla T4", 16.0)
    assert offer.price_usd_per_hour == 2.5 + 2 * 2.5


def test_a_zone_without_the_type_is_skipped_and_a_type_that_is_nowhere_is_said(url: str, tmp_path: Path) -> None:
    resource = a_gcp_resource(url, zones=("us-central1-a", "us-west4-b"))
    assert [o.zone for o in a_provider(tmp_path, resource).offers(resource, AT)] == ["us-central1-a"]
    wrong = a_gcp_resource(url, instance_types=("g2-standart-24",))
    with pytest.raises(BadRequest, match=r"resources\.gpu\.instance_types: none of g2-standart-24 is in us-central1-a"):
        a_provider(tmp_path, wrong).offers(wrong, AT)


def test_shapes_are_asked_for_once_an_hour_and_outlive_an_hour_without_network(
    cloud: ComputeEngine, url: str, tmp_path: Path
) -> None:
    resource = a_gcp_resource(url)
    provider = a_provider(tmp_path, resource)
    first = provider.offers(resource, AT)
    assert [o.type for o in provider.offers(resource, AT + timedelta(minutes=50))] == [o.type for o in first]
    assert len(cloud.calls) == 1
    cloud.garble()
    for minutes in (61, 61.5, 62.5):
        assert len(provider.offers(resource, AT + timedelta(minutes=minutes))) == len(first)
    assert len(cloud.calls) == 3  # not at every pass


# --- launch


def test_a_machine_is_what_its_resource_says(url: str, cloud: ComputeEngine, tmp_path: Path) -> None:
    resource = a_gcp_resource(
        url,
        instance_types=("n1-standard-8",),
        market=MarketPolicy.SPOT,
        max_lifetime=timedelta(hours=24),
        image=None,
        settings={
            "image_family": "debian-12",
            "image_project": "debian-cloud",
            "gpu_type": "nvidia-tesla-t4",
            "gpus": 2,
            "disk_gib": 200,
            "disk_type": "pd-ssd",
            "network": "lab",
            "subnets": ["projects/host/regions/us-central1/subnetworks/gpus"],
            "public_ip": False,
            "network_tags": ["gpu"],
            "service_account": "fleet@lab-1.iam.gserviceaccount.com",
            "scopes": ["storage-ro", "https://www.googleapis.com/auth/logging.write"],
            "labels": {"team": "vision", "fleet-cluster": "stolen"},
            "metadata": {"serial-port-enable": True},
            "shielded": {"secure_boot": True, "vtpm": True},
            "min_cpu_platform": "Intel Skylake",
        },
    )
    provider = a_provider(tmp_path, resource)
    order = an_order(provider, resource)
    provider.launch([order])
    (body,) = cloud.bodies
    zone, disk = "zones/us-central1-a", body["disks"][0]
    assert body["name"] == "fleet-test-i1"
    assert body["machineType"] == f"{zone}/machineTypes/n1-standard-8"
    assert body["labels"] == {
        "team": "vision",
        "fleet-cluster": "test",
        "fleet-instance": "i1",
        "fleet-resource": "gpu",
    }
    assert disk["initializeParams"] == {
        "sourceImage": "projects/debian-cloud/global/images/family/debian-12",
        "diskSizeGb": "200",
        "diskType": f"{zone}/diskTypes/pd-ssd",
        "labels": body["labels"],
    }
    assert (disk["boot"], disk["autoDelete"]) == (True, True)
    assert body["networkInterfaces"] == [
        {"network": "global/networks/lab", "subnetwork": "projects/host/regions/us-central1/subnetworks/gpus"}
    ]
    assert body["scheduling"] == {
        "automaticRestart": False,
        "provisioningModel": "SPOT",
        "onHostMaintenance": "TERMINATE",
        "instanceTerminationAction": "DELETE",
        "maxRunDuration": {"seconds": str(24 * 3600 + 15 * 60 + 30 * 60)},
    }
    kind = f"{zone}/acceleratorTypes/nvidia-tesla-t4"
    assert body["guestAccelerators"] == [{"acceleratorType": kind, "acceleratorCount": 2}]
    scopes = ["https://www.googleapis.com/auth/devstorage.read_only", "https://www.googleapis.com/auth/logging.write"]
    assert body["serviceAccounts"] == [{"email": "fleet@lab-1.iam.gserviceaccount.com", "scopes": scopes}]
    assert body["shieldedInstanceConfig"] == {"enableSecureBoot": True, "enableVtpm": True}
    assert (body["tags"], body["minCpuPlatform"]) == ({"items": ["gpu"]}, "Intel Skylake")
    metadata = {item["key"]: item["value"] for item in body["metadata"]["items"]}
    assert metadata["serial-port-enable"] == "true"
    assert "FLEET_JOIN_TOKEN=token-of-i1" in metadata["user-data"]
    assert re.fullmatch(r"[0-9a-f]{8}-[0-9a-f]{4}-5[0-9a-f]{3}-[0-9a-f]{4}-[0-9a-f]{12}", cloud.queries[0]["requestId"])


@pytest.mark.parametrize(
    ("named", "snapshot"),
    [("trained", "global/snapshots/trained"), ("projects/p/global/snapshots/s", "projects/p/global/snapshots/s")],
)
def test_a_boot_disk_may_be_made_from_a_snapshot_instead_of_an_image(
    named: str, snapshot: str, url: str, cloud: ComputeEngine, tmp_path: Path
) -> None:
    settings = {"disk_snapshot": named, "disk_gib": 300, "disk_type": "pd-ssd"}
    resource = a_gcp_resource(url, image=None, settings=settings)
    provider = a_provider(tmp_path, resource)
    provider.launch([an_order(provider, resource)])
    (disk,) = cloud.bodies[0]["disks"]
    assert {k: v for k, v in disk["initializeParams"].items() if k != "labels"} == {
        "sourceSnapshot": snapshot,
        "diskSizeGb": "300",
        "diskType": "zones/us-central1-a/diskTypes/pd-ssd",
    }


def test_a_standard_machine_without_gpus_may_be_moved_and_only_one_with_a_lifetime_is_deleted_by_google(
    url: str, tmp_path: Path
) -> None:
    resource = a_gcp_resource(url, instance_types=("n1-standard-8",))
    order = an_order(a_provider(tmp_path, resource), resource)
    body = in_zone(order, settings_of(resource), "us-central1-a", "")
    assert body["scheduling"] == {"automaticRestart": False, "provisioningModel": "STANDARD"}
    mortal = replace(order, resource=replace(resource, max_lifetime=timedelta(days=400)))
    scheduling = in_zone(mortal, settings_of(resource), "us-central1-a", "")["scheduling"]
    assert scheduling["maxRunDuration"] == {"seconds": str(120 * 86400)}  # the most that Google takes
    assert scheduling["instanceTerminationAction"] == "DELETE"


def test_a_template_gives_what_the_fleet_file_does_not_and_a_launch_spec_has_the_last_word(
    url: str, cloud: ComputeEngine, tmp_path: Path
) -> None:
    spec = {"scheduling": {"onHostMaintenance": "MIGRATE"}, "labels": {"fleet-instance": "x"}, "canIpForward": True}
    resource = a_gcp_resource(url, image=None, settings={"template": "gpu-lab", "launch_spec": spec})
    provider = a_provider(tmp_path, resource)
    provider.launch([an_order(provider, resource)])
    (body,) = cloud.bodies
    assert cloud.queries[0]["sourceInstanceTemplate"] == "global/instanceTemplates/gpu-lab"
    assert {"disks", "networkInterfaces", "serviceAccounts"} & set(body) == set()
    assert body["scheduling"] == {
        "automaticRestart": False,
        "provisioningModel": "STANDARD",
        "onHostMaintenance": "MIGRATE",
    }
    assert (body["canIpForward"], body["labels"]["fleet-instance"]) == (True, "i1")


def test_where_google_chooses_the_zone_one_call_is_one_machine_with_its_own_name_and_token(
    url: str, cloud: ComputeEngine, tmp_path: Path
) -> None:
    resource = a_gcp_resource(url, zones=(), region="us-central1")
    provider = a_provider(tmp_path, resource)
    answers = provider.launch([an_order(provider, resource, name) for name in ("i1", "i2")])
    assert [a.cloud_id for a in answers if isinstance(a, Launched)] == [
        f"lab-1/us-central1-b/fleet-test-{name}" for name in ("i1", "i2")
    ]
    assert {tuple(body["perInstanceProperties"]) for body in cloud.bodies} == {("fleet-test-i1",), ("fleet-test-i2",)}
    assert all(body["instanceProperties"]["machineType"] == "g2-standard-24" for body in cloud.bodies)


# --- operations that finish late or fail late


def test_an_operation_that_takes_a_while_is_waited_for(url: str, cloud: ComputeEngine, tmp_path: Path) -> None:
    cloud.operation_s = 0.5
    cloud.fails = lambda zone, body: ("ZONE_RESOURCE_POOL_EXHAUSTED_WITH_DETAILS", "The zone has not enough resources.")
    resource = a_gcp_resource(url)
    provider = a_provider(tmp_path, resource)
    (answer,) = provider.launch([an_order(provider, resource)])
    assert isinstance(answer, LaunchFailed)
    assert isinstance(answer.error, NoCapacity)
    assert list(provider.list("test")) == []


def test_a_launch_that_fails_late_is_in_no_list_and_its_pool_is_left_alone(
    url: str, cloud: ComputeEngine, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    cloud.operation_s = 1.2
    cloud.fails = lambda zone, body: ("ZONE_RESOURCE_POOL_EXHAUSTED", "The zone has not enough resources.")
    resource = a_gcp_resource(url, zones=("us-central1-a", "us-central1-b"))
    provider = a_provider(tmp_path, resource, outcome_within_s=0.1)
    (answer,) = provider.launch([an_order(provider, resource)])
    assert answer == Launched(instance="i1", cloud_id="lab-1/us-central1-a/fleet-test-i1")
    wait_for(lambda: not provider.list("test"))  # as the dispatcher looks, pass by pass
    provider.list("test")
    assert [o.zone for o in provider.offers(resource, datetime.now(UTC))] == ["us-central1-b"]
    assert len(provider.offers(resource, datetime.now(UTC) + timedelta(minutes=6))) == 2
    (record,) = [r for r in caplog.records if r.levelno == logging.WARNING]
    assert "not enough resources" in record.__dict__["error"]


def test_where_google_chooses_the_zone_a_late_operation_is_asked_for_again_with_the_same_token(
    url: str, cloud: ComputeEngine, tmp_path: Path
) -> None:
    cloud.operation_s = 0.6
    resource = a_gcp_resource(url, zones=(), region="us-central1")
    provider = a_provider(tmp_path, resource, outcome_within_s=0.1)
    order = an_order(provider, resource)
    with pytest.raises(UnknownProviderFault, match="under way"):
        provider.launch([order])
    (answer,) = a_provider(tmp_path, resource, outcome_within_s=3.0).launch([order])
    assert isinstance(answer, Launched)
    assert len(cloud.instances) == 1


# --- refusals

REFUSALS = [
    (403, "quotaExceeded", "Quota 'NVIDIA_T4_GPUS' exceeded. Limit: 4.0 in region us-central1.", QuotaExceeded),
    (503, "insufficientCapacity", "Not enough capacity.", NoCapacity),
    (403, "rateLimitExceeded", "Rate Limit Exceeded", Throttled),
    (403, "forbidden", "Required 'compute.instances.create' permission for 'projects/lab-1'", NotAuthorised),
    (403, "accessNotConfigured", "Compute Engine API has not been used in project 1 before", NotAuthorised),
    (401, "authError", "Invalid Credentials", NotAuthorised),
    (400, "invalid", "Invalid value for field 'resource.disks[0]'", BadRequest),
    (404, "notFound", "The resource 'projects/lab-1/global/images/x' was not found", BadRequest),
    (412, "conditionNotMet", "Constraint constraints/compute.vmExternalIpAccess violated", BadRequest),
    (429, "tooMany", "Slow down", Throttled),
    (500, "backendError", "Backend Error", UnknownProviderFault),
    (503, "backendError", "Backend Error", UnknownProviderFault),
    (418, "teapot", "?", UnknownProviderFault),
]


@pytest.mark.parametrize(("status", "reason", "message", "kind"), REFUSALS)
def test_each_refusal_is_of_the_class_that_says_what_follows(
    url: str, cloud: ComputeEngine, tmp_path: Path, status: int, reason: str, message: str, kind: type[ProviderError]
) -> None:
    resource = a_gcp_resource(url)
    provider = a_provider(tmp_path, resource)
    order = an_order(provider, resource)

    def refuse(verb: str, path: str) -> None:
        raise Refused(status, reason, message)

    cloud.before = refuse
    error = launch_error(provider, order)
    assert type(error) is kind
    assert is_one_line(error)
    assert message.rstrip(".") in str(error)
    assert not cloud.instances


LATE = [
    ("ZONE_RESOURCE_POOL_EXHAUSTED", NoCapacity),
    ("STOCKOUT", NoCapacity),
    ("QUOTA_EXCEEDED", QuotaExceeded),
    ("RESOURCE_OPERATION_RATE_EXCEEDED", Throttled),
    ("PERMISSIONS_ERROR", NotAuthorised),
    ("UNSUPPORTED_OPERATION", BadRequest),
    ("INTERNAL_ERROR", UnknownProviderFault),
    ("SOMETHING_NEW", UnknownProviderFault),
]


@pytest.mark.parametrize(("code", "kind"), LATE)
def test_each_failure_of_an_operation_is_too(
    url: str, cloud: ComputeEngine, tmp_path: Path, code: str, kind: type[ProviderError]
) -> None:
    cloud.fails = lambda zone, body: (code, "No, for a reason.")
    resource = a_gcp_resource(url)
    provider = a_provider(tmp_path, resource)
    (answer,) = provider.launch([an_order(provider, resource)])
    assert isinstance(answer, LaunchFailed)  # it is DONE: nothing was started
    assert type(answer.error) is kind


def test_where_google_chose_the_zone_a_machine_that_has_ended_since_is_given_up(
    url: str, cloud: ComputeEngine, tmp_path: Path
) -> None:
    resource = a_gcp_resource(url, zones=(), region="us-central1")
    provider = a_provider(tmp_path, resource)
    order = an_order(provider, resource)
    provider.launch([order])
    cloud.instances.clear()
    for operation in cloud.operations.values():
        operation["done_at"] -= 90
    assert isinstance(launch_error(provider, order), UnknownProviderFault)
    assert not cloud.instances


def test_a_refused_order_stops_no_other_of_its_batch(url: str, cloud: ComputeEngine, tmp_path: Path) -> None:
    cloud.fails = lambda zone, body: ("STOCKOUT", "none") if body["name"].endswith("i2") else None
    resource = a_gcp_resource(url)
    provider = a_provider(tmp_path, resource)
    answers = provider.launch([an_order(provider, resource, f"i{n}") for n in range(4)])
    assert [type(a) for a in answers] == [Launched, Launched, LaunchFailed, Launched]


def test_an_answer_that_was_lost_is_the_same_machine_the_next_time(
    url: str, cloud: ComputeEngine, tmp_path: Path
) -> None:
    """The dispatcher is killed between call and answer; or the answer breaks off on its way."""
    resource = a_gcp_resource(url)
    provider = a_provider(tmp_path, resource)
    orders = [an_order(provider, resource, name) for name in ("i1", "i2")]
    cloud.raw = b'{"kind": "compute#operation", "na'
    with pytest.raises(UnknownProviderFault):
        provider.launch(orders)
    assert len(cloud.instances) == 2
    cloud.raw = None
    answers = a_provider(tmp_path, resource).launch(orders)
    assert len(cloud.instances) == 2
    assert all(isinstance(a, Launched) for a in answers)
    cloud.requests.clear()  # Google forgets requests after a while: then the name is taken, by us
    assert a_provider(tmp_path, resource).launch(orders) == answers


def test_a_name_that_somebody_else_has_is_not_taken_for_ours(url: str, cloud: ComputeEngine, tmp_path: Path) -> None:
    resource = a_gcp_resource(url)
    provider = a_provider(tmp_path, resource)
    order = an_order(provider, resource)
    cloud.instances["lab-1", "us-central1-a", "fleet-test-i1"] = {"name": "fleet-test-i1", "labels": {}}
    error = launch_error(provider, order)
    assert isinstance(error, BadRequest)
    assert "is not ours" in str(error)


def test_while_a_cloud_asks_for_silence_it_is_not_called(url: str, cloud: ComputeEngine, tmp_path: Path) -> None:
    resource = a_gcp_resource(url)
    provider = a_provider(tmp_path, resource)

    def refuse(verb: str, path: str) -> None:
        raise Refused(429, "rateLimitExceeded", "Slow down", {"Retry-After": "30"})

    cloud.before = refuse
    with pytest.raises(Throttled):
        provider.list("test")
    calls = len(cloud.calls)
    with pytest.raises(Throttled, match="another 30 s"):
        provider.list("test")
    assert len(cloud.calls) == calls


def test_a_clock_that_is_off_is_named_when_credentials_are_refused(
    url: str, cloud: ComputeEngine, tmp_path: Path
) -> None:
    cloud.headers["Date"] = date(timedelta(minutes=-17))
    cloud.refuse_credentials()
    with pytest.raises(NotAuthorised, match=r"clock is off by \+10\d\d s"):
        a_provider(tmp_path, a_gcp_resource(url)).list("test")


BROKEN = [
    *[(200, text) for text in (b"", b"[]", b"null", b'"items"', b"{", b"<html>busy</html>", b'{"items": [1]}', b"{}")],
    (200, b'{"items": {}}'),
    *[
        (200, b'{"kind": "compute#instanceAggregatedList", "items": {"zones/a": %s}}' % text)
        for text in (b"1", b'{"instances": {}}', b'{"instances": [1]}')
    ],
    (200, b'{"kind": "compute#instanceAggregatedList", "items": {"zones/a": {"instances": [{"name": "x"}]}}}'),
    (
        200,
        b'{"items": {"zones/a": {"instances": [{"name": "x", "zone": "z", "labels": 1, "creationTimestamp": "now"}]}}}',
    ),
    (200, b'{"kind": "compute#instanceAggregatedList", "items": {"zones/a": {"warning": {"code": "UNREACHABLE"}}}}'),
    (200, b"[" * 100_000),
    (302, b""),
    (403, b"<html>proxy</html>"),
    (500, b"<html>oops</html>"),
    (502, b""),
    (503, b"[1]"),
]


@pytest.mark.parametrize(("status", "raw"), BROKEN, ids=lambda v: str(v)[:40])
def test_a_list_that_is_broken_is_an_error_and_no_list(
    url: str, cloud: ComputeEngine, tmp_path: Path, status: int, raw: bytes
) -> None:
    """An empty list would mean that every machine is gone."""
    cloud.raw, cloud.raw_status = raw, status
    provider = a_provider(tmp_path, a_gcp_resource(url))
    if raw == b"":
        cloud.raw = b" "
    with pytest.raises(ProviderError) as caught:
        provider.list("test")
    assert is_one_line(caught.value)


def launch_error(provider: GcpProvider, order: LaunchOrder) -> ProviderError:
    try:
        (answer,) = provider.launch([order])
    except ProviderError as error:
        return error
    assert isinstance(answer, LaunchFailed)
    return answer.error


# --- list and terminate


def test_machines_of_a_resource_that_left_the_fleet_file_are_still_listed(
    url: str, cloud: ComputeEngine, tmp_path: Path
) -> None:
    old = a_gcp_resource(url, settings={"project": "lab-2"})
    provider = a_provider(tmp_path, old)
    provider.launch([an_order(provider, old)])
    after = a_provider(tmp_path, a_gcp_resource(url))
    (machine,) = after.list("test")
    assert machine.cloud_id == "lab-2/us-central1-a/fleet-test-i1"
    after.terminate([machine.cloud_id])
    assert not cloud.instances


def test_a_machine_that_is_off_is_listed_because_its_disk_is_paid_for(
    url: str, cloud: ComputeEngine, tmp_path: Path
) -> None:
    resource = a_gcp_resource(url)
    provider = a_provider(tmp_path, resource)
    provider.launch([an_order(provider, resource)])
    for each in cloud.instances.values():
        each["status"] = "TERMINATED"
    assert len(provider.list("test")) == 1


@pytest.mark.parametrize("name", ["gpu", "A100-spot", "a_b.c", "X.Y_Z", "_", "__A"])
def test_a_resource_name_survives_as_a_label(name: str) -> None:
    value = labels.written(name)
    assert re.fullmatch(r"[a-z0-9_-]{1,63}", value)
    assert labels.read(value) == name


# --- check, credentials, role


def test_doctor_says_what_is_wrong_in_the_project_and_how_to_mend_it(
    url: str, cloud: ComputeEngine, tmp_path: Path
) -> None:
    resource = a_gcp_resource(
        url,
        instance_types=("n1-standard-8",),
        settings={"gpu_type": "nvidia-tesla-t4", "gpus": 8, "subnets": ["cpus"]},
        image="fleet-2",
    )
    cloud.permissions = set(all_permissions()) - {"compute.instances.create"}
    found = {f.name: f for f in a_provider(tmp_path, resource).check(resource, AT)}
    assert found["permissions"].found == "project lab-1: lacks compute.instances.create"
    assert "gcp-role.yaml" in found["permissions"].fix
    assert "fleet-2' was not found" in found["image"].fix
    assert "cpus' was not found" in found["subnet in us-central1"].fix
    assert found["quota in us-central1"].found == "NVIDIA_T4_GPUS: none left"
    assert found["GPU type"].fix == "give gpus: 4 or fewer"
    fine = a_gcp_resource(url, settings={"subnets": ["gpus"]})
    cloud.permissions = None
    assert [f.fix for f in a_provider(tmp_path, fine).check(fine, AT)] == [""] * 5
    cloud.l4s = 0.0  # a new project has none
    found = {f.name: f for f in a_provider(tmp_path, fine).check(fine, AT)}
    assert found["quota in us-central1"].found == "NVIDIA_L4_GPUS: none left"


def test_no_token_is_sent_in_the_clear_and_a_key_that_is_none_is_said(
    url: str, cloud: ComputeEngine, tmp_path: Path
) -> None:
    a_provider(tmp_path, a_gcp_resource(url)).list("test")
    assert cloud.__dict__["authorization"] is None
    wrong = a_gcp_resource("https://127.0.0.1:1", settings={"credentials": "not json: SECRET-KEY"})
    with pytest.raises(NotAuthorised) as caught:
        a_provider(tmp_path, wrong).list("test")
    assert "SECRET-KEY" not in str(caught.value)


def test_without_credentials_the_error_says_how_to_get_them(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GOOGLE_APPLICATION_CREDENTIALS", str(tmp_path / "none.json"))
    resource = a_gcp_resource("https://127.0.0.1:1")
    with pytest.raises(NotAuthorised, match="gcloud auth application-default login"):
        a_provider(tmp_path, resource).list("test")


WRONG = {
    "zones": {"zones": ("us-central1",)},
    "region": {"zones": (), "region": "Iowa"},
    "instance_types": {"instance_types": ()},
    "image": {"image": None},
    "gpus": {"settings": {"gpus": 2}},
    "disk_gib": {"settings": {"disk_gib": "big"}},
    "scopes": {"settings": {"scopes": ["everything"]}},
    "metadata": {"settings": {"metadata": {"user-data": "x"}}},
    "shielded": {"settings": {"shielded": {"secure": True}}},
    "public_ip": {"settings": {"public_ip": "yes"}},
    "labels": {"settings": {"labels": ["a"]}},
    "provisioning_model": {"settings": {"provisioning_model": "cheap"}},
    "subnets": {"settings": {"subnets": [1]}},
    "launch_spec": {"settings": {"launch_spec": "x"}},
    "image_family": {"settings": {"image_family": "debian-12"}},
}


@pytest.mark.parametrize("key", WRONG)
def test_a_wrong_key_is_named_with_its_fix_and_nothing_is_launched(
    url: str, cloud: ComputeEngine, tmp_path: Path, key: str
) -> None:
    resource = a_gcp_resource(url, **WRONG[key])
    with pytest.raises(BadRequest, match=rf"^resources\.gpu\.{key}: ") as caught:
        a_provider(tmp_path, resource).offers(resource, AT)
    assert is_one_line(caught.value)
    assert cloud.calls == []


@pytest.mark.parametrize("ours", [{"name": "mine"}, {"metadata": {"items": [{"key": "a", "value": "b"}]}}])
def test_a_launch_spec_cannot_take_away_what_makes_a_machine_ours(
    url: str, cloud: ComputeEngine, tmp_path: Path, ours: dict[str, object]
) -> None:
    """Without its user-data no machine would find its dispatcher, and each would be paid for until its boot deadline."""
    resource = a_gcp_resource(url, settings={"launch_spec": ours})
    with pytest.raises(BadRequest, match=r"^resources\.gpu\.launch_spec: .*is fleet's own; "):
        a_provider(tmp_path, resource).offers(resource, AT)
    assert cloud.calls == []


def test_the_role_that_ships_allows_what_the_code_calls_and_nothing_more() -> None:
    role = yaml.safe_load(ROLE.read_text())
    assert set(role["includedPermissions"]) == all_permissions()
    assert role["includedPermissions"] == sorted(role["includedPermissions"])


def test_the_condition_of_the_role_is_met_by_every_machine_of_the_fleet_and_by_no_other() -> None:
    said = ROLE.read_text()
    assert 'expression=resource.type != "compute.googleapis.com/Instance" || ' in said
    (prefix,) = re.findall(r"resource\.name\.extract\(\"/instances/\{name\}\"\)\.startsWith\(\"([^\"]+)\"\)", said)
    beginning = prefix.replace("CLUSTER", "lab")
    assert name_of("lab", "1a2b3c4d").startswith(beginning)
    assert not name_of("labour", "1a2b3c4d").startswith(beginning)


def test_nothing_is_called_past_the_table_of_methods() -> None:
    """So that the role cannot lack a method that the code calls."""
    room = Path(__file__).parents[2] / "fleet" / "providers" / "gcp"
    text = "".join(path.read_text() for path in room.glob("*.py"))
    called = set(
        re.findall(
            r"\"((?:instances|region\w+|zone\w+|machineTypes|acceleratorTypes|images|instanceTemplates|subnetworks|regions)\.\w+)\"",
            text,
        )
    )
    assert called == set(METHODS)
    assert re.findall(r"\.request\(|requests\.(?:get|post|delete)\(", text) == []


def test_user_data_holds_no_secret_but_the_join_token(url: str, cloud: ComputeEngine, tmp_path: Path) -> None:
    settings = {"credentials": json.dumps({"private_key": "PRIVATE-KEY"})}
    resource = a_gcp_resource(url, settings=settings)
    provider = a_provider(tmp_path, resource)
    provider.launch([an_order(provider, resource)])
    assert "PRIVATE-KEY" not in json.dumps(cloud.bodies)
    assert json.dumps(cloud.bodies).count("token-of-i1") == 1


@pytest.mark.parametrize("granted", [[["a"]], [{"a": 1}], [None], "text", 7, None])
def test_permissions_that_are_no_texts_are_permissions_that_we_do_not_have(
    cloud: ComputeEngine, url: str, granted: object, tmp_path: Path
) -> None:
    resource = a_gcp_resource(url)
    cloud.raw = json.dumps({"permissions": granted}).encode()
    findings = a_provider(tmp_path, resource).check(resource, AT)
    assert any(finding.fix for finding in findings)
