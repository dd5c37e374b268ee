"""What `fleet doctor` says of a resource on AWS. Dry runs and looks; nothing is changed."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import datetime
from typing import Any, Protocol

from botocore.exceptions import ClientError

from fleet.errors import NotAuthorised, ProviderError
from fleet.model import Market, Offer, Resource
from fleet.providers.aws import fleets
from fleet.providers.aws import request as requests
from fleet.providers.aws.access import Access
from fleet.providers.aws.cached import Cached
from fleet.providers.aws.errors import ALLOW, asking, code_of, of_answer
from fleet.providers.aws.images import resolve
from fleet.providers.aws.launching import token_of
from fleet.providers.aws.settings import Settings
from fleet.providers.aws.stock import Stock, markets_of, quota_of, zones_of
from fleet.providers.base import Finding, FirstBoot, LaunchOrder

DRY_RUN_OK = "DryRunOperation"


class Shop(Protocol):
    @property
    def settings(self) -> Settings: ...
    @property
    def access(self) -> Access: ...
    @property
    def stock(self) -> Cached[Stock]: ...


def examine(resource: Resource, shop_of: Callable[[], Shop], at: datetime) -> Iterator[Finding]:
    """Each thing in the order in which it is needed; without credentials nothing else can be seen."""
    try:
        shop = shop_of()
    except ProviderError as error:
        yield Finding(name="settings", found="wrong", fix=str(error))
        return
    who = _credentials(shop.access)
    yield who
    if who.fix:
        return
    image_id, finding = _image(shop.access, shop.settings)
    yield finding
    yield from _network(shop.access, shop.settings)
    yield from _named(shop.access, shop.settings)
    try:
        stock = shop.stock.get(at)
    except ProviderError as error:
        yield Finding(name="types", found="not known", fix=str(error))
        return
    yield from _types(resource, stock)
    yield from _quotas(resource, shop.settings, stock)
    if image_id:
        yield _launch(resource, shop, stock, image_id, at)
    yield from _others(shop.access)


def _credentials(access: Access) -> Finding:
    try:
        with asking("who are we"):
            answer = access.client("sts").get_caller_identity()
            return Finding(name="credentials", found=str(answer["Arn"]))
    except ProviderError as error:
        return Finding(name="credentials", found="not accepted", fix=str(error))


def _image(access: Access, settings: Settings) -> tuple[str | None, Finding]:
    try:
        image_id = resolve(access, settings)
        with asking(f"look at image {image_id}"):
            told = access.client("ec2").describe_images(ImageIds=[image_id])["Images"][0]
            name, state = told.get("Name", ""), told.get("State", "available")
    except ProviderError as error:
        return None, Finding(name="image", found="not there", fix=str(error))
    fix = "" if state == "available" else f"image {image_id} is {state}; wait, or name another"
    return image_id, Finding(name="image", found=f"{image_id} {name}".strip(), fix=fix)


def _network(access: Access, settings: Settings) -> Iterator[Finding]:
    yield _look(
        "subnets", access, "describe_subnets", "SubnetIds", "Subnets", settings.subnets, "the default ones of the zones"
    )
    yield _look(
        "security groups",
        access,
        "describe_security_groups",
        "GroupIds",
        "SecurityGroups",
        settings.security_groups,
        "the default one of the VPC",
    )


def _named(access: Access, settings: Settings) -> Iterator[Finding]:
    if settings.key_name:
        yield _look("key pair", access, "describe_key_pairs", "KeyNames", "KeyPairs", (settings.key_name,), "")
    if profile := settings.iam_instance_profile:
        name = profile.rpartition("/")[2]
        try:
            with asking(f"look at instance profile {name}"):
                access.client("iam").get_instance_profile(InstanceProfileName=name)
            yield Finding(name="instance profile", found=name)
        except ProviderError as error:
            yield Finding(name="instance profile", found="not seen", fix=str(error))


def _look(name: str, access: Access, verb: str, key: str, part: str, wanted: Sequence[str], otherwise: str) -> Finding:
    if not wanted:
        return Finding(name=name, found=otherwise)
    try:
        with asking(f"look at {name}"):
            found = getattr(access.client("ec2"), verb)(**{key: list(wanted)})[part]
            return Finding(name=name, found=f"{len(found)} there: {', '.join(wanted)}")
    except ProviderError as error:
        return Finding(name=name, found="not there", fix=str(error))


def _types(resource: Resource, stock: Stock) -> Iterator[Finding]:
    for type_ in resource.instance_types:
        zones = zones_of(resource, stock, type_)
        fix = (
            ""
            if zones
            else f"{type_} is sold in {', '.join(sorted(stock.zones[type_])) or 'no zone'} only; mend zones or subnets"
        )
        yield Finding(name=type_, found=f"sold in {', '.join(zones) or 'none of its zones'}", fix=fix)
        if Market.ON_DEMAND in markets_of(resource.market) and stock.prices.get(type_) is None:
            fix = f"allow pricing:GetProducts ({ALLOW}), or give its price in the fleet file"
            yield Finding(name=f"price of {type_}", found="unknown", fix=fix)


def _quotas(resource: Resource, settings: Settings, stock: Stock) -> Iterator[Finding]:
    for type_ in resource.instance_types:
        shape = stock.shapes[type_]
        for market in markets_of(resource.market):
            quota = quota_of(settings, stock, shape, market)
            name = f"quota of {type_} ({market})"
            if quota is None:
                yield Finding(name=name, found="unknown: it may be enough")
                continue
            more = max(int((quota.cpus - quota.others_cpus) // shape.cpus), 0)
            held = f", {quota.others_cpus:g} in use by others" if quota.others_cpus else ""
            fix = "" if more else f"one needs {shape.cpus} vCPUs of {quota.code} ({quota.name}); {quota.remedy}"
            yield Finding(name=name, found=f"{quota.cpus:g} vCPUs{held}: {more} of them", fix=fix)


def _launch(resource: Resource, shop: Shop, stock: Stock, image_id: str, at: datetime) -> Finding:
    """RunInstances with all its tags, as a dry run: EC2 says whether it would have been allowed."""
    zones = [(t, z) for t in resource.instance_types for z in zones_of(resource, stock, t)]
    if not zones:
        return Finding(name="permission to launch", found="not tried: no type is sold in these zones")
    type_, zone = zones[0]
    order = _order(resource, type_, zone, markets_of(resource.market)[0], at)
    subnets = [s.id for s in stock.subnets if s.zone == zone]
    way = requests.ways(shop.settings, subnets, order.offer.market)[-1]
    token = token_of(order.cluster, [order.instance, at.isoformat()], 0)
    built = requests.build(
        [order], shop.settings, way, image_id=image_id, root_device="/dev/xvda", user_data="#", token=token
    )
    refused = _dry(shop.access, "run_instances", built)
    if refused is None and shop.settings.lets_ec2_choose(order.offer.market):
        call = fleets.call_of(order, shop.settings, fleets.pools_of(order, stock), built, token)
        refused = _dry(shop.access, "create_launch_template", call.template or {})
        refused = refused or _dry(shop.access, "create_fleet", call.request)
    if refused is None:
        return Finding(name="permission to launch", found=f"yes, with tags ({type_} in {zone}, by dry run)")
    return Finding(name="permission to launch", found="no", fix=refused)


def _others(access: Access) -> Iterator[Finding]:
    refused = _dry(access, "describe_instances", {})
    yield Finding(name="permission to list", found="no" if refused else "yes, by dry run", fix=refused or "")


def _dry(access: Access, verb: str, parameters: Mapping[str, Any]) -> str | None:
    """Why it would be refused; None: it would be done."""
    try:
        with asking(f"try {verb}"):
            try:
                getattr(access.client("ec2"), verb)(DryRun=True, **parameters)
            except ClientError as error:
                if code_of(error) == DRY_RUN_OK:
                    return None
                return str(of_answer(error, f"dry run of {verb}"))
    except NotAuthorised as error:
        return f"{error}; {ALLOW}"
    except ProviderError as error:
        return str(error)
    return None


def _order(resource: Resource, type_: str, zone: str, market: Market, at: datetime) -> LaunchOrder:
    offer = Offer(
        resource=resource.name,
        provider="aws",
        type=type_,
        market=market,
        price_usd_per_hour=None,
        gpus=0,
        region=resource.region,
        zone=zone,
        seen_at=at,
    )
    boot = FirstBoot(centre_url="https://dry.run", join_token="")
    return LaunchOrder(instance="dry-run", cluster="dry-run", resource=resource, offer=offer, first_boot=boot)
