"""Google's public price list of Compute Engine: an hour of a core, a GiB or a GPU, by region and market, as far as it can be believed.

Documents: "Cloud Billing Catalog API v1", services.skus.list (Sku, PricingInfo, PricingExpression, Money), and "Get publicly available
Google Cloud pricing information". It wants no permission, but the Cloud Billing API has to be enabled in the project that asks.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

from fleet.errors import NotAuthorised, ProviderError, UnknownProviderFault
from fleet.model import Market
from fleet.providers.gcp.account import Account
from fleet.providers.gcp.errors import refusal
from fleet.providers.gcp.parts import NotSold, Part, Unit, market_of, part_of
from fleet.providers.rest import Answer

PAGE = 5000  # the most that a page may hold
WHAT = "question for prices"
# The document: without a range of time, effectiveTime is "within the last 12 hours". An older one is of a list that nobody keeps.
OLDEST = timedelta(hours=48)
CLOCKS_DIFFER = timedelta(hours=1)
LONGEST_MONTH_S, SHORTEST_MONTH_S = 31 * 86400.0, 28 * 86400.0
# usageUnit -> (baseUnit, the least and the most baseUnitConversionFactor that can be meant)
UNITS = {
    "h": ("s", 3600.0, 3600.0),
    "GiBy.h": ("By.s", 2**30 * 3600.0, 2**30 * 3600.0),
    "GBy.h": ("By.s", 1e9 * 3600.0, 1e9 * 3600.0),
    "GiBy.mo": ("By.s", 2**30 * SHORTEST_MONTH_S, 2**30 * LONGEST_MONTH_S),
}
# What is in an hour of one: seconds of a core or a GPU, seconds of the bytes of a GiB.
HOUR = {Unit.CORE: ("s", 3600.0), Unit.GPU: ("s", 3600.0)}
HOUR |= {Unit.RAM: ("By.s", 2**30 * 3600.0), Unit.LOCAL_SSD: ("By.s", 2**30 * 3600.0)}

Key = tuple[Part, str, Market]


class _Unreadable(Exception):
    """Why the price of a SKU cannot be used."""


@dataclass(slots=True)
class Catalog:
    """What was read. A part that has two prices, or one that cannot be read, has none."""

    _rates: dict[Key, set[float]] = field(default_factory=dict)
    _faults: dict[Key, str] = field(default_factory=dict)
    skus: int = 0

    def rate(self, part: Part, region: str, market: Market) -> float:
        """US dollars an hour of one.

        Raises:
            NotSold: there is no price, or none that can be believed.
        """
        key = (part, region, market)
        found = self._rates.get(key, set())
        if key in self._faults:
            raise NotSold(f"has a price of {part} that cannot be used: {self._faults[key]}")
        if not found:
            raise NotSold(f"has no price of {part}")
        if len(found) > 1:
            raise NotSold(f"has {len(found)} prices of {part}: ${min(found):g} to ${max(found):g}")
        return next(iter(found))

    def take(self, sku: object, at: datetime) -> None:
        """Keep what a machine of ours may be made of."""
        self.skus += 1
        if not isinstance(sku, Mapping) or not isinstance(description := sku.get("description"), str):
            return
        category = sku.get("category")
        part = part_of(description)
        market = market_of(description, category.get("usageType")) if isinstance(category, Mapping) else None
        regions = sku.get("serviceRegions")
        if part is None or market is None or not isinstance(regions, list):
            return
        keys = [(part, region, market) for region in regions if isinstance(region, str)]
        try:
            usd = hourly(sku, part.unit, at)
        except _Unreadable as error:
            self._faults |= dict.fromkeys(keys, str(error))
            return
        for key in keys:
            self._rates.setdefault(key, set()).add(usd)


def read_catalog(account: Account, at: datetime) -> Catalog:
    """All of it: tens of thousands of SKUs, in pages.

    Raises:
        NotAuthorised: the API is not enabled; the text says how it is.
        ProviderError: it could not be had whole. A list with a hole would make a machine cheaper than it is.
    """
    found = Catalog()
    for page in _pages(account):
        skus = page.get("skus", [])
        if not isinstance(skus, list):
            raise UnknownProviderFault(f"Google Cloud answered the {WHAT} with what cannot be read: skus is no list")
        for sku in skus:
            found.take(sku, at)
    if not found.skus:
        raise UnknownProviderFault("Google Cloud's price list is empty; ask again later")
    return found


def reach(account: Account) -> None:
    """Whether the price list may be asked for, by one line of it.

    Raises:
        ProviderError: it may not; the text says the fix.
    """
    _asked(account, {"pageSize": 1, "currencyCode": "USD", "fields": "skus(skuId)"})


def _pages(account: Account) -> Iterator[Mapping[str, Any]]:
    query = {
        "currencyCode": "USD",
        "pageSize": PAGE,
        "fields": "skus(description,category,serviceRegions,pricingInfo),nextPageToken",
    }
    token: object = None
    seen: set[str] = set()
    while True:
        page = _asked(account, {**query, "pageToken": token})
        yield page
        token = page.get("nextPageToken")
        if token in (None, ""):
            return
        if not isinstance(token, str) or token in seen:
            raise UnknownProviderFault(
                "Google Cloud's price list cannot be read whole: its nextPageToken leads nowhere"
            )
        seen.add(token)


def _asked(account: Account, query: Mapping[str, Any]) -> Mapping[str, Any]:
    answer = account.price_list(query)
    if not answer.is_fine:
        raise _refused(answer, account.project)
    return answer.body


def _refused(answer: Answer, project: str) -> ProviderError:
    """An API that is not enabled is the usual one: its fix is not in the role of images/iam."""
    said = answer.body.get("error")
    told: Mapping[str, Any] = said if isinstance(said, Mapping) else {}
    details = [d for key in ("details", "errors") if isinstance(told.get(key), list) for d in told[key]]
    reasons = {str(d.get("reason")) for d in details if isinstance(d, Mapping)}
    if "quota project" in str(told.get("message")):
        fix = f"name one: gcloud auth application-default set-quota-project {project}"
        return NotAuthorised(f"Google Cloud refused the {WHAT}: these credentials name no project that asks; {fix}")
    if reasons & {"SERVICE_DISABLED", "accessNotConfigured"}:
        whose = _consumer(details) or project
        fix = f"enable it: gcloud services enable cloudbilling.googleapis.com --project={whose}"
        return NotAuthorised(
            f"Google Cloud refused the {WHAT}: the Cloud Billing API is not enabled in project {whose}; {fix}"
        )
    return refusal(answer, WHAT)


def _consumer(details: list[Any]) -> str | None:
    """The project that asked, as Google sees it: its number."""
    for detail in details:
        metadata = detail.get("metadata") if isinstance(detail, Mapping) else None
        consumer = metadata.get("consumer") if isinstance(metadata, Mapping) else None
        if isinstance(consumer, str) and consumer.removeprefix("projects/").replace("-", "").isalnum():
            return consumer.removeprefix("projects/")
    return None


def hourly(sku: Mapping[str, Any], unit: Unit, at: datetime) -> float:
    """US dollars an hour of one.

    Raises:
        _Unreadable: it is not what the API documents, or of another unit, currency or time.
    """
    try:
        expression = _in_force(sku["pricingInfo"], at)["pricingExpression"]
        factor = _factor(expression, unit)
        usd = max(_dollars(tier["unitPrice"]) for tier in expression["tieredRates"])  # the dearest: a budget is hard
    except (KeyError, TypeError, ValueError, AttributeError, OverflowError) as error:
        raise _Unreadable(f"it cannot be read ({type(error).__name__})") from error
    if usd <= 0:
        raise _Unreadable(f"{usd:g} is no price")
    return usd / factor * HOUR[unit][1]


def _in_force(rows: list[Mapping[str, Any]], at: datetime) -> Mapping[str, Any]:
    """The newest that holds already."""
    dated = [(datetime.fromisoformat(row["effectiveTime"]), row) for row in rows]
    begun = [(since, row) for since, row in dated if since <= at + CLOCKS_DIFFER]
    if not begun:
        raise _Unreadable("it does not hold yet")
    since, newest = max(begun, key=lambda pair: pair[0])
    if at - since > OLDEST:
        raise _Unreadable(f"it is of {since:%Y-%m-%d}, and stale")
    return newest


def _factor(expression: Mapping[str, Any], unit: Unit) -> float:
    """How many base units one usage unit is."""
    usage, factor = expression["usageUnit"], float(expression["baseUnitConversionFactor"])
    base, least, most = UNITS.get(usage, ("", 0.0, 0.0))
    is_ours = base == expression["baseUnit"] == HOUR[unit][0]
    if not is_ours or not least * (1 - 1e-6) <= factor <= most * (1 + 1e-6):
        raise _Unreadable(f"its unit is {str(usage)[:20]}, which is no unit of {unit}")
    return factor


def _dollars(money: Mapping[str, Any]) -> float:
    units, nanos = money.get("units", "0"), money.get("nanos", 0)
    if isinstance(units, bool) or isinstance(nanos, bool) or not isinstance(nanos, int):
        raise TypeError("no amount")
    if money["currencyCode"] != "USD":
        raise _Unreadable(f"it is in {str(money['currencyCode'])[:10]}")
    usd = int(units) + nanos / 1e9
    if not math.isfinite(usd) or usd < 0:
        raise _Unreadable(f"{usd:g} is no price")
    return usd
