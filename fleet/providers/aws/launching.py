"""Launching. Each call is written down before it is made, and known by a token, so that being killed at any instant between call
and answer neither loses a machine nor starts one twice: docs/adr/0030-aws.md.
"""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from fleet.errors import BadRequest, NoCapacity, NotAuthorised, ProviderError, QuotaExceeded
from fleet.providers.aws import fleets, templates
from fleet.providers.aws import request as requests
from fleet.providers.aws.access import Access, pages
from fleet.providers.aws.errors import AwsFault, asking
from fleet.providers.aws.images import resolve, root_device
from fleet.providers.aws.journal import Call, Journal
from fleet.providers.aws.settings import Settings
from fleet.providers.aws.stock import Stock
from fleet.providers.aws.user_data import Render, of_many
from fleet.providers.base import Launched, LaunchFailed, LaunchOrder

log = logging.getLogger(__name__)

Answer = Launched | LaunchFailed
# So many of one offer get a call of their own each, with a user-data that holds no other's token. More than that would be
# throttled: EC2 gives a bucket of a few RunInstances calls that refills with two a second, but 1,000 machines in any of them.
ALONE_UP_TO = 5
MOST_IN_A_CALL = 100
OF_A_FLEET = -1  # in a token: no RunInstances has it
DEFINITE = (NoCapacity, QuotaExceeded, BadRequest, NotAuthorised)
# This way has no room, another may: nothing was started.
NEXT_WAY = ("ReservationCapacityExceeded", "InsufficientFreeAddressesInSubnet", "InsufficientReservedInstanceCapacity")


@dataclass(frozen=True, slots=True, kw_only=True)
class Ground:
    """What a resource is launched on."""

    access: Access
    settings: Settings
    stock: Stock


def launch(
    orders: Sequence[LaunchOrder],
    ground_of: Callable[[LaunchOrder], Ground],
    access_of: Callable[[str], Access | None],
    journal: Journal,
    render: Render,
) -> list[Answer]:
    """One answer for each order. `access_of` finds the account of a call that was written down, by its resource.

    Raises:
        ProviderError: of some nothing is known; the same orders again find out.
    """
    wanted = {o.instance for o in orders}
    answers: dict[str, Answer] = {a.instance: a for a in journal.answers() if a.instance in wanted}
    doubt: ProviderError | None = None
    wanted -= answers.keys()
    for call in journal.unanswered():
        access = access_of(call.resource) if wanted & set(call.intents) else None
        if access is None:
            continue
        try:
            answers |= _replay(call, access, journal)
        except AwsFault as error:
            doubt = error
            wanted -= set(call.intents)  # only this very call may be repeated for them
    for group in _groups([o for o in orders if o.instance in wanted and o.instance not in answers]):
        try:
            answers |= _launch_group(group, ground_of(group[0]), journal, render)
        except AwsFault as error:
            doubt = error  # an answer, but none that says what happened: the others may fare better
        except DEFINITE as error:
            answers |= {o.instance: LaunchFailed(instance=o.instance, error=error) for o in group}
    if doubt:
        raise doubt
    return [answers[o.instance] for o in orders]


def token_of(cluster: str, intents: Sequence[str], way: int) -> str:
    """At most 64 characters, the same for the same machines."""
    words = "|".join((cluster, *intents, str(way)))
    return "fleet-" + hashlib.sha256(words.encode()).hexdigest()[:40]


def _groups(orders: Sequence[LaunchOrder]) -> Iterator[list[LaunchOrder]]:
    """Orders that one call can carry."""
    alike: dict[tuple[object, ...], list[LaunchOrder]] = {}
    for order in orders:
        offer = order.offer
        key = (order.cluster, order.resource.name, offer.type, offer.zone, offer.market, order.first_boot.centre_url)
        alike.setdefault(key, []).append(order)
    for group in alike.values():
        size = 1 if len(group) <= ALONE_UP_TO or group[0].offer.may_vary else MOST_IN_A_CALL
        yield from (group[n : n + size] for n in range(0, len(group), size))


