"""Spot in virtual time: prices that move, storms that take a zone's machines, work that is lost or kept."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

import pytest

from fleet.model import Market, MarketPolicy, Offer
from fleet.simulate.agenda import EPOCH, after
from fleet.simulate.engine import Simulation
from fleet.simulate.faults import Faults, faults_of
from fleet.simulate.workload import make_workload
from tests.builders import a_resource, an_offer
from tests.simulate.nouns import a_fleet, a_setting, jobs, run, spot_and_on_demand

MIXED = a_resource(market=MarketPolicy.SPOT_THEN_ON_DEMAND)
HOURS = [EPOCH + timedelta(hours=n) for n in range(24 * 30)]


def spot(zone: str = "a", usd: float = 0.5, gpus: int = 4) -> Offer:
    return an_offer(gpus=gpus, usd=usd, market=Market.SPOT, zone=zone)


def test_spot_prices_move_by_zone_within_their_bounds_and_on_demand_stays() -> None:
    faults = Faults(seed=1, prices_move=0.3)
    moved = {zone: [faults.price_of(spot(zone, 1.0), at) or 0 for at in HOURS] for zone in "ab"}
    assert moved["a"] != moved["b"]
    assert all(0.7 <= usd <= 1.3 for usd in moved["a"])
    assert max(moved["a"]) - min(moved["a"]) > 0.3
    assert {faults.price_of(an_offer(usd=2.0), at) for at in HOURS} == {2.0}


def test_a_storm_takes_most_machines_of_one_zone_at_once_and_leaves_none_to_be_had() -> None:
    faults = Faults(seed=3, storms_every=timedelta(days=7))
    lives = {zone: [faults.spot_life_of(spot(zone), f"{zone}{n}") for n in range(200)] for zone in "ab"}
    first = {zone: sorted(life for life in each if life)[:100] for zone, each in lives.items()}
    for several in first.values():
        assert several[-1] - several[0] < timedelta(minutes=11)
    assert abs(first["a"][0] - first["b"][0]) > timedelta(minutes=11)
    assert faults.is_sold_out(spot("a"), EPOCH + first["a"][0] + timedelta(minutes=5))
    assert not faults.is_sold_out(an_offer(zone="a"), EPOCH + first["a"][0] + timedelta(minutes=5))
    assert not faults.is_sold_out(spot("a"), EPOCH + first["a"][0] + timedelta(hours=2))


def test_quotas_and_credentials_fail_for_hours_and_not_for_everybody() -> None:
    faults = Faults(seed=1, over_quota=0.3, refused=0.3)
    quota = [faults.is_over_quota(spot(), at) for at in HOURS]
    assert 0.1 < sum(quota) / len(quota) < 0.5
    assert quota[0:6] == [quota[0]] * 6
    assert quota != [faults.is_over_quota(replace(spot(), market=Market.ON_DEMAND), at) for at in HOURS]
    refused = [faults.is_refused("fake", at) for at in HOURS]
    assert 0.1 < sum(refused) / len(refused) < 0.5


def test_a_spell_of_refused_credentials_costs_time_and_nothing_else() -> None:
    faults = next(f for n in range(99) if (f := Faults(seed=n, refused=0.2)).is_refused("fake", EPOCH))
    figures, outcome = run(a_setting(jobs(1), faults=faults))
    assert (figures.completed, figures.instances_launched) == (1, 1)
    ends = next(at for at in HOURS if not faults.is_refused("fake", at))
    (life,) = outcome.truth.lives.values()
    assert ends <= life.launched_at <= ends + timedelta(minutes=32)


def test_when_spot_is_sold_out_a_task_starts_on_demand_after_its_wait() -> None:
    offers = [spot(), an_offer(zone="a")]
    faults = Faults(sold_out={Market.SPOT: 1.0})
    for minutes in (0, 5, 20):
        resource = replace(MIXED, fallback_after=timedelta(minutes=minutes))
        figures, outcome = run(a_setting(jobs(1), a_fleet([resource]), offers, faults=faults))
        assert [life.offer.market for life in outcome.truth.lives.values()] == [Market.ON_DEMAND]
        assert figures.wait_mean_s == 180 + 60 * minutes


def test_after_an_interruption_the_other_zone_is_taken() -> None:
    offers = [spot("a"), spot("b", 0.51), an_offer(zone="a")]
    faults = Faults(seed=2, spot_life=timedelta(minutes=40))
    _, outcome = run(a_setting(jobs(4, duration_s=3600), a_fleet([MIXED]), offers, faults=faults))
    zones = [life.offer.zone for life in outcome.truth.lives.values()]
    assert zones[:2] == ["a", "b"]
    assert set(outcome.states.values()) == {"completed"}


def test_a_pool_that_is_taken_back_every_few_minutes_is_left_for_on_demand() -> None:
    offers = [spot("a", 1.5), an_offer(zone="a", usd=2.0)]
    faults = Faults(seed=2, spot_life=timedelta(minutes=25))
    fleet = a_fleet([replace(MIXED, blackout=timedelta(seconds=10), fallback_after=timedelta(hours=9))])
    workload = [job for n in range(60) for job in jobs(4, submit_s=1200.0 * n, duration_s=1500)]
    figures, outcome = run(a_setting(workload, fleet, offers, faults=faults))
    markets = [life.offer.market for life in outcome.truth.lives.values()]
    assert markets[0] is Market.SPOT
    assert markets[-1] is Market.ON_DEMAND
    assert 5 < markets.count(Market.SPOT) < 40
    assert figures.completed == 60


def test_an_idle_machine_on_demand_is_exchanged_when_spot_is_back() -> None:
    offers = [spot(), an_offer(zone="a")]
    faults = Faults(seed=0, sold_out={Market.SPOT: 0.5})
    seed = next(
        n
        for n in range(200)
        if (f := replace(faults, seed=n)).is_sold_out(spot(), EPOCH)
        and not any(f.is_sold_out(spot(), after(s)) for s in (1800, 3600, 5400, 7200))
    )
    resource = replace(MIXED, fallback_after=timedelta(0), idle_timeout=timedelta(hours=9))
    workload = [*jobs(4, duration_s=2400), *jobs(4, submit_s=2000, duration_s=3600)]
    simulation = Simulation(a_setting(workload, a_fleet([resource]), offers, faults=replace(faults, seed=seed)))
    outcome = simulation.run()
    old, new = outcome.truth.lives.values()
    assert (old.offer.market, new.offer.market) == (Market.ON_DEMAND, Market.SPOT)
    assert old.ended_at
    assert old.ended_at <= after(180 + 2400 + 70)
    known = simulation.store.instance(old.instance)
    assert known
    assert known.end_reason
    assert known.end_reason.code == "return_to_spot"


def test_a_checkpoint_keeps_what_a_task_has_done() -> None:
    offers = [spot()]
    resource = a_resource(market=MarketPolicy.SPOT)
    setting = a_setting(
        jobs(4, duration_s=3 * 3600), a_fleet([resource]), offers, faults=Faults(seed=5, spot_life=timedelta(hours=1))
    )
    loses, keeps = run(setting), run(replace(setting, checkpoint=timedelta(minutes=10)))
    ran = [
        sum((a.ended_at - a.started_at).total_seconds() for a in o.truth.attempts if a.ended_at)
        for _, o in (loses, keeps)
    ]
    again = len(keeps[1].truth.attempts) - 1
    assert again > 0
    assert 3 * 3600 <= ran[1] <= 3 * 3600 + again * 600
    assert ran[0] > ran[1]
    assert keeps[0].usd < loses[0].usd


@pytest.mark.parametrize("seed", range(6))
def test_under_spot_and_chaos_nothing_is_lost_and_spot_is_cheaper_than_on_demand_alone(seed: int) -> None:
    workload = make_workload(60, 1.0, seed=seed, sizes={1: 3, 4: 1}, median_s=1200, spread=1.0)
    offers = spot_and_on_demand(4, 4.0)
    setting = a_setting(workload, a_fleet([MIXED]), offers, faults=faults_of("spot", seed))
    figures, _ = run(setting)
    assert (figures.lost, figures.ran_twice_at_once, figures.busy_kills, figures.orphan_instance_s) == (0, 0, 0, 0)
    assert figures.completed == 60
    on_demand = a_setting(workload, a_fleet(), [o for o in offers if o.market is Market.ON_DEMAND])
    assert figures.usd < 0.7 * run(on_demand)[0].usd
    chaos, _ = run(replace(setting, faults=faults_of("chaos", seed), checkpoint=timedelta(minutes=10)))
    assert (chaos.lost, chaos.ran_twice_at_once, chaos.busy_kills, chaos.orphan_instance_s) == (0, 0, 0, 0)


@pytest.mark.parametrize("seed", range(3))
def test_with_spot_too_no_pass_that_was_left_out_would_have_changed_anything(seed: int) -> None:
    workload = make_workload(30, 0.1, seed=seed, sizes={1: 3, 4: 1}, median_s=600, spread=0.7)
    faults = replace(faults_of("spot", seed), spot_life=timedelta(hours=2), sold_out={Market.SPOT: 0.5})
    setting = a_setting(workload, a_fleet([MIXED]), spot_and_on_demand(4, 4.0), faults=faults)
    assert run(setting)[0] == run(replace(setting, is_dense=True))[0]
