"""How many vCPUs of a family the account may run in a region and market, by Service Quotas. Unknown is not zero.

Source: "Amazon EC2 instance type quotas" and "Spot Instance quotas" (EC2 User Guide), "Amazon EC2 endpoints and quotas" (AWS General
Reference).
"""

from __future__ import annotations

import math
import re
from typing import Any

from botocore.exceptions import BotoCoreError, ClientError

from fleet.model import Market

ON_DEMAND = {
    "standard": "L-1216C47A",
    "g": "L-DB2E81BA",
    "p": "L-417A185B",
    "inf": "L-1945791B",
    "trn": "L-2C3B7624",
    "dl": "L-6E869C2A",
    "f": "L-74FC7D96",
    "x": "L-7295265B",
}
SPOT = {
    "standard": "L-34B43A08",
    "g": "L-3819A6DF",
    "p": "L-7212CCBC",  # p2, p3, p4
    "p5": "L-C4BD4855",
    "inf": "L-B5D1601B",
    "trn": "L-6B0D517C",
    "dl": "L-85EED4F7",
    "f": "L-88CF9481",
    "x": "L-E3A00192",
}
# Families that share a quota with another.
ALIKE = {"gr": "g", "vt": "g", "im": "standard", "is": "standard"}
STANDARD = tuple("acdhimrtz")
NEW_P = 5  # from this generation on spot of P has another quota; of p6 the documents do not say which


def quota_code(type: str, market: Market) -> str | None:
    """The code of the quota that counts this type; None: not known here."""
    match = re.match(r"([a-z]+)(\d+)", type)
    if match is None:
        return None
    letters, generation = match[1], int(match[2])
    family = ALIKE.get(letters, "standard" if letters in STANDARD else letters)
    if market is Market.ON_DEMAND:
        return ON_DEMAND.get(family)
    if family == "p" and generation >= NEW_P:
        return SPOT["p5"] if generation == NEW_P else None
    return SPOT.get(family)


def read_quota(quotas: Any, code: str) -> float | None:
    """So many vCPUs; None: it could not be read."""
    try:
        value = quotas.get_service_quota(ServiceCode="ec2", QuotaCode=code)["Quota"]["Value"]
    except (ClientError, BotoCoreError, KeyError, TypeError, ValueError):
        return None  # no permission, no such service here, an answer that is none: it does not say that we may not
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    return float(value) if is_number and math.isfinite(value) and value >= 0 else None