def _launch_group(group: Sequence[LaunchOrder], ground: Ground, journal: Journal, render: Render) -> dict[str, Answer]:
    user_data = of_many(group, render)
    if user_data is None and len(group) == 1:
        raise BadRequest(
            f"resources.{group[0].resource.name}.init_script: user-data is over 16 KB; put it into the image"
        )
    if user_data is None:
        half = len(group) // 2
        first = _launch_group(group[:half], ground, journal, render)
        return first | _launch_group(group[half:], ground, journal, render)
    offer, settings, stock = group[0].offer, ground.settings, ground.stock
    shape = stock.shapes.get(offer.type)
    image_id = resolve(ground.access, settings, shape.architectures if shape else ())
    device = None
    if settings.root and not settings.root.device:
        device = root_device(ground.access, image_id)
    if len(group) == 1 and settings.lets_ec2_choose(offer.market):
        token = token_of(group[0].cluster, [group[0].instance], OF_A_FLEET)
        way = requests.ways(settings, [], offer.market)[-1]
        built = requests.build(
            group, settings, way, image_id=image_id, root_device=device, user_data=user_data, token=token
        )
        pools = fleets.pools_of(group[0], stock)
        return _make(fleets.call_of(group[0], settings, pools, built, token), ground.access, journal)
    subnets = [s.id for s in stock.subnets if s.zone == offer.zone]
    fault: ProviderError | None = None
    for n, way in enumerate(requests.ways(settings, subnets, offer.market)):
        intents = tuple(o.instance for o in group)
        token = token_of(group[0].cluster, intents, n)
        built = requests.build(
            group, settings, way, image_id=image_id, root_device=device, user_data=user_data, token=token
        )
        call = Call(token=token, resource=group[0].resource.name, intents=intents, request=built)
        try:
            return _make(call, ground.access, journal)
        except NoCapacity as error:
            fault = error
            if not any(code in str(error) for code in NEXT_WAY):
                break
    assert fault
    raise fault


def _make(call: Call, access: Access, journal: Journal, *, is_first: bool = True) -> dict[str, Answer]:
    """Write it down, make it, read the answer."""
    doing = _doing(call)
    ec2 = access.client("ec2")
    with asking(doing):
        journal.write(call)
    try:
        answers = _run(call, ec2, doing, is_first=is_first)
    except DEFINITE as error:
        if is_first or not isinstance(error, NotAuthorised):
            _close(call, ec2, journal)  # nothing was started
        raise
    with asking(doing):
        journal.answer(call, [a for a in answers.values() if isinstance(a, Launched)])
    _close(call, ec2, journal)
    return answers


def _close(call: Call, ec2: Any, journal: Journal) -> None:
    """It is answered. Forgotten first: without its template it could not be repeated, and a template that is left is found by its tag."""
    journal.forget(call)
    if call.template:
        templates.delete(ec2, call.token)


def _replay(call: Call, access: Access, journal: Journal) -> dict[str, Answer]:
    """The same call again. Credentials that are refused now say nothing of the first time."""
    log.info("call repeated", extra={"token": call.token, "instances": call.intents})
    try:
        return _make(call, access, journal, is_first=False)
    except NotAuthorised as error:
        raise AwsFault(f"repeat an unanswered launch: {error}") from error
    except DEFINITE as error:
        return {intent: LaunchFailed(instance=intent, error=error) for intent in call.intents}


def _run(call: Call, ec2: Any, doing: str, *, is_first: bool) -> dict[str, Answer]:
    if call.template:
        return {call.intents[0]: fleets.run(call, ec2, doing, is_first=is_first)}
    try:
        with asking(doing):
            return _read(call, ec2.run_instances(**call.request)["Instances"], doing)
    except AwsFault as error:
        if error.code != "IdempotentParameterMismatch":
            raise
    # The first time was another dispatcher's, with another fleet file: its machines are ours all the same.
    with asking(doing):
        filters = [{"Name": "client-token", "Values": [call.token]}]
        found = pages(ec2, "describe_instances", "Reservations", Filters=filters)
        machines = [machine for part in found for machine in part["Instances"]]
        if machines:
            return _read(call, machines, doing)
    raise AwsFault(f"{doing}: EC2 has carried out another call with this token and does not list its machines yet")


def _read(call: Call, machines: Sequence[Any], doing: str) -> dict[str, Answer]:
    """By launch index; EC2 may start fewer than asked for, the first ones."""
    ids = {int(m["AmiLaunchIndex"]): m["InstanceId"] for m in machines}
    if not ids or not all(isinstance(id, str) and id.startswith("i-") for id in ids.values()):
        raise ValueError("no machine in it")
    if not set(ids) <= set(range(len(call.intents))) or len(set(ids.values())) < len(
        {m["InstanceId"] for m in machines}
    ):
        raise ValueError("machines that were not asked for")  # taken for a refusal, one would run that nobody knows
    short = NoCapacity(f"{doing}: EC2 started {len(ids)} of {len(call.intents)}, it has no more there now")
    return {
        intent: Launched(instance=intent, cloud_id=ids[n]) if n in ids else LaunchFailed(instance=intent, error=short)
        for n, intent in enumerate(call.intents)
    }


def _doing(call: Call) -> str:
    if call.template:
        market = "spot" if "SpotOptions" in call.request else "on demand"
        return f"launch one of {len(call.pools)} pools from {call.pools[0]['type']} in {call.pools[0]['zone']} on ({market})"
    place = call.request.get("SubnetId") or call.request.get("Placement", {}).get("AvailabilityZone") or "its subnet"
    market = "spot" if "InstanceMarketOptions" in call.request else "on demand"
    return f"launch {len(call.intents)} {call.request.get('InstanceType')} in {place} ({market})"
