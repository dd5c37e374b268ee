"""One order from the call to its outcome: Google Cloud answers with an operation, which may finish late, or fail late.

Repeating an order is safe at any instant: the request id is derived from the intent, so the same call is the same operation; and
when Google has forgotten the request, the name is taken, by the machine of this very order.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from fleet.errors import (
    BadRequest,
    NoCapacity,
    NotAuthorised,
    ProviderError,
    QuotaExceeded,
    UnknownProviderFault,
)
from fleet.providers.base import Launched, LaunchFailed, LaunchOrder
from fleet.providers.gcp import labels
from fleet.providers.gcp.account import Account
from fleet.providers.gcp.body import in_region, in_zone, name_of, request_id, template_path
from fleet.providers.gcp.errors import failure, reasons, refusal
from fleet.providers.gcp.machines import Place, machines
from fleet.providers.gcp.settings import GcpSettings

LOOK_AGAIN_S = 1.0
LISTED_WITHIN_S = 60.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Begun:
    """A launch that Google Cloud has accepted. Its outcome is what the operation says when it is DONE."""

    order: LaunchOrder
    account: Account
    operation: str
    zone: str | None  # None: Google chooses it, in the order's region

    @property
    def what(self) -> str:
        return f"launch of {name_of(self.order.cluster, self.order.instance)}"

    def launched(self, zone: str) -> Launched:
        name = name_of(self.order.cluster, self.order.instance)
        place = Place(project=self.account.project, zone=zone, name=name)
        return Launched(instance=self.order.instance, cloud_id=str(place))


Outcome = Launched | LaunchFailed | ProviderError


def begin(order: LaunchOrder, said: GcpSettings, account: Account, user_data: str) -> Begun | Outcome:
    """Make the call. A ProviderError as answer: nothing is known of this order.

    Raises:
        ProviderError: as the answer.
    """
    name, zone = name_of(order.cluster, order.instance), order.offer.zone
    query: dict[str, Any] = {"requestId": request_id(order)}
    if zone:
        if said.template:
            query["sourceInstanceTemplate"] = template_path(said.template)
        answer = account.answer("instances.insert", query, in_zone(order, said, zone, user_data), zone=zone)
    else:
        region = order.offer.region
        if not region:
            raise BadRequest(f"resources.{order.resource.name}.zones: is missing; give zones or a region")
        if there := find(account, order):
            return there  # its name is only unique in its zone: a forgotten request would make a second one in another
        answer = account.answer("regionInstances.bulkInsert", query, in_region(order, said, user_data), region=region)
    begun = Begun(order=order, account=account, operation="", zone=zone)
    if answer.status == 409 and "alreadyExists" in reasons(answer) and zone:
        return _taken(begun, zone)
    if not answer.is_fine:
        error = refusal(answer, f"launch of {name}")
        return LaunchFailed(instance=order.instance, error=error) if is_of_this_order(error) else error
    operation = answer.body.get("name")
    if not isinstance(operation, str) or not operation:
        return UnknownProviderFault(f"Google Cloud answered the launch of {name} without an operation")
    begun = Begun(order=order, account=account, operation=operation, zone=zone)
    return outcome(begun, answer.body) or begun


def is_of_this_order(error: ProviderError) -> bool:
    """Whether the refusal means that this order started nothing. Else nothing is known, and the same call is made again."""
    return isinstance(error, NoCapacity | QuotaExceeded | BadRequest | NotAuthorised)


def follow(begun: Begun, deadline: float) -> Outcome | Begun:
    """Look at the operation until it is DONE or the time is up; what is still under way then comes back as it is."""
    while True:
        try:
            if found := outcome(begun, _operation(begun)):
                return found
        except ProviderError as error:
            if time.monotonic() > deadline:
                return error if begun.zone is None else begun
        left = deadline - time.monotonic()
        if left <= 0:
            return begun
        time.sleep(min(LOOK_AGAIN_S, left))  # an operation tells nobody that it is done


def outcome(begun: Begun, operation: Mapping[str, Any]) -> Outcome | None:
    """None: not DONE yet.

    Raises:
        ProviderError: it is DONE, but where the machine is cannot be found out.
    """
    if operation.get("status") != "DONE":
        return None
    if error := failure(operation, begun.what):
        return LaunchFailed(instance=begun.order.instance, error=error)
    if begun.zone:
        return begun.launched(begun.zone)
    if there := find(begun.account, begun.order):
        return there
    error = UnknownProviderFault(f"the {begun.what} is done, but no list shows the machine")
    if _age_s(operation.get("endTime")) > LISTED_WITHIN_S:
        return LaunchFailed(instance=begun.order.instance, error=error)  # it was there, and has ended since
    return error


def _age_s(moment: object) -> float:
    try:
        return (datetime.now(UTC) - datetime.fromisoformat(str(moment))).total_seconds()
    except (ValueError, TypeError):
        return 0.0


def find(account: Account, order: LaunchOrder) -> Launched | None:
    """The machine of this order, in whichever zone it is.

    Raises:
        ProviderError: the list could not be had.
    """
    for machine in machines(account, order.cluster):
        if machine.instance == order.instance:
            return Launched(instance=order.instance, cloud_id=machine.cloud_id)
    return None


def _operation(begun: Begun) -> Mapping[str, Any]:
    what = f"question for the {begun.what}"
    if begun.zone:
        return begun.account.call("zoneOperations.get", what, zone=begun.zone, name=begun.operation)
    region = str(begun.order.offer.region)
    return begun.account.call("regionOperations.get", what, region=region, name=begun.operation)


def _taken(begun: Begun, zone: str) -> Outcome:
    """The name is taken: by this order's own machine, or by somebody else's."""
    order, name = begun.order, name_of(begun.order.cluster, begun.order.instance)
    answer = begun.account.answer("instances.get", zone=zone, name=name)
    if answer.status == 404:
        return UnknownProviderFault(f"{name} existed a moment ago and is gone; asked again at the next pass")
    if not answer.is_fine:
        return refusal(answer, f"question for {name}")
    said = answer.body.get("labels")
    tags = said if isinstance(said, Mapping) else {}
    if (tags.get(labels.CLUSTER), tags.get(labels.INSTANCE)) == (order.cluster, order.instance):
        return begun.launched(zone)
    error = BadRequest(f"a machine called {name} is in {zone} and is not ours; delete it, or choose another `cluster`")
    return LaunchFailed(instance=order.instance, error=error)
