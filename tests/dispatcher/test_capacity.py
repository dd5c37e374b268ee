"""What a dispatcher does when a cloud says no, takes a machine back, or machines do no work."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import timedelta

from fleet.dispatcher.history import WINDOW
from fleet.errors import NoCapacity, NotAuthorised, ProviderError, QuotaExceeded, Throttled
from fleet.model import Event, Market, MarketPolicy, Offer, Reason
from tests.builders import a_queue, a_resource, an_offer
from tests.dispatcher.world import World

MIXED = a_resource(market=MarketPolicy.SPOT_THEN_ON_DEMAND)
SOLD_OUT = NoCapacity("none left")
QUOTA = QuotaExceeded("0 of 8 vCPUs left")
NO_KEY = NotAuthorised("the key is not valid")


def a_world(*offers: Offer, **changes: object) -> World:
    world = World(**changes)  # type: ignore[arg-type]
    if offers:
        world.cloud.shapes = list(offers)
    return world


def spot(zone: str = "a", usd: float = 0.5, **changes: object) -> Offer:
    return an_offer(usd=usd, market=Market.SPOT, zone=zone, **changes)


def asked(world: World) -> list[tuple[str, str | None, Market]]:
    """What the cloud was asked for, call by call."""
    known = {i.id: i.offer for i in world.store.instances("test", gone_after=world.at - WINDOW)}
    offers = [known[name] for call in world.cloud.launch_calls for name in call]
    return [(o.type, o.zone, o.market) for o in offers]


def alerts(world: World) -> list[str]:
    view = world.store.view()
    assert view
    return [a.code for a in view.alerts]


def test_what_is_sold_out_is_planned_anew_in_the_same_pass_but_not_without_end() -> None:
    world = a_world(*[an_offer(zone=zone) for zone in "abcdef"])
    world.cloud.next_order_faults.extend([SOLD_OUT] * 6)
    world.enqueue("one")
    world.pass_once()
    assert [zone for _, zone, _ in asked(world)] == ["a", "b", "c", "d"]
    world.after(2).pass_once()
    assert [zone for _, zone, _ in asked(world)][4:] == ["e", "f"]
    assert world.instances() == ()


def test_one_task_never_gets_two_machines_by_it() -> None:
    world = a_world(*[an_offer(zone=zone) for zone in "abc"])
    world.cloud.next_order_faults.extend([SOLD_OUT, None])
    world.enqueue("one")
    world.pass_once().after(2).pass_once()
    assert len(world.cloud.machines) == 1


def test_a_batch_that_is_refused_is_one_failure() -> None:
    world = a_world(an_offer())
    world.cloud.next_order_faults.extend([SOLD_OUT] * 5)
    world.enqueue(*[f"t{n}" for n in range(20)])
    world.pass_once()
    (pause,) = world.dispatcher.backoffs.at(world.at)
    assert (pause.times, pause.until - world.at) == (1, timedelta(seconds=30))


def test_a_quota_stops_the_family_in_this_region_and_market_for_every_resource() -> None:
    g5 = [
        an_offer(name, type=type_, region=region, market=market, usd=usd)
        for name in ("gpu", "more")
        for type_ in ("g5.xlarge", "g5.48xlarge", "g6.xlarge")
        for region in ("r1", "r2")
        for market, usd in ((Market.SPOT, 1.0), (Market.ON_DEMAND, 2.0))
    ]
    world = a_world(*g5, resources=(a_resource(), a_resource("more")))
    world.enqueue("one")
    world.cloud.next_order_faults.append(QUOTA)
    world.pass_once()
    (pause,) = world.dispatcher.backoffs.at(world.at)
    refused = {(o.type, o.region, o.market) for o in g5 if pause.covers(o)}
    assert refused == {("g5.xlarge", "r1", Market.SPOT), ("g5.48xlarge", "r1", Market.SPOT)}
    assert {o.resource for o in g5 if pause.covers(o)} == {"gpu", "more"}
    world.after(2).pass_once()
    assert alerts(world) == ["quota_exceeded"]


def test_families_are_named_as_each_cloud_does() -> None:
    types = ("g5.xlarge", "p4d.24xlarge", "a2-highgpu-1g", "n1-standard-8", "plain")
    assert [an_offer(type=t).family for t in types] == ["g5", "p4d", "a2-highgpu", "n1-standard", "plain"]


def test_credentials_that_fail_stop_everything_of_that_cloud_loudly_and_one_machine_tries_again() -> None:
    world = a_world(an_offer(zone="a"), an_offer(zone="b"))
    world.enqueue(*[f"t{n}" for n in range(12)])
    tries = []
    for second in range(0, 800, 2):
        world.cloud.next_launch_faults.append(NO_KEY)
        before = len(world.cloud.launch_calls)
        world.pass_once()
        tries += [(second, len(call)) for call in world.cloud.launch_calls[before:]]
        world.cloud.next_launch_faults.clear()
        world.after(2)
    assert tries == [(0, 3), (60, 1), (180, 1), (420, 1)]
    assert alerts(world) == ["not_authorised"]
    assert world.kinds().count("account.refused") == 1
    world.after(200)
    world.pass_once()  # they work again: the probe first, then what waits
    assert world.kinds().count("account.accepted") == 1
    world.after(2).pass_once()
    assert len(world.cloud.machines) == 3
    assert alerts(world) == []


def test_a_cloud_that_is_throttled_is_left_alone_for_a_moment_and_then_asked_the_same() -> None:
    world = a_world()
    world.enqueue("one")
    world.cloud.next_launch_faults.append(Throttled("too many calls"))
    world.pass_once().after(2).pass_once().after(2).pass_once()
    assert len(world.cloud.launch_calls) == 1
    world.after(2).pass_once()
    assert world.cloud.launch_calls == [("p0-0",), ("p0-0",)]


def test_spot_that_has_none_is_left_alone_for_its_blackout_which_grows() -> None:
    world = a_world(spot(), an_offer(zone="a"), resources=(MIXED,))
    world.enqueue("one")
    tries = []
    fallback = timedelta(hours=9)
    world.resources = (replace(MIXED, fallback_after=fallback),)
    world.restart()
    for second in range(0, 5000, 10):
        world.cloud.next_order_faults.append(SOLD_OUT)
        if len(world.pass_once().cloud.launch_calls) > len(tries):
            tries.append(second)
        world.after(10)
    assert tries == [0, 600, 1800, 3600]  # twenty minutes, and no more than thirty


def test_a_task_gets_on_demand_when_it_has_waited_and_spot_again_when_the_blackout_is_over() -> None:
    world = a_world(spot(), an_offer(zone="a"), resources=(MIXED,))
    world.enqueue("first")
    world.cloud.next_order_faults.append(SOLD_OUT)
    world.pass_once().after(298).pass_once()
    assert asked(world) == [("fake-4gpu", "a", Market.SPOT)]
    world.after(2).pass_once()
    assert asked(world)[1:] == [("fake-4gpu", "a", Market.ON_DEMAND)]
    world.after(301)
    world.enqueue(*[f"t{n}" for n in range(4)])
    world.pass_once()
    assert asked(world)[2:] == [("fake-4gpu", "a", Market.SPOT)]


def test_a_machine_that_the_cloud_took_back_blacks_its_pool_out() -> None:
    world = a_world(spot("a"), spot("b", usd=0.6), an_offer(zone="a"), resources=(MIXED,))
    (task,) = world.enqueue("one")
    world.pass_once()
    world.run(world.enroll(world.instance()), task)
    world.after(60).cloud.end("fake-" + world.instance().id)
    world.after(20).pass_once()
    assert asked(world) == [("fake-4gpu", "a", Market.SPOT), ("fake-4gpu", "b", Market.SPOT)]
    (record, *_) = world.dispatcher.history.pools
    assert (record.zone, record.interruptions) == ("a", 1)
    assert 0.01 < record.machine_h < 0.03


def test_what_was_seen_of_a_pool_outlives_the_dispatcher() -> None:
    world = a_world(spot("a"), an_offer(zone="a"), resources=(MIXED,))
    (task,) = world.enqueue("one")
    world.pass_once()
    world.run(world.enroll(world.instance()), task)
    world.after(900).beat(world.instance())
    world.cloud.end("fake-" + world.instance().id)
    world.after(20).pass_once()
    before = world.dispatcher.history.pools
    world.restart()
    world.after(16).pass_once()
    assert world.dispatcher.history.pools == before
    assert (before[0].interruptions, round(before[0].lost_h, 3)) == (1, 0.064)  # one of four GPUs, 920 s


# --- the breaker


@dataclass
class Broken:
    """A world in which every machine ends as soon as it has booted."""

    world: World
    restarts: bool = False

    def live(self, seconds: int) -> Sequence[int]:
        """When machines were launched."""
        launched = []
        for second in range(0, seconds, 10):
            self.world.pass_once()
            for instance in self.world.instances():
                launched.append(second)
                self.world.cloud.end("fake-" + instance.id)
            if self.restarts:
                self.world.restart()
            self.world.after(10)
        return launched


def test_after_five_machines_that_did_nothing_the_breaker_opens_and_tells() -> None:
    broken = Broken(a_world(*[an_offer(zone=zone) for zone in "abcdefgh"]))
    broken.world.enqueue("one")
    assert len(broken.live(600)) == 5
    assert broken.world.kinds().count("breaker.opened") == 1
    assert "breaker" in alerts(broken.world)
    view = broken.world.store.view()
    assert view
    assert view.waiting[0].reason.code == "breaker"
    assert "mend the cause, then: fleet breaker reset gpu" in view.waiting[0].reason.text


def test_a_restart_at_every_pass_does_not_close_it() -> None:
    broken = Broken(a_world(*[an_offer(zone=zone) for zone in "abcdefgh"]), restarts=True)
    broken.world.enqueue("one")
    assert len(broken.live(600)) == 5


def test_an_operator_closes_it() -> None:
    broken = Broken(a_world(*[an_offer(zone=zone) for zone in "abcdefghijklm"]))
    world = broken.world
    world.enqueue("one")
    broken.live(300)
    reason = Reason(code="operator", text="mended", limit="resources.gpu")
    world.store.append_events([Event(at=world.at, kind="breaker.reset", text="mended", reason=reason)])
    world.after(10).pass_once()
    assert len(world.instances()) == 1
    assert world.kinds().count("breaker.closed") == 1


def test_refused_launches_open_no_breaker_because_they_cost_nothing() -> None:
    world = a_world(*[an_offer(zone=zone) for zone in "abcdefgh"])
    world.enqueue("one")
    world.cloud.next_order_faults.extend([SOLD_OUT] * 20)
    for _ in range(40):
        world.pass_once().after(2)
    assert "breaker.opened" not in world.kinds()


def test_another_resource_is_launched_while_one_is_open() -> None:
    resources = (a_resource(), a_resource("more"))
    world = a_world(resources=resources, queues=(a_queue(resources=("gpu", "more")),))
    world.cloud.shapes = [*[an_offer(zone=zone) for zone in "abcde"], an_offer("more")]
    world.enqueue("one")
    Broken(world).live(50)
    world.pass_once()
    assert world.instance().resource == "more"


def test_a_provider_error_of_any_kind_is_a_pause() -> None:
    for kind in ProviderError.__subclasses__():
        world = a_world()
        world.dispatcher.backoffs.fail(an_offer(), kind("it failed"), world.at)
        assert world.dispatcher.backoffs.at(world.at)[0].covers(replace(an_offer()))
