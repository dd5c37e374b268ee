"""Genesis Cloud, over HTTP: the contract, and what is special about it. The cloud is `tests.providers.genesis_cloud`."""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

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
from fleet.providers.genesis.provider import GenesisProvider
from fleet.providers.genesis.settings import shape_of
from tests.builders import a_resource
from tests.providers.compute_engine import served
from tests.providers.contract import Ground, ProviderContract, is_one_line
from tests.providers.genesis_cloud import TOKEN, TYPES, GenesisCloud, Refused

AT = datetime.now(UTC)


@pytest.fixture
def cloud() -> GenesisCloud:
    return GenesisCloud()


@pytest.fixture
def url(cloud: GenesisCloud) -> Iterator[str]:
    with served(cloud) as url:
        yield url


def a_genesis_resource(url: str = "http://127.0.0.1:1", **changes: Any) -> Resource:
    settings = {"token": TOKEN, "endpoint_url": url, "ssh_keys": ["ann-0"], **changes.pop("settings", {})}
    given = {"region": "NORD-NO-KRS-1", "instance_types": TYPES[:1], "image": "ubuntu:22.04", **changes}
    return a_resource(provider="genesis", settings=settings, **given)


def a_provider(place: Path, *resources: Resource, **options: Any) -> GenesisProvider:
    def script(order: LaunchOrder) -> str:
        return f"#cloud-config\n# {order.first_boot.join_token}\n"

    options = {"price_of": lambda *_: 0.9, "user_data": script, "timeout_s": 1.0} | options
    return GenesisProvider(Surroundings(cluster="test", directory=place, resources=resources), **options)


def an_order(provider: GenesisProvider, resource: Resource, instance: str = "i1") -> LaunchOrder:
    boot = FirstBoot(centre_url="https://fleet.lab:8765", join_token="token-of-" + instance)
    offer = provider.offers(resource, AT)[0]
    return LaunchOrder(instance=instance, cluster="test", resource=resource, offer=offer, first_boot=boot)


class TestGenesis(ProviderContract):
    @pytest.fixture
    def ground(self, cloud: GenesisCloud, url: str, tmp_path: Path) -> Ground:
        resource = a_genesis_resource(url, name="A_100.x", market=MarketPolicy.SPOT_THEN_ON_DEMAND)
        provider = a_provider(tmp_path / "genesis", resource)
        return Ground(provider=provider, resource=resource, trouble=cloud, patience_s=1.0, many=7)


# --- offers


@pytest.mark.parametrize(
    ("kind", "gpus", "model", "gib", "cpus"),
    [
        ("vcpu-192_memory-1920g_nvidia-h100-sxm5-8", 8, "H100", 80.0, 192),
        ("vcpu-4_memory-24g_nvidia-rtx-3090-1", 1, "GeForce RTX 3090", 24.0, 4),
        ("vcpu-8_memory-24g_disk-80g_nvidia3080-2", 2, "GeForce RTX 3080", 10.0, 8),
        ("vcpu-16_memory-120g_intel-gaudi2-1", 0, None, None, 16),
        ("vcpu-2_memory-4g", 0, None, None, 2),
    ],
)
def test_the_name_of_a_type_says_what_it_is_made_of(
    kind: str, gpus: int, model: str | None, gib: float | None, cpus: int
) -> None:
    shape = shape_of(kind)
    assert shape
    assert (shape.gpus, shape.gpu_model, shape.gpu_memory_gib, shape.cpus) == (gpus, model, gib, cpus)


def test_what_is_sold_out_is_not_offered_and_asked_for_once_a_minute(
    url: str, cloud: GenesisCloud, tmp_path: Path
) -> None:
    resource = a_genesis_resource(url, instance_types=TYPES)
    provider = a_provider(tmp_path, resource)
    cloud.sold_out = {TYPES[0]}
    assert [o.type for o in provider.offers(resource, AT)] == list(TYPES[1:])
    cloud.sold_out = set()
    assert len(provider.offers(resource, AT + timedelta(seconds=50))) == 2
    assert len(provider.offers(resource, AT + timedelta(seconds=70))) == 3
    assert len(cloud.calls) == 2
    cloud.garble()
    assert len(provider.offers(resource, AT + timedelta(minutes=5))) == 3  # the launch will tell


# --- launch


