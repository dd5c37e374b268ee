"""A cloud that was free to choose: the store is told what it chose, the price only falls, and all that it refused is left alone."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from datetime import timedelta

import pytest

from fleet.errors import NoCapacity, UnknownProviderFault
from fleet.model import Offer
from fleet.providers.base import Launched, LaunchFailed, LaunchOrder, Refusal
from fleet.providers.fake import FakeCloud
from tests.builders import an_offer
from tests.dispatcher.world import World

SOLD_OUT = NoCapacity("none left")


class Choosing(FakeCloud):
    """Takes the last alternative of an order."""

    refuses: bool = False
    is_silent: bool = False
    moves_to: Offer | None = None  # the last offer, while the call is under way; None: nothing moves
    is_sold: bool = False  # after the call nothing is offered any more

    def launch(self, orders: Sequence[LaunchOrder]) -> Sequence[Launched | LaunchFailed]:
        if self.refuses:
            self.launch_calls.append(tuple(o.instance for o in orders))
            return [
                LaunchFailed(
                    instance=o.instance,
                    error=SOLD_OUT,
                    others=tuple(Refusal(type=a.type, zone=a.zone, error=SOLD_OUT) for a in o.alternatives),
                )
                for o in orders
            ]
        answers = super().launch(orders)
        chosen = {o.instance: (o.alternatives or (o.offer,))[-1] for o in orders}
        for found in self.machines.values():
            if offer := chosen.get(found.machine.instance):
                found.machine = replace(found.machine, type=offer.type, zone=offer.zone)
        self.shapes[-1] = self.moves_to or self.shapes[-1]
        if self.is_sold:
            self.shapes.clear()
        if self.is_silent:
            raise UnknownProviderFault("the answer was lost")
        return [
            replace(a, type=chosen[a.instance].type, zone=chosen[a.instance].zone) if isinstance(a, Launched) else a
            for a in answers
        ]


def pool(type: str, zone: str, usd: float = 2.0) -> Offer:
    return an_offer(gpus=1, usd=usd, type=type, zone=zone, may_vary=True, gpu_model=f"Fake {type}")


@pytest.fixture
def world() -> World:
    world = World(list_lag=timedelta(0))
    world.cloud = Choosing([pool("one", "a"), pool("one", "b"), pool("two", "a")], now=world.now, list_lag=timedelta(0))
    world.restart()
    return world


def choosing(world: World) -> Choosing:
    assert isinstance(world.cloud, Choosing)
    return world.cloud


def test_the_store_is_told_what_a_machine_has_become(world: World) -> None:
    world.enqueue("a task")
    world.pass_once()
    offer = world.instance().offer
    assert (offer.type, offer.zone, offer.gpu_model, offer.price_usd_per_hour) == ("two", "a", "Fake two", 2.0)
    (told,) = [e.text for e in world.store.events() if e.kind == "instance.launched"]
    assert told.endswith("it has become two in a")


@pytest.mark.parametrize(("usd", "counted"), [(1.5, 1.5), (9.0, 2.0)])
def test_its_price_may_fall_and_never_rises_over_what_was_committed(world: World, usd: float, counted: float) -> None:
    choosing(world).moves_to = pool("two", "a", usd)
    world.enqueue("a task")
    world.pass_once()
    assert (world.instance().offer.type, world.instance().offer.price_usd_per_hour) == ("two", counted)


def test_a_machine_whose_answer_was_lost_is_known_for_what_it_is_by_the_list(world: World) -> None:
    choosing(world).is_silent = True
    world.enqueue("a task")
    world.pass_once()
    assert world.instance().cloud_id is None
    world.restart()
    world.after(1).pass_once()
    assert (world.instance().offer.type, world.instance().offer.zone) == ("two", "a")
    assert world.instance().cloud_id is not None


def test_only_when_all_pools_are_refused_are_they_left_alone_and_then_all_of_them(world: World) -> None:
    choosing(world).refuses = True
    world.enqueue("a task")
    world.pass_once()
    assert len(world.cloud.launch_calls) == 1, "nothing is left to try in this pass"
    paused = {(b.type, b.zone) for b in world.dispatcher.backoffs.at(world.at)}
    assert paused == {("one", "a"), ("one", "b"), ("two", "a")}


def test_a_machine_of_a_type_that_is_not_offered_any_more_keeps_what_was_committed(world: World) -> None:
    choosing(world).is_sold = True
    world.enqueue("a task")
    world.pass_once()
    offer = world.instance().offer
    assert (offer.type, offer.zone, offer.price_usd_per_hour) == ("two", "a", 2.0)
