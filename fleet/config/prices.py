"""`prices:` of a resource: what an hour of a type costs, where the user knows it better than any list."""

from __future__ import annotations

from fleet.config.quantities import money
from fleet.config.section import Section
from fleet.model import Market


def read_prices(part: Section, types: tuple[str, ...], gpu_type: object = None) -> dict[str, dict[Market, float]]:
    """`{g5.xlarge: 1.006}` is on demand; `{g5.xlarge: {on_demand: 1.006, spot: 0.4}}` says both. Of types of this resource
    alone, and of the GPU that is attached to them (`gpu_type`).
    """
    table = part.section("prices")
    found: dict[str, dict[Market, float]] = {}
    for kind, value in table.items():
        if types and kind not in types and kind != gpu_type:
            table.wrong(kind, f"is not among instance_types: {', '.join(types)}")
        found[kind] = _of_one(table, kind, value)
    return found


def _of_one(table: Section, kind: str, value: object) -> dict[Market, float]:
    if not isinstance(value, dict):
        usd = table.positive(kind, money, None)
        return {} if usd is None else {Market.ON_DEMAND: usd}
    markets = table.section(kind)
    read = {market: markets.positive(market.value, money, None) for market in Market}
    markets.no_more()
    said = {market: usd for market, usd in read.items() if usd is not None}
    if said.get(Market.SPOT, 0.0) > said.get(Market.ON_DEMAND, float("inf")):
        markets.wrong("spot", f"{said[Market.SPOT]:g} is above on_demand, {said[Market.ON_DEMAND]:g}")
    return said
