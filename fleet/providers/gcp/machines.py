"""Our machines in a project, from the list of all zones: whole, or an error."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime

from fleet.errors import UnknownProviderFault
from fleet.providers.base import Machine
from fleet.providers.gcp import labels
from fleet.providers.gcp.account import Account

# Without this each machine would bring its user-data along, 16 KB a piece.
FIELDS = "kind,items/*/instances(name,zone,status,creationTimestamp,labels),items/*/warning/code,nextPageToken"
KIND = "compute#instanceAggregatedList"


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """Where a machine is, and what it is called there. As a text it is our `cloud_id`."""

    project: str
    zone: str
    name: str

    def __str__(self) -> str:
        return f"{self.project}/{self.zone}/{self.name}"


def place_of(cloud_id: str) -> Place | None:
    """None: it never was an id of ours."""
    parts = cloud_id.split("/")
    return Place(project=parts[0], zone=parts[1], name=parts[2]) if len(parts) == 3 and all(parts) else None


def machines(account: Account, cluster: str) -> Iterator[Machine]:
    """All under this cluster's label, in any state: one that is stopped has a disk that is paid for.

    Raises:
        ProviderError: a page is missing, or a zone did not answer.
    """
    query = {"filter": f"labels.{labels.CLUSTER}={cluster}", "fields": FIELDS, "returnPartialSuccess": "false"}
    for page in account.pages("instances.aggregatedList", "list of machines", query):
        items = page.get("items", {})
        # An answer that is not this list must not pass for an empty one: then every machine would be gone.
        if page.get("kind") != KIND:
            raise unreadable(f"it is {str(page.get('kind'))[:40]}, not {KIND}")
        if not isinstance(items, Mapping):
            raise unreadable("its items are no object")
        for where, part in items.items():
            if not isinstance(part, Mapping):
                raise unreadable(f"{where} is no object")
            yield from _of_a_zone(account.project, cluster, str(where), part)


def _of_a_zone(project: str, cluster: str, where: str, part: Mapping[str, object]) -> Iterator[Machine]:
    warning = part.get("warning")
    code = warning.get("code") if isinstance(warning, Mapping) else None
    if code not in (None, "NO_RESULTS_ON_PAGE"):
        raise UnknownProviderFault(
            f"the list of machines is not whole: {where} says {code}; asked again at the next pass"
        )
    found = part.get("instances", [])
    if not isinstance(found, list):
        raise unreadable(f"the instances of {where} are no list")
    for each in found:
        machine = _machine(project, each)
        if machine.cluster == cluster:
            yield machine


def _machine(project: str, each: object) -> Machine:
    try:
        if not isinstance(each, Mapping):
            raise TypeError("no object")
        tags = each["labels"]
        zone, name = str(each["zone"]).rpartition("/")[2], str(each["name"])
        at = datetime.fromisoformat(each["creationTimestamp"])
        return Machine(
            cloud_id=str(Place(project=project, zone=zone, name=name)),
            cluster=str(tags[labels.CLUSTER]),
            instance=str(tags.get(labels.INSTANCE) or name),
            resource=labels.read(str(tags.get(labels.RESOURCE) or "")),
            launched_at=at if at.tzinfo else at.replace(tzinfo=UTC),
        )
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise unreadable(f"{error!r:.80}") from error


def unreadable(why: str) -> UnknownProviderFault:
    return UnknownProviderFault(f"Google Cloud's list of machines cannot be read: {why}")