def test_a_machine_is_what_its_resource_says_and_destroys_itself_at_shutdown(
    url: str, cloud: GenesisCloud, tmp_path: Path
) -> None:
    settings = {
        "ssh_keys": ["ann-2", "key-0"],
        "security_groups": ["no-ingress"],
        "disk_gib": 200,
        "volumes": ["vol-1"],
        "placement": "A",
        "launch_spec": {"public_ipv6": True, "name": "mine", "destroy_on_shutdown": False, "metadata": {}},
    }
    resource = a_genesis_resource(url, name="rtx", settings=settings)
    provider = a_provider(tmp_path, resource)
    provider.launch([an_order(provider, resource)])
    assert cloud.bodies == [
        {
            "name": "fleet_test_i1_rtx",
            "hostname": "fleet-i1",
            "type": TYPES[0],
            "image": "ubuntu:22.04",
            "region": "NORD-NO-KRS-1",
            "is_protected": False,
            "destroy_on_shutdown": True,
            "metadata": {"startup_script": "#cloud-config\n# token-of-i1\n"},
            "ssh_keys": ["key-2", "key-0"],
            "security_groups": ["sg-1"],
            "volumes": ["vol-1"],
            "disk_size": 200,
            "placement_option": "A",
            "public_ipv6": True,
        }
    ]
    assert TOKEN not in json.dumps(cloud.bodies)


def lose_answers(cloud: GenesisCloud) -> None:
    """From now on a machine is made, and the answer is not heard: as when the dispatcher is killed, or the network fails."""

    def lose(verb: str, path: str) -> None:
        if verb == "POST":
            raise Refused(502, "bad_gateway", "no answer from upstream")

    cloud.after = lose


def test_a_machine_whose_answer_was_lost_is_found_and_not_made_again(
    url: str, cloud: GenesisCloud, tmp_path: Path
) -> None:
    resource = a_genesis_resource(url)
    provider = a_provider(tmp_path, resource)
    order = an_order(provider, resource)
    lose_answers(cloud)
    with pytest.raises(UnknownProviderFault):
        provider.launch([order])
    (there,) = cloud.instances
    assert a_provider(tmp_path, resource).launch([order]) == [Launched(instance="i1", cloud_id=there)]
    assert len(cloud.bodies) == 1


def test_a_call_that_may_still_take_effect_is_not_made_again_until_it_cannot(
    url: str, cloud: GenesisCloud, tmp_path: Path
) -> None:
    resource = a_genesis_resource(url)
    order = an_order(a_provider(tmp_path, resource), resource)
    lose_answers(cloud)
    with pytest.raises(UnknownProviderFault):
        a_provider(tmp_path, resource).launch([order])
    cloud.hidden = set(cloud.instances)  # it is being made, and no list shows it
    cloud.after = lambda verb, path: None
    with pytest.raises(UnknownProviderFault, match="looked for before"):  # also in the dispatcher's next life
        a_provider(tmp_path, resource).launch([order])
    assert len(cloud.bodies) == 1
    (answer,) = a_provider(tmp_path, resource, settled_s=0.0).launch([order])
    assert isinstance(answer, Launched)
    assert len(cloud.bodies) == 2


def test_of_two_machines_of_one_intent_the_one_that_was_answered_is_ours_and_the_other_an_orphan(
    url: str, cloud: GenesisCloud, tmp_path: Path
) -> None:
    resource = a_genesis_resource(url)
    provider = a_provider(tmp_path, resource, settled_s=0.0)
    order = an_order(provider, resource)
    lose_answers(cloud)
    with pytest.raises(UnknownProviderFault):
        provider.launch([order])
    (late,) = cloud.hidden = set(cloud.instances)
    cloud.after = lambda verb, path: None
    (answer,) = provider.launch([order])
    assert isinstance(answer, Launched)
    cloud.hidden = set()
    listed = {m.instance: m.cloud_id for m in a_provider(tmp_path, resource).list("test")}
    assert listed == {"i1": answer.cloud_id, "i1#2": late}


def test_a_directory_that_cannot_be_written_launches_nothing(url: str, cloud: GenesisCloud, tmp_path: Path) -> None:
    resource = a_genesis_resource(url)
    (tmp_path / "asked").write_text("not a directory")
    provider = a_provider(tmp_path, resource)
    with pytest.raises(UnknownProviderFault, match="nothing is launched"):
        provider.launch([an_order(provider, resource)])
    assert cloud.bodies == []


