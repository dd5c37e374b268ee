"""EC2 behind the contract of `Provider`. What AWS sells is asked for rarely and in the background; what is ours, at every pass."""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from fleet.errors import ProviderError
from fleet.model import Offer, Resource
from fleet.providers.aws.access import Access
from fleet.providers.aws.cached import Cached
from fleet.providers.aws.checks import examine
from fleet.providers.aws.console import read_console
from fleet.providers.aws.journal import Journal
from fleet.providers.aws.launching import Answer, Ground, launch
from fleet.providers.aws.machines import list_machines, only_one_each, terminate
from fleet.providers.aws.places import forget, remember
from fleet.providers.aws.settings import Place, Settings, read, read_place
from fleet.providers.aws.stock import Stock, offers_of, read_spot, read_stock
from fleet.providers.aws.templates import LeftOver
from fleet.providers.aws.told import told_prices
from fleet.providers.aws.user_data import Render
from fleet.providers.base import Finding, Launched, LaunchOrder, Machine, Surroundings
from fleet.providers.first_boot import user_data
from fleet.providers.prices import Price, Unpriced, price_of

# EC2's lists follow its answers within seconds, as a rule: "Eventual consistency" (EC2 Developer Guide).
LIST_LAG = timedelta(seconds=60)
STOCK_FRESH, STOCK_GOOD = timedelta(minutes=30), timedelta(hours=24)
SPOT_FRESH, SPOT_GOOD = timedelta(minutes=5), timedelta(hours=1)

SpotPrices = Mapping[tuple[str, str], float]


@dataclass(frozen=True, slots=True, kw_only=True)
class Shop:
    """What is known of one resource, as the fleet file had it when this was made."""

    resource: Resource
    settings: Settings
    access: Access
    stock: Cached[Stock]
    spot: Cached[SpotPrices]


class AwsProvider:
    """Keeps the contract of `Provider` for every region and account that the fleet file names."""

    list_lag = LIST_LAG

    def __init__(
        self,
        surroundings: Surroundings,
        *,
        render: Render = user_data,
        access: Callable[[Place], Access] = Access,
    ) -> None:
        self._surroundings = surroundings
        self._render = render
        self._price_of = functools.partial(price_of, directory=surroundings.directory)
        self._make_access = access
        self._accesses: dict[Place, Access] = {}
        self._shops: dict[str, Shop] = {}
        self._named = [read_place(r) for r in surroundings.resources]
        self._places = list(remember(surroundings.directory, self._named))
        self._place_of: dict[str, Place] = {}  # by cloud id, as last listed or launched
        self._journal = Journal(surroundings.directory / "calls")
        self._left_over = LeftOver(surroundings.cluster, lambda: datetime.now(UTC))
        varied = (r for r in surroundings.resources if "allocation_strategy" in r.settings)
        self._with_templates = {read_place(r) for r in varied}

    def offers(self, resource: Resource, at: datetime) -> Sequence[Offer]:
        shop = self._shop(resource)
        stock = shop.stock.get(at)
        try:
            spot = shop.spot.get(at)
        except ProviderError:
            spot = {}  # then the price of spot is unknown, and the planner does what the fleet file says of that
        return list(offers_of(resource, shop.settings, stock, spot, at))

    def launch(self, orders: Sequence[LaunchOrder]) -> Sequence[Answer]:
        answers = launch(orders, self._ground, self._access_of, self._journal, self._render)
        for answer, order in zip(answers, orders, strict=True):
            if isinstance(answer, Launched):
                self._place_of[answer.cloud_id] = self._shop(order.resource).settings.place
        return answers

    def list(self, cluster: str) -> Sequence[Machine]:
        found: dict[str, Machine] = {}
        places: dict[str, Place] = {}
        for place in list(self._places):
            here = list_machines(self._access(place), cluster)
            if not here and place not in self._named:
                self._forget(place)
            if place in self._with_templates:
                self._left_over.sweep(self._access(place))
            for machine in here:
                found.setdefault(machine.cloud_id, machine)
                places.setdefault(machine.cloud_id, place)
        self._place_of = places
        return only_one_each(list(found.values()))

    def terminate(self, cloud_ids: Sequence[str]) -> None:
        fault: ProviderError | None = None
        for place in self._places:
            # Nobody remembers where one is that was not listed yet: every place may have it, and the others do not mind.
            here = [id for id in cloud_ids if self._place_of.get(id, place) == place]
            try:
                terminate(self._access(place), here)
            except ProviderError as error:
                fault = error
        if fault:
            raise fault

    def check(self, resource: Resource, at: datetime) -> Sequence[Finding]:
        return list(examine(resource, lambda: self._shop(resource), at))

    def prices(self, resource: Resource, at: datetime) -> Sequence[Price | Unpriced]:
        """What AWS says now, for `fleet prices refresh`. An image and what else a launch needs may still be missing."""
        return told_prices(self._access(read_place(resource)), resource, self._price_of, at)

    def console(self, cloud_id: str) -> str | None:
        """The last lines of the machine's console, without what looks like a secret; None: there are none."""
        place = self._place_of.get(cloud_id)
        return read_console(self._access(place), cloud_id) if place else None

    def _ground(self, order: LaunchOrder) -> Ground:
        shop = self._shop(order.resource)
        return Ground(access=shop.access, settings=shop.settings, stock=shop.stock.get(order.offer.seen_at))

    def _access_of(self, resource: str) -> Access | None:
        named = next((r for r in self._surroundings.resources if r.name == resource), None)
        return self._access(read_place(named)) if named else None

    def _shop(self, resource: Resource) -> Shop:
        known = self._shops.get(resource.name)
        if known is None or _trade(known.resource) != _trade(resource):
            known = self._shops[resource.name] = self._open(resource)
        return known

    def _open(self, resource: Resource) -> Shop:
        settings = read(resource)
        access = self._access(settings.place)
        if settings.place not in self._places:
            self._named.append(settings.place)
            self._places = list(remember(self._surroundings.directory, self._named))
        stock = Cached(
            lambda at: read_stock(access, settings, resource, self._price_of, self._surroundings.cluster),
            fresh=STOCK_FRESH,
            good=STOCK_GOOD,
        )
        spot: Cached[SpotPrices] = Cached(
            lambda at: read_spot(access, resource, stock.get(at), at), fresh=SPOT_FRESH, good=SPOT_GOOD
        )
        return Shop(resource=resource, settings=settings, access=access, stock=stock, spot=spot)

    def _access(self, place: Place) -> Access:
        if place not in self._accesses:
            self._accesses[place] = self._make_access(place)
        return self._accesses[place]

    def _forget(self, place: Place) -> None:
        self._places.remove(place)
        forget(self._surroundings.directory, place)


def make(surroundings: Surroundings) -> AwsProvider:
    """What the entry point names."""
    return AwsProvider(surroundings)


def _trade(resource: Resource) -> tuple[object, ...]:
    """What decides what AWS sells for it; limits and times do not."""
    return resource.region, resource.zones, resource.instance_types, resource.market, resource.image, resource.settings
