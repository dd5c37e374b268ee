"""Machines that are there: listing them by tag, and ending them."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import replace
from datetime import datetime
from typing import Any

from botocore.exceptions import ClientError

from fleet.errors import NotAuthorised, ProviderError, Throttled
from fleet.providers.aws.access import Access, pages
from fleet.providers.aws.errors import AwsFault, asking, code_of, of_answer
from fleet.providers.aws.request import CLUSTER, RESOURCE, intents_of
from fleet.providers.base import Machine

PAGE = 500
MOST_IN_A_CALL = 200
ENDED = "terminated"
ALIVE = ("pending", "running", "shutting-down", "stopping", "stopped")
UNKNOWN = ("InvalidInstanceID.NotFound", "InvalidInstanceID.Malformed", "InvalidInstanceId")


def list_machines(access: Access, cluster: str) -> list[Machine]:
    """Every machine of this cluster in one place.

    Raises:
        ProviderError: a page could not be had or read.
    """
    filters = [{"Name": f"tag:{CLUSTER}", "Values": [cluster]}, {"Name": "instance-state-name", "Values": list(ALIVE)}]
    with asking(f"list machines in {access.place.region}"):
        ec2 = access.client("ec2")
        found = pages(ec2, "describe_instances", "Reservations", Filters=filters, PaginationConfig={"PageSize": PAGE})
        return [_machine(told) for part in found for told in part["Instances"] if told["State"]["Name"] != ENDED]


def only_one_each(machines: Sequence[Machine]) -> list[Machine]:
    """Of two machines for one intent the first stays; the other is given a name that nobody knows, so that it is ended.

    It takes a dispatcher that lost its answer and its disk at once, and went on elsewhere.
    """
    kept: dict[str, Machine] = {}
    rest = []
    for machine in sorted(machines, key=lambda m: (m.launched_at, m.cloud_id)):
        if kept.setdefault(machine.instance, machine) is not machine:
            rest.append(replace(machine, instance=f"{machine.instance} again"))
    return [*kept.values(), *rest]


def terminate(access: Access, ids: Sequence[str]) -> None:
    """End these. What EC2 does not know has ended.

    Raises:
        ProviderError: some could not be ended; the others were.
    """
    fault: ProviderError | None = None
    for n in range(0, len(ids), MOST_IN_A_CALL):
        fault = _terminate(access.client("ec2"), list(ids[n : n + MOST_IN_A_CALL])) or fault
    if fault:
        raise fault


def _terminate(ec2: Any, ids: list[str]) -> ProviderError | None:
    """EC2 ends all of a call or none: one bad id must not save the others. What could not be ended, if anything.

    Raises:
        ProviderError: it is the same for all of them: no network, no permission, too many calls.
    """
    if not ids:
        return None
    doing = f"terminate {ids[0]}" + (f" and {len(ids) - 1} more" if len(ids) > 1 else "")
    refused = _refusal(ec2, ids, doing)
    if refused is None:
        return None
    fault = of_answer(refused, doing)
    if isinstance(fault, NotAuthorised | Throttled | AwsFault):
        raise fault from refused
    is_unknown = code_of(refused) in UNKNOWN
    if len(ids) == 1:
        return None if is_unknown else fault
    if is_unknown and (left := [id for id in ids if id not in set(_named(refused))]) != ids:
        return _terminate(ec2, left)
    half = len(ids) // 2
    first = _terminate(ec2, ids[:half])
    return _terminate(ec2, ids[half:]) or first


def _refusal(ec2: Any, ids: list[str], doing: str) -> ClientError | None:
    with asking(doing):
        try:
            _ = ec2.terminate_instances(InstanceIds=ids)["TerminatingInstances"]
        except ClientError as error:
            return error
    return None


def _named(error: ClientError) -> Iterator[str]:
    """The ids in the text: "The instance IDs 'i-1, i-2' do not exist"."""
    yield from re.findall(r"i-[0-9a-zA-Z]+", str(error.response["Error"].get("Message", "")))


def _machine(told: Any) -> Machine:
    tags = {str(tag["Key"]): str(tag["Value"]) for tag in told.get("Tags") or ()}
    intents, index = intents_of(tags), int(told["AmiLaunchIndex"])
    cloud_id, launched_at = told["InstanceId"], told["LaunchTime"]
    if not isinstance(cloud_id, str) or not isinstance(launched_at, datetime):
        raise ValueError("a machine without an id or a time")
    return Machine(
        cloud_id=cloud_id,
        cluster=tags[CLUSTER],
        instance=intents[index] if 0 <= index < len(intents) else f"{cloud_id} of no intent",
        resource=tags.get(RESOURCE, ""),
        launched_at=launched_at,
        type=told.get("InstanceType"),
        zone=(told.get("Placement") or {}).get("AvailabilityZone"),
    )
