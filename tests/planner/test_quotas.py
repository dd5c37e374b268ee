"""Quotas are read before a plan is made: nothing is asked for that the account may not have, and who waits is told why."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from fleet.model import Launch, Market, MarketPolicy, Offer, Quota, Reason, Snapshot
from fleet.planner.plan import plan
from tests.builders import a_resource, a_snapshot, a_task, an_instance, an_offer, tasks

G = Quota(
    code="L-DB2E81BA",
    name="Running On-Demand G and VT instances",
    cpus=16,
    others_cpus=0,
    scope="us-east-1",
    remedy="ask AWS for more",
)


def g5(quota: Quota | None = G, **changes: Any) -> Offer:
    return an_offer(gpus=1, type="g5.xlarge", cpus=4, quota=quota, **changes)


def launched(world: Snapshot) -> list[tuple[str, Market]]:
    return [(a.offer.type, a.offer.market) for a in plan(world).actions if isinstance(a, Launch)]


def refused(world: Snapshot) -> Reason:
    (reason,) = {w.reason.text: w.reason for w in plan(world).waiting if w.instance is None}.values()
    return reason


def test_as_many_are_launched_as_the_quota_lets_and_the_rest_is_told_which_one_it_is() -> None:
    world = a_snapshot(tasks=tasks(6), offers=(g5(),))
    assert len(launched(world)) == 4
    reason = refused(world)
    assert (reason.code, reason.limit) == ("quota_exceeded", "L-DB2E81BA=16")
    assert reason.text == (
        "quota L-DB2E81BA (Running On-Demand G and VT instances) of 16 vCPUs in us-east-1 lets no more g5.xlarge, which has 4: "
        "16 are in use; ask AWS for more"
    )


def test_what_runs_and_what_others_hold_counts() -> None:
    running = tuple(an_instance(f"i{n}", gpus=1, held=1, offer=g5()) for n in range(2))
    world = a_snapshot(tasks=tasks(2), offers=(g5(),), instances=running)
    assert len(launched(world)) == 2
    busy = replace(G, others_cpus=5)
    world = replace(world, offers=(g5(busy),))
    assert launched(world) == []
    assert "13 are in use, 5 of them by machines that are not this fleet's" in refused(world).text


def test_a_type_that_is_larger_than_the_quota_is_never_launched_and_another_family_is() -> None:
    large = an_offer(gpus=4, type="g5.12xlarge", cpus=48, quota=G)
    other = an_offer(gpus=4, type="p3.8xlarge", cpus=32, usd=12.0)
    world = a_snapshot(tasks=(a_task(gpus=4),), offers=(large,))
    assert launched(world) == []
    assert "lets no more g5.12xlarge, which has 48" in refused(world).text
    assert launched(replace(world, offers=(large, other))) == [("p3.8xlarge", Market.ON_DEMAND)]


def test_quotas_of_other_places_are_others() -> None:
    west = g5(replace(G, scope="us-west-2"), zone="w")
    running = tuple(an_instance(f"i{n}", gpus=1, held=1, offer=g5(zone="e")) for n in range(4))
    world = a_snapshot(tasks=tasks(1), offers=(g5(zone="e"), west), instances=running)
    assert launched(world) == [("g5.xlarge", Market.ON_DEMAND)]


def test_nobody_waits_for_spot_that_its_quota_does_not_let() -> None:
    none = replace(G, code="L-3819A6DF", cpus=0)
    offers = (g5(none, usd=0.4, market=Market.SPOT), g5(usd=1.0))
    mixed = (a_resource(market=MarketPolicy.SPOT_THEN_ON_DEMAND),)
    assert launched(a_snapshot(tasks=tasks(1), offers=offers, resources=mixed)) == [("g5.xlarge", Market.ON_DEMAND)]


def test_a_quota_that_is_unknown_forbids_nothing() -> None:
    assert len(launched(a_snapshot(tasks=tasks(9), offers=(g5(None),)))) == 9
