"""What an hour of a type costs: as the fleet file says, else as the cloud said at the last `fleet prices refresh`, else by the
list that comes with fleet (`list_prices.toml`, with its document and date). Unknown is None, and never free.

A provider that knows better now (a spot price history) says so in its offers; it may use `price_of` for the rest.
"""

from __future__ import annotations

import functools
import json
import math
import tomllib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

from fleet.errors import UnknownProviderFault
from fleet.model import Market, Resource

REFRESHED = "prices.json"  # in the provider's own directory
# A list that says five times as much, or a fifth, was read wrongly more often than a cloud changed it.
GREATEST_JUMP = 5.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Shape:
    """What a type is made of."""

    type: str
    gpus: int
    gpu_model: str | None
    gpu_memory_gib: float | None  # of each GPU
    cpus: int
    memory_gib: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Price:
    """One hour of one type in one region and market, in US dollars before tax."""

    provider: str
    type: str
    region: str
    market: Market
    usd_per_hour: float
    seen_on: date
    source: str  # the document or API that said it

    @property
    def place(self) -> tuple[str, str, str, Market]:
        return self.provider, self.type, self.region, self.market


@dataclass(frozen=True, slots=True, kw_only=True)
class Unpriced:
    """A type that its cloud told no price of. Never a sum with a part missing: that would be too cheap."""

    provider: str
    type: str
    region: str
    market: Market
    why: str

    def __str__(self) -> str:
        return f"{self.provider} {self.type} {self.region} {self.market}: {self.why}; it is as unknown as before"


@runtime_checkable
class PriceSource(Protocol):
    """A provider whose cloud tells prices through an API. Only `fleet prices refresh` asks: it may take seconds."""

    def prices(self, resource: Resource, at: datetime) -> Sequence[Price | Unpriced]:
        """Of each type of this resource, in each of its regions and markets, as far as the cloud tells; of the others why not.

        Raises:
            ProviderError: the cloud does not answer.
        """
        ...


def price_of(
    provider: str,
    kind: str,
    region: str | None,
    market: Market,
    *,
    resource: Resource | None = None,
    directory: Path | None = None,
) -> float | None:
    """US dollars an hour, or None where nobody knows.

    `resource` brings what the fleet file says, `directory` (the provider's own) what was refreshed.

    Raises:
        UnknownProviderFault: what was refreshed is damaged; the text says how to mend it.
    """
    if resource and (said := resource.prices.get(kind, {}).get(market)) is not None:
        return said
    place = (provider, kind, region or "", market)
    found = _refreshed(directory).get(place) if directory else None
    found = found or list_prices().get(place)
    return found.usd_per_hour if found else None


def shape_of(provider: str, kind: str) -> Shape | None:
    """What a type of the list is made of; None for one that it does not have."""
    row = _list()[provider]["types"].get(kind) if "types" in _list().get(provider, {}) else None
    if row is None:
        return None
    return Shape(
        type=kind,
        gpus=row.get("gpus", 0),
        gpu_model=row.get("gpu"),
        gpu_memory_gib=row.get("gpu_memory"),
        cpus=row["cpus"],
        memory_gib=float(row["memory"]),
    )


def attached_gpu(provider: str, kind: str) -> tuple[str, float | None]:
    """Model, and memory in GiB, of a GPU that is attached to machines; one that the list does not have goes by its own name."""
    row = _list().get(provider, {}).get("attached", {}).get(kind, {})
    return row.get("gpu", kind), row.get("gpu_memory")


@functools.cache
def list_prices() -> Mapping[tuple[str, str, str, Market], Price]:
    """Every price of the list that comes with fleet."""
    found = {}
    for provider, part in _list().items():
        rows = {**part.get("types", {}), **part.get("attached", {})}
        for kind, row in rows.items():
            for region in part["regions"]:
                for market, key in ((Market.ON_DEMAND, "usd"), (Market.SPOT, "spot")):
                    if key in row:
                        price = Price(
                            provider=provider,
                            type=kind,
                            region=region,
                            market=market,
                            usd_per_hour=float(row[key]),
                            seen_on=part["date"],
                            source=part["document"],
                        )
                        found[price.place] = price
    return found


def refreshed(directory: Path) -> tuple[Price, ...]:
    """What the cloud said at the last refresh; nothing if there was none.

    Raises:
        UnknownProviderFault: the file is damaged.
    """
    return tuple(_refreshed(directory).values())


def believable(
    rows: Iterable[Price], known: Mapping[tuple[str, str, str, Market], Price]
) -> tuple[list[Price], list[str]]:
    """The prices that may be used, and a line for each that may not, with its reason. `known` is what was used until now."""
    rows = list(rows)
    on_demand = {p.place[:3]: p.usd_per_hour for p in (*known.values(), *rows) if p.market is Market.ON_DEMAND}
    fine, refused = [], []
    for price in rows:
        if why := _doubt(price, known.get(price.place), on_demand.get(price.place[:3])):
            where = f"{price.provider} {price.type} {price.region} {price.market}"
            refused.append(f"{where}: {why}; it is not used. If it is right, say it in the fleet file under prices")
        else:
            fine.append(price)
    return fine, refused


def _doubt(price: Price, before: Price | None, on_demand: float | None) -> str | None:
    usd = price.usd_per_hour
    if not math.isfinite(usd) or usd <= 0:
        return f"{usd:g} is no price"
    if price.market is Market.SPOT and on_demand is not None and usd > on_demand:
        return f"spot at ${usd:g} is above on demand at ${on_demand:g}"
    if before and not 1 / GREATEST_JUMP <= usd / before.usd_per_hour <= GREATEST_JUMP:
        return f"${usd:g} is more than {GREATEST_JUMP:g} times away from ${before.usd_per_hour:g} of {before.seen_on}"
    return None


def as_json(rows: Iterable[Price]) -> str:
    """The text of a `prices.json`."""
    said = [
        {
            "provider": p.provider,
            "type": p.type,
            "region": p.region,
            "market": str(p.market),
            "usd_per_hour": p.usd_per_hour,
            "seen_on": p.seen_on.isoformat(),
            "source": p.source,
        }
        for p in rows
    ]
    return json.dumps(said, indent=1)


def _refreshed(directory: Path) -> Mapping[tuple[str, str, str, Market], Price]:
    path = directory / REFRESHED
    try:
        changed = path.stat().st_mtime_ns
    except OSError:
        return {}
    return _read(path, changed)


@functools.lru_cache(maxsize=8)
def _read(path: Path, _changed: int) -> Mapping[tuple[str, str, str, Market], Price]:
    """Read once for each version of the file: offers ask for prices at every pass."""
    try:
        rows = [_row(row) for row in json.loads(path.read_text(encoding="utf-8"))]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise UnknownProviderFault(
            f"{path} cannot be read ({error}); make it anew with: fleet prices refresh"
        ) from error
    return {price.place: price for price in rows}


def _row(row: Mapping[str, Any]) -> Price:
    price = Price(
        provider=str(row["provider"]),
        type=str(row["type"]),
        region=str(row["region"]),
        market=Market(row["market"]),
        usd_per_hour=float(row["usd_per_hour"]),
        seen_on=date.fromisoformat(row["seen_on"]),
        source=str(row["source"]),
    )
    if why := _doubt(price, None, None):
        raise ValueError(why)
    return price


@functools.cache
def _list() -> dict[str, Any]:
    with Path(__file__).with_name("list_prices.toml").open("rb") as file:
        return tomllib.load(file)
