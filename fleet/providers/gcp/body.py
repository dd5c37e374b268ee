"""One order as the body of `instances.insert`, or of `regionInstances.bulkInsert` where Google may choose the zone."""

from __future__ import annotations

import uuid
from collections.abc import Mapping
from datetime import timedelta
from typing import Any

from fleet.errors import BadRequest
from fleet.model import Market, Offer
from fleet.providers.base import LaunchOrder
from fleet.providers.gcp import labels
from fleet.providers.gcp.settings import GcpSettings

# The namespace of our request ids: the same intent gives the same UUID, in every life of the dispatcher.
REQUESTS = uuid.UUID("6f6d2a0e-6a55-5c39-9a3b-0a1f0c1d7b52")
# After max_lifetime a machine drains for 15 min, then ends itself; Google deletes it if all of that failed.
AFTER_LIFETIME = timedelta(minutes=30)
LONGEST_RUN = timedelta(days=120)  # what maxRunDuration takes


def name_of(cluster: str, instance: str) -> str:
    """What the machine is called: as unique as the intent, so that a name that is taken is this order's own machine."""
    name = f"fleet-{cluster}-{instance}"
    if len(name) > labels.LONGEST:
        raise BadRequest(f"{name} is too long for a name in Google Cloud; give the fleet a shorter `cluster`")
    return name


def request_id(order: LaunchOrder) -> str:
    return str(uuid.uuid5(REQUESTS, f"{order.cluster}/{order.instance}"))


def in_zone(order: LaunchOrder, said: GcpSettings, zone: str, user_data: str) -> dict[str, Any]:
    """The body of `instances.insert`."""
    place = f"zones/{zone}"
    return {"name": name_of(order.cluster, order.instance)} | _machine(order, said, place, user_data)


def in_region(order: LaunchOrder, said: GcpSettings, user_data: str) -> dict[str, Any]:
    """The body of `regionInstances.bulkInsert` for this one machine: all that it makes share one metadata, and with it a join
    token, so one call is one machine (docs/adr/0031-google-cloud.md)."""
    name = name_of(order.cluster, order.instance)
    body: dict[str, Any] = {"count": "1", "minCount": "1", "perInstanceProperties": {name: {}}}
    if said.template:
        body["sourceInstanceTemplate"] = template_path(said.template)
    return body | {"instanceProperties": _machine(order, said, "", user_data)}


def template_path(template: str) -> str:
    return template if "/" in template else f"global/instanceTemplates/{template}"


def _machine(order: LaunchOrder, said: GcpSettings, place: str, user_data: str) -> dict[str, Any]:
    """`place`: "zones/Z", or empty where types go by their bare names."""

    def path(kind: str, name: str) -> str:
        return f"{place}/{kind}/{name}" if place and "/" not in name else name

    tags = {
        labels.CLUSTER: order.cluster,
        labels.INSTANCE: order.instance,
        labels.RESOURCE: labels.written(order.resource.name),
    }
    metadata = {**said.metadata, "user-data": user_data}
    body: dict[str, Any] = {
        "machineType": path("machineTypes", order.offer.type),
        "labels": {**said.labels, **tags},
        "metadata": {"items": [{"key": key, "value": value} for key, value in metadata.items()]},
        "scheduling": _scheduling(order, said),
    }
    if disk := _disk(said, {**said.labels, **tags}, path):
        body["disks"] = [disk]
    if network := _network(order.offer, said):
        body["networkInterfaces"] = [network]
    if said.network_tags:
        body["tags"] = {"items": list(said.network_tags)}
    if said.service_account:
        scopes = said.scopes or ("https://www.googleapis.com/auth/cloud-platform",)
        body["serviceAccounts"] = [{"email": said.service_account, "scopes": list(scopes)}]
    if said.gpu_type and said.gpus:
        kind = path("acceleratorTypes", said.gpu_type)
        body["guestAccelerators"] = [{"acceleratorType": kind, "acceleratorCount": said.gpus}]
    if said.min_cpu_platform:
        body["minCpuPlatform"] = said.min_cpu_platform
    if said.shielded:
        body["shieldedInstanceConfig"] = dict(said.shielded)
    return merged(body, said.launch_spec)


def _scheduling(order: LaunchOrder, said: GcpSettings) -> dict[str, Any]:
    is_spot = order.offer.market is Market.SPOT
    scheduling: dict[str, Any] = {"automaticRestart": False, "provisioningModel": "SPOT" if is_spot else "STANDARD"}
    if is_spot and said.is_preemptible:
        scheduling = {"automaticRestart": False, "preemptible": True}
    if is_spot or order.offer.gpus:
        scheduling["onHostMaintenance"] = "TERMINATE"  # neither can be moved to another host
    lifetime = order.resource.max_lifetime
    if lifetime and not said.is_preemptible:
        longest = min(lifetime + order.resource.boot_timeout + AFTER_LIFETIME, LONGEST_RUN)
        scheduling["maxRunDuration"] = {"seconds": str(int(longest.total_seconds()))}
    if ("maxRunDuration" in scheduling or is_spot) and not said.is_preemptible:
        scheduling["instanceTerminationAction"] = "DELETE"  # stopped, its disk would still be paid for
    return scheduling


def _disk(said: GcpSettings, tags: Mapping[str, str], path: Any) -> dict[str, Any] | None:
    if not said.image and not said.disk_snapshot:
        return None  # the template's
    source = {"sourceSnapshot": _snapshot(said.disk_snapshot)} if said.disk_snapshot else {"sourceImage": said.image}
    params: dict[str, Any] = {**source, "labels": dict(tags)}
    if said.disk_gib:
        params["diskSizeGb"] = str(said.disk_gib)
    if said.disk_type:
        params["diskType"] = path("diskTypes", said.disk_type)
    return {"boot": True, "autoDelete": True, "initializeParams": params}


def _snapshot(snapshot: str) -> str:
    return snapshot if "/" in snapshot else f"global/snapshots/{snapshot}"


def _network(offer: Offer, said: GcpSettings) -> dict[str, Any] | None:
    subnet = said.subnet(offer.region or "")
    if said.template and not subnet and not said.network:
        return None
    network: dict[str, Any] = {}
    if subnet:
        network["subnetwork"] = subnet
    if said.network or not subnet:
        name = said.network or "default"
        network["network"] = name if "/" in name else f"global/networks/{name}"
    if said.has_public_ip:
        network["accessConfigs"] = [{"name": "External NAT", "type": "ONE_TO_ONE_NAT"}]
    return network


def merged(body: Mapping[str, Any], over: Mapping[str, Any]) -> dict[str, Any]:
    """`over` wins; mappings are merged, all else is replaced. Our labels cannot be overridden: without them nobody ends the machine."""
    result = dict(body)
    for key, value in over.items():
        mine = result.get(key)
        result[key] = merged(mine, value) if isinstance(mine, Mapping) and isinstance(value, Mapping) else value
    if "labels" in body and isinstance(result.get("labels"), Mapping):
        ours = {k: v for k, v in body["labels"].items() if k in (labels.CLUSTER, labels.INSTANCE, labels.RESOURCE)}
        result["labels"] = {**result["labels"], **ours}
    return result
