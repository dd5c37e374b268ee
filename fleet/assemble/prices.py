"""What is known of prices: every type that the fleet file names, and what `fleet prices refresh` learns from the clouds."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from fleet.assemble.providers import providers_of
from fleet.assemble.state import state_of, write_private
from fleet.config import Config
from fleet.errors import ConfigError, ProviderError
from fleet.model import Budget, Market, MarketPolicy, Resource
from fleet.providers.prices import (
    REFRESHED,
    Price,
    PriceSource,
    as_json,
    believable,
    list_prices,
    price_of,
    refreshed,
)

CLOUDS = ("aws", "gcp", "genesis")
TELLING = ("aws", "gcp")  # prices through an API: what `fleet prices refresh` can ask
MARKETS = {
    MarketPolicy.SPOT: (Market.SPOT,),
    MarketPolicy.ON_DEMAND: (Market.ON_DEMAND,),
    MarketPolicy.SPOT_THEN_ON_DEMAND: (Market.SPOT, Market.ON_DEMAND),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Known:
    """One line of `fleet prices`."""

    resource: str
    type: str
    region: str | None
    market: Market
    usd_per_hour: float | None
    source: str  # "fleet file", a document with its date, or "" where nobody knows


@dataclass(frozen=True, slots=True, kw_only=True)
class Refresh:
    """What a refresh did for one provider."""

    provider: str
    used: int
    said: tuple[str, ...]  # a line for each price that was refused, or why nothing was learned
    tells: bool = True  # its cloud has an API for prices; where it has none, nothing failed


def known_prices(config: Config) -> Iterator[Known]:
    """One for each type, region and market of the resources in clouds.

    Raises:
        UnknownProviderFault: a file of refreshed prices is damaged.
    """
    for resource in config.resources:
        if resource.provider in CLOUDS:
            for kind in (*resource.instance_types, *_attached(resource)):
                for region in regions_of(resource) or (None,):
                    for market in MARKETS[resource.market]:
                        yield _known(config, resource, kind, region, market)


def _known(config: Config, resource: Resource, kind: str, region: str | None, market: Market) -> Known:
    directory = state_of(config).directory / resource.provider
    usd = price_of(resource.provider, kind, region, market, resource=resource, directory=directory)
    source = ""
    if market in resource.prices.get(kind, {}):
        source = "fleet file"
    elif usd is not None:
        place = (resource.provider, kind, region or "", market)
        price = {p.place: p for p in refreshed(directory)}.get(place) or list_prices()[place]
        source = f"{price.source}, {price.seen_on}"
    return Known(resource=resource.name, type=kind, region=region, market=market, usd_per_hour=usd, source=source)


def refuse_unpriced(config: Config) -> None:
    """Before anything starts: a limit that can only be kept by launching nothing is a mistake of the file.

    Raises:
        ConfigError: a budget in dollars, and a type whose price nobody knows.
    """
    if problems := list(unpriced(config)):
        raise ConfigError(*(f"{config.origin}: {problem}" for problem in problems))


def unpriced(config: Config) -> Iterator[str]:
    """One line for each type that a budget in dollars could never buy, because nobody knows what it costs.

    A spot price is never above the one on demand, and the provider looks it up when it is needed: one of the two is enough here.
    """
    if not has_money(config.budget):
        return
    for resource in config.resources:
        if resource.provider not in CLOUDS:
            continue
        for kind in (*resource.instance_types, *_attached(resource)):
            if not _is_priced(config, resource, kind):
                ask = ", or ask the cloud with: fleet prices refresh" if resource.provider in TELLING else ""
                where = f" in {', '.join(regions)}" if (regions := regions_of(resource)) else ""
                yield (
                    f"resources.{resource.name}.instance_types: nobody knows what {kind} costs{where}, and a budget in dollars must; "
                    f"say it with prices: {{{kind}: DOLLARS_AN_HOUR}} there{ask}"
                )


def _attached(resource: Resource) -> tuple[str, ...]:
    """GPUs of Google Cloud that are attached to a machine cost an hour of their own."""
    gpu = resource.settings.get("gpu_type")
    is_n1 = any(kind.startswith("n1-") for kind in resource.instance_types)
    return (gpu,) if resource.provider == "gcp" and is_n1 and isinstance(gpu, str) else ()


def _is_priced(config: Config, resource: Resource, kind: str) -> bool:
    directory = state_of(config).directory / resource.provider
    if resource.prices.get(kind):
        return True
    known = {p.place for p in refreshed(directory)} | set(list_prices())
    regions = regions_of(resource)
    if not regions:
        return any(provider == resource.provider and kind == each for provider, each, _, _ in known)
    markets = {Market.ON_DEMAND, *MARKETS[resource.market]}
    return all(any((resource.provider, kind, region, m) in known for m in markets) for region in regions)


def has_money(budget: Budget) -> bool:
    """Whether any of its limits, also those of users and queues, is in dollars."""
    parts = (*([budget.per_user] if budget.per_user else ()), *budget.users.values(), *budget.queues.values())
    return budget.caps_usd or any(part.caps_usd for part in parts)


def regions_of(resource: Resource) -> tuple[str, ...]:
    """Where its machines are, as far as the fleet file tells: `us-east-1a` is in us-east-1, `us-central1-b` in us-central1."""
    if resource.region:
        return (resource.region,)
    several = resource.settings.get("regions")
    if not resource.zones and isinstance(several, list | tuple):
        return tuple(str(region) for region in several)
    cut = {"aws": lambda zone: zone.rstrip("abcdefgh"), "gcp": lambda zone: zone.rpartition("-")[0]}
    of_zone = cut.get(resource.provider)
    return tuple(dict.fromkeys(of_zone(zone) for zone in resource.zones)) if of_zone else ()


def refresh(config: Config) -> Iterator[Refresh]:
    """Ask each cloud that the fleet file uses, keep what can be believed in the provider's directory, whole or not at all.

    Raises:
        ConfigError: a provider is not here, or the file cannot be written.
    """
    state = state_of(config)
    state.prepare()
    for name, provider in providers_of(config, state).items():
        if not isinstance(provider, PriceSource):
            if name in CLOUDS:
                yield Refresh(provider=name, used=0, said=tuple(_untold(config, name)), tells=False)
            continue
        found, said = _asked(config, name, provider)
        directory = state.directory / name
        before = {p.place: p for p in refreshed(directory)} if _is_whole(directory) else {}
        fine, refused = believable({p.place: p for p in found}.values(), {**list_prices(), **before})
        if fine:
            directory.mkdir(parents=True, exist_ok=True, mode=0o700)
            write_private(directory / REFRESHED, as_json({**before, **{p.place: p for p in fine}}.values()))
        yield Refresh(provider=name, used=len(fine), said=(*said, *refused))


def _asked(config: Config, name: str, provider: PriceSource) -> tuple[list[Price], list[str]]:
    """What the cloud says, and a line for each thing that it does not."""
    found: list[Price] = []
    said: list[str] = []
    for resource in (r for r in config.resources if r.provider == name):
        try:
            for told in provider.prices(resource, datetime.now(UTC)):
                if isinstance(told, Price):
                    found.append(told)
                elif told.market in MARKETS[resource.market]:  # nobody misses the price of what is not bought
                    said.append(str(told))
        except ProviderError as error:
            head = f"resource {resource.name}: "  # some providers say it themselves
            said.append(head + str(error).removeprefix(head))
    return found, list(dict.fromkeys(said))


def _untold(config: Config, name: str) -> Iterator[str]:
    """A line for each resource of a cloud whose API has no prices: where those in use come from, and how they are set."""
    for resource in (r for r in config.resources if r.provider == name):
        known = {price.type: price for price in known_prices(config) if price.resource == resource.name}
        costs = [
            f"{kind} is ${price.usd_per_hour:g}, says the {price.source}"
            if price.usd_per_hour is not None
            else f"nobody says what {kind} costs"
            for kind, price in known.items()
        ]
        example = next(iter(known), "TYPE")
        yield (
            f"resource {resource.name}: the API of {name} has no prices; {', '.join(costs) or 'no type is named'}; "
            f"set them with prices: {{{example}: DOLLARS_AN_HOUR}} on the resource"
        )


def _is_whole(directory: Path) -> bool:
    """A damaged file is what a refresh replaces."""
    try:
        refreshed(directory)
    except ProviderError:
        return False
    return True