REFUSALS = [
    (400, "malformed_request", "disk_size must be at least 80", BadRequest),
    (400, "quota_exceeded", "You have reached your quota of instances", QuotaExceeded),
    (403, "forbidden", "Quota limit reached for this instance type", QuotaExceeded),
    (403, "forbidden", "You do not have permission", NotAuthorised),
    (402, "payment_required", "Please add a payment method", NotAuthorised),
    (401, "unauthorized", "The token has expired", NotAuthorised),
    (404, "not_found", "Image not found", BadRequest),
    (409, "conflict", "The instance type is currently not available", NoCapacity),
    (422, "unprocessable", "region is not valid", BadRequest),
    (429, "too_many_requests", "Slow down", Throttled),
    (500, "unexpected_error", "Something went wrong", UnknownProviderFault),
    (503, "unavailable", "Service unavailable", UnknownProviderFault),
]


@pytest.mark.parametrize(("status", "code", "message", "kind"), REFUSALS)
def test_each_refusal_is_of_the_class_that_says_what_follows(
    url: str, cloud: GenesisCloud, tmp_path: Path, status: int, code: str, message: str, kind: type[ProviderError]
) -> None:
    resource = a_genesis_resource(url)
    provider = a_provider(tmp_path, resource)
    order = an_order(provider, resource)

    def refuse(verb: str, path: str) -> None:
        if verb == "POST":
            raise Refused(status, code, message)

    cloud.before = refuse
    error = launch_error(provider, order)
    assert type(error) is kind
    assert is_one_line(error)
    assert message in str(error)
    assert not cloud.instances


def test_a_refused_order_stops_no_other_and_may_be_asked_for_again_at_once(
    url: str, cloud: GenesisCloud, tmp_path: Path
) -> None:
    resource = a_genesis_resource(url, instance_types=TYPES[:2])
    provider = a_provider(tmp_path, resource)
    one, two = an_order(provider, resource, "i1"), an_order(provider, resource, "i2")
    cloud.sold_out = {TYPES[0]}
    answers = provider.launch([one])
    assert isinstance(answers[0], LaunchFailed)
    assert isinstance(answers[0].error, NoCapacity)
    cloud.sold_out = set()
    assert all(isinstance(a, Launched) for a in provider.launch([one, two]))


def launch_error(provider: GenesisProvider, order: LaunchOrder) -> ProviderError:
    try:
        (answer,) = provider.launch([order])
    except ProviderError as error:
        return error
    assert isinstance(answer, LaunchFailed)
    return answer.error


# --- list

BROKEN = [
    *[(200, text) for text in (b" ", b"[]", b"null", b"{}", b"{", b"<html>busy</html>", b'{"instances": {}}')],
    (200, b'{"instances": []}'),
    (200, b'{"instances": [], "total_count": "0"}'),
    (200, b'{"instances": [], "total_count": 3}'),
    (200, b'{"instances": [1], "total_count": 1}'),
    (200, b'{"instances": [{"id": 1}], "total_count": 1}'),
    (200, b'{"instances": [{"id": "a", "name": "fleet_test_i1_gpu"}], "total_count": 1}'),
    (200, b'{"instances": [{"id": "a", "name": "fleet_test_i1_gpu", "created_at": "soon"}], "total_count": 1}'),
    (301, b""),
    (403, b"<html>proxy</html>"),
    (500, b""),
    (504, b"[1]"),
]


@pytest.mark.parametrize(("status", "raw"), BROKEN, ids=lambda v: str(v)[:40])
def test_a_list_that_is_broken_is_an_error_and_no_list(
    url: str, cloud: GenesisCloud, tmp_path: Path, status: int, raw: bytes
) -> None:
    """An empty list would mean that every machine is gone."""
    cloud.raw, cloud.raw_status = raw, status
    with pytest.raises(ProviderError) as caught:
        a_provider(tmp_path, a_genesis_resource(url)).list("test")
    assert is_one_line(caught.value)


def test_a_machine_that_ends_while_pages_are_read_hides_no_other(url: str, cloud: GenesisCloud, tmp_path: Path) -> None:
    """Pages go by number: when one ends, the first of the next page moves to the page that was read already."""
    resource = a_genesis_resource(url)
    provider = a_provider(tmp_path, resource)
    provider.launch([an_order(provider, resource, f"i{n}") for n in range(6)])
    first, last = next(iter(cloud.instances)), list(cloud.instances)[-1]
    pages = iter(range(100))

    def end_one(verb: str, path: str) -> None:
        if next(pages) == 1:
            cloud.instances.pop(first)

    cloud.before = end_one
    listed = {m.cloud_id for m in provider.list("test")}
    assert listed == set(cloud.instances)
    assert last in listed


