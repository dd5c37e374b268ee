"""How many vCPUs of a family the account may run in a region and market, by Service Quotas. Unknown is not zero.

Source: "Amazon EC2 instance type quotas" and "Spot Instance quotas" (EC2 User Guide), "Amazon EC2 endpoints and quotas" (AWS General
Reference).
"""

from __future__ import annotations

import math
import re
from collections import Counter
from typing import Any

from fleet.errors import ProviderError
from fleet.model import Market
from fleet.providers.aws.access import pages
from fleet.providers.aws.errors import asking
from fleet.providers.aws.request import CLUSTER
from fleet.providers.aws.shapes import Shape, read_shapes

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
NAMES = {  # as the console of Service Quotas has them
    "L-1216C47A": "Running On-Demand Standard (A, C, D, H, I, M, R, T, Z) instances",
    "L-DB2E81BA": "Running On-Demand G and VT instances",
    "L-417A185B": "Running On-Demand P instances",
    "L-1945791B": "Running On-Demand Inf instances",
    "L-2C3B7624": "Running On-Demand Trn instances",
    "L-6E869C2A": "Running On-Demand DL instances",
    "L-74FC7D96": "Running On-Demand F instances",
    "L-7295265B": "Running On-Demand X instances",
    "L-34B43A08": "All Standard (A, C, D, H, I, M, R, T, Z) Spot Instance Requests",
    "L-3819A6DF": "All G and VT Spot Instance Requests",
    "L-7212CCBC": "All P4, P3 and P2 Spot Instance Requests",
    "L-C4BD4855": "All P5 Spot Instance Requests",
    "L-B5D1601B": "All Inf Spot Instance Requests",
    "L-6B0D517C": "All Trn Spot Instance Requests",
    "L-85EED4F7": "All DL Spot Instance Requests",
    "L-88CF9481": "All F Spot Instance Requests",
    "L-E3A00192": "All X Spot Instance Requests",
}
# Families that share a quota with another.
ALIKE = {"gr": "g", "vt": "g", "im": "standard", "is": "standard"}
STANDARD = tuple("acdhimrtz")
MOST_TYPES_IN_A_CALL = 100  # of DescribeInstanceTypes
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
        with asking(f"read quota {code}"):
            value = quotas.get_service_quota(ServiceCode="ec2", QuotaCode=code)["Quota"]["Value"]
    except ProviderError:
        return None  # no permission, no such service here, an answer that is none: it does not say that we may not
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    return float(value) if is_number and math.isfinite(value) and value >= 0 else None


def read_others(ec2: Any, cluster: str) -> dict[str, float]:
    """vCPUs that the account runs by quota code, without machines of this cluster: those are counted from their intents on."""
    filters = [{"Name": "instance-state-name", "Values": ["pending", "running"]}]
    found = pages(ec2, "describe_instances", "Reservations", Filters=filters, PaginationConfig={"PageSize": 1000})
    counts: Counter[tuple[str, Market]] = Counter()
    for machine in (m for part in found for m in part["Instances"]):
        if {"Key": CLUSTER, "Value": cluster} not in (machine.get("Tags") or ()):
            is_spot = machine.get("InstanceLifecycle") == "spot"
            counts[str(machine["InstanceType"]), Market.SPOT if is_spot else Market.ON_DEMAND] += 1
    types = sorted({type_ for type_, _ in counts})
    shapes: dict[str, Shape] = {}
    for n in range(0, len(types), MOST_TYPES_IN_A_CALL):
        shapes |= read_shapes(ec2, types[n : n + MOST_TYPES_IN_A_CALL])
    held: Counter[str] = Counter()
    for (type_, market), count in counts.items():
        if (code := quota_code(type_, market)) and type_ in shapes:
            held[code] += count * shapes[type_].cpus
    return {code: float(cpus) for code, cpus in held.items()}


def how_to_raise(code: str, region: str, cpus: float) -> str:
    """The command that asks for so many vCPUs."""
    return (
        f"ask AWS for more: aws service-quotas request-service-quota-increase --service-code ec2 --quota-code {code} "
        f"--desired-value {math.ceil(cpus)} --region {region}"
    )
