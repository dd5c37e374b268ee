"""One CreateFleet of type instant, as EC2 reads and answers it. Source: CreateFleet (EC2 API Reference)."""

from __future__ import annotations

import re
from dataclasses import dataclass

NS = "http://ec2.amazonaws.com/doc/2016-11-15/"
Pool = tuple[str, str, str]  # type, zone or subnet, market


@dataclass(frozen=True, kw_only=True)
class Asked:
    """What matters of it."""

    template: str
    pools: tuple[Pool, ...]
    most_usd: float
    version: str

    @property
    def look(self) -> dict[str, str]:
        """Is its template there?"""
        return {"Action": "DescribeLaunchTemplates", "Version": self.version, "LaunchTemplateName.1": self.template}

    def run(self, template: dict[str, str], pool: Pool) -> dict[str, str]:
        """The machine that EC2 makes of the template in this pool, as a RunInstances."""
        start = "LaunchTemplateData."
        data = {key.removeprefix(start): value for key, value in template.items() if key.startswith(start)}
        kind, place, market = pool
        data |= {"Action": "RunInstances", "Version": self.version, "MinCount": "1", "MaxCount": "1"}
        data |= {
            "InstanceType": kind,
            "SubnetId" if place.startswith("subnet-") else "Placement.AvailabilityZone": place,
        }
        return data | ({"InstanceMarketOptions.MarketType": "spot"} if market == "spot" else {})


def asked_of(parameters: dict[str, str]) -> Asked:
    """Of its parameters."""
    assert parameters["Type"] == "instant"
    assert parameters["TargetCapacitySpecification.TotalTargetCapacity"] == "1"
    market = parameters["TargetCapacitySpecification.DefaultTargetCapacityType"]
    start = "LaunchTemplateConfigs.1."
    rows: dict[int, dict[str, str]] = {}
    for key, value in parameters.items():
        if found := re.fullmatch(re.escape(start) + r"Overrides\.(\d+)\.(\w+)", key):
            rows.setdefault(int(found[1]), {})[found[2]] = value
    pools = tuple(
        (row["InstanceType"], row.get("SubnetId") or row["AvailabilityZone"], market) for _, row in sorted(rows.items())
    )
    assert len(set(pools)) == len(pools), "InvalidFleetConfig: duplicate instance pools"
    return Asked(
        template=parameters[start + "LaunchTemplateSpecification.LaunchTemplateName"],
        pools=pools,
        most_usd=float(parameters.get("SpotOptions.MaxTotalPrice", "inf")),
        version=parameters["Version"],
    )


def fleet_answer(refused: list[tuple[Pool, str]], given: Pool | None, machine: str) -> bytes:
    """As EC2 writes it: a machine, and errors for the pools that it tried before."""
    errors = "".join(
        f"<item>{_overrides(pool)}<lifecycle>{pool[2]}</lifecycle><errorCode>{code}</errorCode>"
        f"<errorMessage>no {pool[0]} in {pool[1]}</errorMessage></item>"
        for pool, code in refused
    )
    made = ""
    if given:
        made = (
            f"<item>{_overrides(given)}<lifecycle>{given[2]}</lifecycle><instanceIds><item>{machine}</item></instanceIds>"
            f"<instanceType>{given[0]}</instanceType></item>"
        )
    return (
        f'<CreateFleetResponse xmlns="{NS}"><requestId>r</requestId><fleetId>fleet-1</fleetId>'
        f"<errorSet>{errors}</errorSet><fleetInstanceSet>{made}</fleetInstanceSet></CreateFleetResponse>"
    ).encode()


def _overrides(pool: Pool) -> str:
    place = "subnetId" if pool[1].startswith("subnet-") else "availabilityZone"
    inside = f"<overrides><instanceType>{pool[0]}</instanceType><{place}>{pool[1]}</{place}></overrides>"
    return f"<launchTemplateAndOverrides>{inside}</launchTemplateAndOverrides>"
