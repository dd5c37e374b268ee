"""The contract of `fleet.providers.base.Provider`, as tests: a class that keeps it is tested by a subclass of this one.

    class TestMyCloud(ProviderContract):
        @pytest.fixture
        def ground(self) -> Iterator[Ground]:
            with my_fake_api() as api:
                yield Ground(provider=MyCloud(api.url), resource=a_resource(provider="mycloud", settings={...}))

A provider that calls something over a wire also gives `Ground.trouble`, and is held to what it does then.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Protocol

import pytest

from fleet.errors import NotAuthorised, ProviderError, Throttled, UnknownProviderFault
from fleet.model import Market, MarketPolicy, Resource
from fleet.providers.base import Finding, FirstBoot, Launched, LaunchFailed, LaunchOrder, Machine, Provider
from tests.waiting import wait_for

SECRET = "join-token-0123456789abcdef"
MARKETS = {
    MarketPolicy.SPOT: {Market.SPOT},
    MarketPolicy.ON_DEMAND: {Market.ON_DEMAND},
    MarketPolicy.SPOT_THEN_ON_DEMAND: {Market.SPOT, Market.ON_DEMAND},
}


class Trouble(Protocol):
    """What a fake cloud can be told to do to every call, until the test ends."""

    def hang(self) -> None: ...  # take the call and never answer
    def throttle(self) -> None: ...  # "too many calls", in the words of that cloud
    def refuse_credentials(self) -> None: ...
    def garble(self) -> None: ...  # an answer that breaks off in the middle


@dataclass(frozen=True, kw_only=True)
class Ground:
    """A provider to test, and what it may launch. `patience_s`: its time limit, made short for tests."""

    provider: Provider
    resource: Resource
    trouble: Trouble | None = None
    patience_s: float = 5.0
    many: int = 5  # so many machines make its list answer in pages
    centre_url: str = "http://127.0.0.1:9"
    is_settled: Callable[[], bool] = field(
        default=lambda: True
    )  # nothing that was launched or ended is still under way


class ProviderContract:
    """One test for each sentence of the contract."""

    @pytest.fixture
    def ground(self) -> Ground:
        raise NotImplementedError("give the provider to test, as the docstring of this module says")

    def orders(self, ground: Ground, *instances: str, cluster: str = "test") -> Sequence[LaunchOrder]:
        offer = ground.provider.offers(ground.resource, datetime.now(UTC))[0]
        boot = FirstBoot(centre_url=ground.centre_url, join_token=SECRET)
        return [
            LaunchOrder(instance=each, cluster=cluster, resource=ground.resource, offer=offer, first_boot=boot)
            for each in instances
        ]

    def listed(self, ground: Ground, count: int, cluster: str = "test") -> Sequence[Machine]:
        """The list, as soon as it shows so many."""
        wait_for(lambda: len(ground.provider.list(cluster)) == count and ground.is_settled())
        return ground.provider.list(cluster)

    # --- offers

    def test_offers_are_whole_and_of_the_markets_that_the_resource_allows(self, ground: Ground) -> None:
        at = datetime.now(UTC)
        offers = ground.provider.offers(ground.resource, at)
        assert offers
        for offer in offers:
            assert (offer.resource, offer.provider) == (ground.resource.name, ground.resource.provider)
            assert offer.type
            assert offer.market in MARKETS[ground.resource.market]
            price = offer.price_usd_per_hour
            assert price is None or (math.isfinite(price) and price >= 0)
            assert offer.gpus >= 0
            assert offer.cpus >= 1
            assert (offer.gpu_memory_gib is None) or offer.gpu_memory_gib > 0
            assert offer.gpus or offer.gpu_model is None
            assert offer.seen_at.tzinfo is not None
            assert offer.seen_at <= at + timedelta(seconds=5)
        pools = [(o.type, o.region, o.zone, o.market) for o in offers]
        assert len(set(pools)) == len(pools)

    def test_offers_cost_nothing_to_ask_for_again(self, ground: Ground) -> None:
        at = datetime.now(UTC)
        first = ground.provider.offers(ground.resource, at)
        began = time.process_time()
        for _ in range(20):
            assert list(ground.provider.offers(ground.resource, at)) == list(first)
        assert time.process_time() - began < 1.0

    # --- launch

    def test_a_batch_is_answered_in_its_order(self, ground: Ground) -> None:
        names = ["i-c", "i-a", "i-b"]
        answers = ground.provider.launch(self.orders(ground, *names))
        assert [a.instance for a in answers] == names
        ids = [a.cloud_id for a in answers if isinstance(a, Launched)]
        assert len(set(ids)) == 3
        assert {m.instance: m.cloud_id for m in self.listed(ground, 3)} == dict(zip(names, ids, strict=True))

    def test_the_same_orders_again_are_the_same_machines(self, ground: Ground) -> None:
        first = ground.provider.launch(self.orders(ground, "i1", "i2"))
        again = ground.provider.launch(self.orders(ground, "i2", "i3", "i1"))
        known = {a.instance: a for a in first}
        assert [again[0], again[2]] == [known["i2"], known["i1"]]
        assert {m.instance for m in self.listed(ground, 3)} == {"i1", "i2", "i3"}

    def test_the_same_order_after_its_machine_ended_starts_no_second_one(self, ground: Ground) -> None:
        """A cloud that forgets may refuse it; what must not be is a machine beside the one that the store has closed."""
        (launched,) = ground.provider.launch(self.orders(ground, "i1"))
        assert isinstance(launched, Launched)
        self.listed(ground, 1)
        ground.provider.terminate([launched.cloud_id])
        self.listed(ground, 0)
        with suppress(UnknownProviderFault):
            assert [a.instance for a in ground.provider.launch(self.orders(ground, "i1"))] == ["i1"]
        assert len(ground.provider.list("test")) <= 1

    def test_no_orders_are_no_machines(self, ground: Ground) -> None:
        assert list(ground.provider.launch([])) == []
        assert list(ground.provider.list("test")) == []

    # --- list

    def test_the_list_shows_what_a_machine_was_launched_as(self, ground: Ground) -> None:
        began = datetime.now(UTC)
        (launched,) = ground.provider.launch(self.orders(ground, "i1"))
        assert isinstance(launched, Launched)
        (machine,) = self.listed(ground, 1)
        said = (machine.cloud_id, machine.cluster, machine.instance, machine.resource)
        assert said == (launched.cloud_id, "test", "i1", ground.resource.name)
        assert abs(machine.launched_at - began) < timedelta(minutes=1)

    def test_the_list_shows_our_cluster_alone(self, ground: Ground) -> None:
        """Also one whose name begins like ours."""
        ground.provider.launch(self.orders(ground, "i1"))
        ground.provider.launch(self.orders(ground, "i2", cluster="test-2"))
        assert [m.instance for m in self.listed(ground, 1)] == ["i1"]
        assert [m.instance for m in self.listed(ground, 1, "test-2")] == ["i2"]

    def test_the_list_is_whole_however_long_it_is(self, ground: Ground) -> None:
        names = {f"i{n}" for n in range(ground.many)}
        ground.provider.launch(self.orders(ground, *sorted(names)))
        assert {m.instance for m in self.listed(ground, ground.many)} == names

    # --- terminate

    def test_a_machine_that_was_ended_leaves_the_list_and_the_others_stay(self, ground: Ground) -> None:
        answers = ground.provider.launch(self.orders(ground, "i1", "i2"))
        self.listed(ground, 2)
        ground.provider.terminate([a.cloud_id for a in answers if isinstance(a, Launched) and a.instance == "i1"])
        assert [m.instance for m in self.listed(ground, 1)] == ["i2"]

    def test_to_end_what_is_unknown_or_ended_is_no_error_and_saves_nobody_else(self, ground: Ground) -> None:
        one, two = ground.provider.launch(self.orders(ground, "i1", "i2"))
        assert isinstance(one, Launched)
        assert isinstance(two, Launched)
        self.listed(ground, 2)
        ground.provider.terminate([one.cloud_id])
        self.listed(ground, 1)
        # Of the form that this cloud's names have, but never one of its machines.
        never = one.cloud_id[:-1] + ("a" if one.cloud_id[-1] != "a" else "b")
        ground.provider.terminate([one.cloud_id, never, two.cloud_id])
        self.listed(ground, 0)
        ground.provider.terminate([])

    # --- check

    def test_what_is_checked_is_said_in_words(self, ground: Ground) -> None:
        findings = ground.provider.check(ground.resource, datetime.now(UTC))
        for finding in findings:
            assert isinstance(finding, Finding)
            assert finding.name
            assert finding.found
        assert SECRET not in repr(findings)

    # --- what can go wrong on the way

    def test_a_cloud_that_does_not_answer_is_given_up_in_time(self, ground: Ground) -> None:
        trouble, verbs = self.trouble_of(ground), self.verbs(ground)
        trouble.hang()
        for verb in verbs:
            began = time.monotonic()
            with pytest.raises(UnknownProviderFault) as caught:
                verb()
            assert time.monotonic() - began < 3 * ground.patience_s
            assert is_one_line(caught.value)

    @pytest.mark.parametrize(
        ("what", "kind"),
        [
            ("throttle", Throttled),
            ("refuse_credentials", NotAuthorised),
            ("garble", UnknownProviderFault),
        ],
    )
    def test_what_a_cloud_refuses_is_of_our_classes(self, ground: Ground, what: str, kind: type[ProviderError]) -> None:
        trouble, verbs = self.trouble_of(ground), self.verbs(ground)
        getattr(trouble, what)()
        for verb in verbs:
            error = failure_of(verb)
            assert isinstance(error, kind), repr(error)
            assert is_one_line(error)
            assert SECRET not in str(error)

    def test_what_is_wrong_is_found_and_not_raised_by_a_check(self, ground: Ground) -> None:
        self.trouble_of(ground).refuse_credentials()
        findings = ground.provider.check(ground.resource, datetime.now(UTC))
        assert [f for f in findings if f.fix]

    def trouble_of(self, ground: Ground) -> Trouble:
        if ground.trouble is None:
            pytest.skip("nothing lies between this provider and its machines")
        return ground.trouble

    def verbs(self, ground: Ground) -> Sequence[Callable[[], object]]:
        """All that calls the cloud for the dispatcher; before there is trouble, since it takes a machine to end one."""
        provider, (before, order) = ground.provider, self.orders(ground, "i0", "i1")
        (launched,) = provider.launch([before])
        assert isinstance(launched, Launched)
        ended = [launched.cloud_id]
        return [lambda: provider.launch([order]), lambda: provider.list("test"), lambda: provider.terminate(ended)]


def failure_of(verb: Callable[[], object]) -> ProviderError:
    """What a verb failed with, whether it raised it or answered it for its one order."""
    try:
        answers = verb()
    except ProviderError as error:
        return error
    assert isinstance(answers, Sequence)
    (answer,) = answers
    assert isinstance(answer, LaunchFailed), answer
    return answer.error


def is_one_line(error: Exception) -> bool:
    return bool(str(error)) and "\n" not in str(error) and len(str(error)) < 600
