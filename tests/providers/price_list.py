"""SKUs of Compute Engine as the Cloud Billing Catalog API tells them.

After "Cloud Billing Catalog API v1", services.skus.list: Sku (description, category, serviceRegions, pricingInfo), PricingInfo
(effectiveTime, pricingExpression), PricingExpression (usageUnit, baseUnit, baseUnitConversionFactor, tieredRates), Money (currencyCode,
units as a text, nanos). Descriptions and rates of us-central1 are as "Compute Engine SKUs" has them.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

Json = dict[str, Any]
AMERICAS = ("us-central1", "us-east1", "us-west1")
HOUR = ("h", "hour", "s", 3600)
GIB_HOUR = ("GiBy.h", "gibibyte hour", "By.s", 2**30 * 3600)
GB_HOUR = ("GBy.h", "gigabyte hour", "By.s", 10**9 * 3600)
GIB_MONTH = ("GiBy.mo", "gibibyte month", "By.s", 2.8759101014016e15)


def sku(
    description: str,
    usd: float,
    unit: tuple[str, str, str, float] = HOUR,
    regions: tuple[str, ...] = AMERICAS,
    usage: str | None = None,
    age: timedelta = timedelta(hours=6),
) -> Json:
    """One SKU with one price. `usage`: its usageType, which is that of its description where none is given."""
    name, described, base, factor = unit
    nanos = round(usd * 1e9)
    is_spot = "Preemptible" in description
    group = next(
        (g for word, g in (("Core", "CPU"), ("Ram", "RAM"), ("GPU", "GPU")) if word in description), "LocalSSD"
    )
    expression = {
        "usageUnit": name,
        "usageUnitDescription": described,
        "baseUnit": base,
        "baseUnitConversionFactor": factor,
        "displayQuantity": 1,
        "tieredRates": [{"startUsageAmount": 0, "unitPrice": money(nanos)}],
    }
    return {
        "name": f"services/6F81-5844-456A/skus/{abs(hash(description)) % 10**8}",
        "skuId": "0000-0000-0000",
        "description": description,
        "category": {
            "serviceDisplayName": "Compute Engine",
            "resourceFamily": "Storage" if group == "LocalSSD" else "Compute",
            "resourceGroup": group,
            "usageType": usage or ("Preemptible" if is_spot else "OnDemand"),
        },
        "serviceRegions": list(regions),
        "pricingInfo": [
            {
                "summary": "",
                "pricingExpression": expression,
                "currencyConversionRate": 1,
                "effectiveTime": (datetime.now(UTC) - age).isoformat(timespec="milliseconds").replace("+00:00", "Z"),
            }
        ],
        "serviceProviderName": "Google",
    }


def money(nanos: int, currency: str = "USD") -> Json:
    return {"currencyCode": currency, "units": str(nanos // 10**9), "nanos": nanos % 10**9}


def rate_of(found: Json) -> Json:
    """The pricingExpression, to be damaged."""
    expression: Json = found["pricingInfo"][0]["pricingExpression"]
    return expression


def americas() -> list[Json]:
    """A price list with what our types are made of, among much that they are not."""
    spot, with_spot = "Spot Preemptible ", " attached to Spot Preemptible VMs"
    return [
        sku("G2 Instance Core running in Americas", 0.024988),
        sku("G2 Instance Ram running in Americas", 0.002927, GIB_HOUR),
        sku("Nvidia L4 GPU running in Americas", 0.56004),
        sku(f"{spot}G2 Instance Core running in Americas", 0.009995),
        sku(f"{spot}G2 Instance Ram running in Americas", 0.001171, GIB_HOUR),
        sku(f"Nvidia L4 GPU{with_spot} running in Americas", 0.224016),
        sku("N1 Predefined Instance Core running in Americas", 0.031611),
        sku("N1 Predefined Instance Ram running in Americas", 0.004237, GIB_HOUR),
        sku(f"{spot}N1 Predefined Instance Core running in Americas", 0.006655),
        sku(f"{spot}N1 Predefined Instance Ram running in Americas", 0.000892, GIB_HOUR),
        sku("Nvidia Tesla T4 GPU running in Americas", 0.35),
        sku(f"Nvidia Tesla T4 GPU{with_spot} running in Americas", 0.14, usage="OnDemand"),  # as Google has some
        sku("E2 Instance Core running in Americas", 0.021811),
        sku("E2 Instance Ram running in Americas", 0.002923, GIB_HOUR),
        sku("A2 Instance Core running in Americas", 0.031611),
        sku("A2 Instance Ram running in Americas", 0.004237, GIB_HOUR),
        sku("Nvidia Tesla A100 80GB GPU running in Americas", 3.92808),
        sku("A3 Instance Core running in Americas", 0.029275),
        sku("A3 Instance Ram running in Americas", 0.002549, GIB_HOUR),
        sku("Nvidia H100 80GB GPU running in Americas", 9.796551),
        sku("Nvidia H100 80GB Plus GPU running in Americas", 10.344276),
        sku("SSD backed Local Storage", 0.08, GIB_MONTH),
        sku(f"SSD backed Local Storage{with_spot}", 0.048, GIB_MONTH),
        *NOT_OURS,
    ]


NOT_OURS = [
    sku("Commitment v1: G2 Cpu in Americas for 1 Year", 0.0157, usage="Commit1Yr"),
    sku("Commitment v1: Nvidia L4 GPU running in Americas for 3 Years", 0.25, usage="Commit3Yr"),
    sku("G2 Instance Core running in Americas", 0.0001, usage="Commit1Yr"),
    sku("G2 Custom Instance Core running in Americas", 0.0262),
    sku("G2 Sole Tenancy Instance Core running in Americas", 0.0275),
    sku("Reserved G2 Core in Americas", 0.0003),
    sku("Nvidia L4 GPU attached to DWS Defined Duration VMs running in Americas", 0.1),
    sku("Reserved Nvidia H100 80GB Mega GPU in Americas in Calendar Mode", 4.8),
    sku("Nvidia L4 Virtual Workstation GPU running in Americas", 0.2),
    sku("Memory Optimized Upgrade Premium for Memory-optimized Instance Core running in Americas", 0.005),
    sku("N1 Predefined Instance Core running in Frankfurt", 0.0407, regions=("europe-west3",)),
    sku("VM state: suspended instance Ram in Americas", 0.0006, GIB_HOUR),
    sku("Network Internet Egress from Americas to Americas", 0.12, ("GiBy", "gibibyte", "By", 2**30)),
]