def test_a_list_that_never_stands_still_is_no_list(url: str, cloud: GenesisCloud, tmp_path: Path) -> None:
    resource = a_genesis_resource(url)
    provider = a_provider(tmp_path, resource)
    provider.launch([an_order(provider, resource, f"i{n}") for n in range(20)])

    def end_one(verb: str, path: str) -> None:
        cloud.instances.pop(next(iter(cloud.instances)))

    cloud.before = end_one
    with pytest.raises(UnknownProviderFault, match="changes faster"):
        provider.list("test")


# --- check, tokens, keys


def test_doctor_says_what_is_wrong_in_the_account_and_how_to_mend_it(url: str, tmp_path: Path) -> None:
    wrong = a_genesis_resource(url, image="ubuntu:25.10", settings={"ssh_keys": [], "security_groups": ["open"]})
    found = {f.name: f for f in a_provider(tmp_path, wrong).check(wrong, AT)}
    assert found["token"].fix == ""
    assert found["image"].found == "there is no ubuntu:25.10"
    assert "resources.gpu.ssh_keys" in found["ssh keys"].fix
    assert "has no open" in found["security groups"].fix
    elsewhere = a_genesis_resource(url, image="snap-1")
    assert {f.name: f.found for f in a_provider(tmp_path, elsewhere).check(elsewhere, AT)}["image"] == (
        "snap-1 is not in NORD-NO-KRS-1"
    )
    fine = a_genesis_resource(url)
    assert [f.fix for f in a_provider(tmp_path, fine).check(fine, AT)] == [""] * 4


def test_the_token_comes_from_the_fleet_file_or_the_environment_and_goes_nowhere_in_the_clear(
    url: str, cloud: GenesisCloud, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    resource = a_genesis_resource(url, settings={"token": None})
    monkeypatch.delenv("GENESIS_TOKEN", raising=False)
    with pytest.raises(NotAuthorised, match="set GENESIS_TOKEN"):
        a_provider(tmp_path, resource).list("test")
    monkeypatch.setenv("GENESIS_TOKEN", TOKEN)
    assert list(a_provider(tmp_path, resource).list("test")) == []
    far = a_genesis_resource("http://api.example.org")
    with pytest.raises(BadRequest, match="in the clear"):
        a_provider(tmp_path, far).list("test")


def test_a_wrong_token_is_not_shown(url: str, tmp_path: Path) -> None:
    for token in ("a-wrong-token", "two\nlines"):
        resource = a_genesis_resource(url, settings={"token": token})
        with pytest.raises(NotAuthorised) as caught:
            a_provider(tmp_path, resource).list("test")
        assert token not in str(caught.value)


WRONG = {
    "region": {"region": None},
    "zones": {"zones": ("a",)},
    "instance_types": {"instance_types": ("p4d.24xlarge",)},
    "image": {"image": None},
    "market": {"market": MarketPolicy.SPOT},
    "public_ip": {"settings": {"public_ip": False}},
    "disk_gib": {"settings": {"disk_gib": 10}},
    "ssh_keys": {"settings": {"ssh_keys": [1]}},
    "launch_spec": {"settings": {"launch_spec": 1}},
}


@pytest.mark.parametrize("key", WRONG)
def test_a_wrong_key_is_named_with_its_fix_and_nothing_is_launched(
    url: str, cloud: GenesisCloud, tmp_path: Path, key: str
) -> None:
    resource = a_genesis_resource(url, **WRONG[key])
    with pytest.raises(BadRequest, match=rf"^resources\.gpu\.{key}: ") as caught:
        a_provider(tmp_path, resource).offers(resource, AT)
    assert is_one_line(caught.value)
    assert cloud.calls == []


def test_an_unknown_price_is_unknown(url: str, tmp_path: Path) -> None:
    resource = a_genesis_resource(url)
    (offer,) = a_provider(tmp_path, resource, price_of=lambda *_: None).offers(resource, AT)
    assert (offer.price_usd_per_hour, offer.market) == (None, Market.ON_DEMAND)
