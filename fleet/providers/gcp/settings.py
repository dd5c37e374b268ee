"""The keys of a resource of provider gcp, read once and checked: what is wrong is a BadRequest with its key and the fix."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from fleet.model import Resource
from fleet.providers.own_keys import OwnKeys

DEFAULT_DISK_GIB = 100
# What makes a launch ours cannot be written over: by its name it is found again, and by its metadata it finds its dispatcher.
OURS = {
    "name": "a machine is called by its cluster and its intent",
    "metadata": "what else a machine is to be told stands in the resource's own metadata",
}
SHIELDED = {
    "secure_boot": "enableSecureBoot",
    "vtpm": "enableVtpm",
    "integrity_monitoring": "enableIntegrityMonitoring",
}
# `gcloud compute instances create --scopes`: its aliases
SCOPES = {
    "bigquery": "bigquery",
    "cloud-platform": "cloud-platform",
    "compute-ro": "compute.readonly",
    "compute-rw": "compute",
    "datastore": "datastore",
    "logging-write": "logging.write",
    "monitoring": "monitoring",
    "monitoring-write": "monitoring.write",
    "pubsub": "pubsub",
    "service-control": "servicecontrol",
    "service-management": "service.management.readonly",
    "storage-full": "devstorage.full_control",
    "storage-ro": "devstorage.read_only",
    "storage-rw": "devstorage.read_write",
    "trace": "trace.append",
    "userinfo-email": "userinfo.email",
}
_ZONE = re.compile(r"[a-z]+-[a-z]+\d+-[a-z]$")
_REGION = re.compile(r"[a-z]+-[a-z]+\d+$")


@dataclass(frozen=True, slots=True, kw_only=True)
class Wares:
    """What is bought, and where: all that a price depends on."""

    zones: tuple[str, ...]
    regions: tuple[str, ...]  # in which Google chooses the zone; only where no zones are named
    types: tuple[str, ...]
    gpu_type: str | None
    gpus: int


@dataclass(frozen=True, slots=True, kw_only=True)
class GcpSettings(Wares):
    """What the fleet file says of a machine. Texts are as Google Cloud calls things; None: not said."""

    project: str | None
    image: str | None  # projects/P/global/images/..., or None: the template's
    template: str | None
    disk_gib: int | None
    disk_type: str | None
    disk_snapshot: str | None
    network: str | None
    subnets: tuple[str, ...]
    network_tags: tuple[str, ...]
    has_public_ip: bool
    service_account: str | None
    scopes: tuple[str, ...]
    labels: Mapping[str, str]
    metadata: Mapping[str, str]
    shielded: Mapping[str, bool]
    min_cpu_platform: str | None
    is_preemptible: bool  # the older kind of spot: 24 h at most
    is_cpu_only: bool
    launch_spec: Mapping[str, Any]

    def subnet(self, region: str) -> str | None:
        """The subnet of this region: a full path (as of a shared VPC) or a name; the first that may be meant."""
        for subnet in self.subnets:
            if "/" not in subnet or f"/regions/{region}/" in subnet:
                return subnet if "/" in subnet else f"regions/{region}/subnetworks/{subnet}"
        return None


def settings_of(resource: Resource) -> GcpSettings:
    """
    Raises:
        BadRequest: a key has a value that cannot be meant.
    """
    keys, wares = OwnKeys(resource), wares_of(resource)
    template = keys.text("template")
    return GcpSettings(
        project=keys.text("project"),
        zones=wares.zones,
        regions=wares.regions,
        types=wares.types,
        gpu_type=wares.gpu_type,
        gpus=wares.gpus,
        image=_image(keys, is_needed=not template and not keys.text("disk_snapshot")),
        template=template,
        disk_gib=keys.whole("disk_gib", at_least=10, at_most=65536) or (None if template else DEFAULT_DISK_GIB),
        disk_type=keys.text("disk_type") or (None if template else "pd-balanced"),
        disk_snapshot=keys.text("disk_snapshot"),
        network=keys.text("network"),
        subnets=keys.texts("subnets"),
        network_tags=keys.texts("network_tags"),
        has_public_ip=keys.flag("public_ip", True),
        service_account=keys.text("service_account"),
        scopes=tuple(_scope(keys, scope) for scope in keys.texts("scopes")),
        labels=keys.mapping("labels"),
        metadata=_metadata(keys),
        shielded=_shielded(keys),
        min_cpu_platform=keys.text("min_cpu_platform"),
        is_preemptible=_is_preemptible(keys),
        is_cpu_only=keys.flag("cpu_only", False),
        launch_spec=_launch_spec(keys),
    )


def wares_of(resource: Resource) -> Wares:
    """
    Raises:
        BadRequest: a key of these has a value that cannot be meant.
    """
    keys = OwnKeys(resource)
    zones, regions = _places(keys)
    if not resource.instance_types:
        raise keys.wrong("instance_types", "is missing; give machine types, as [n1-standard-8] or [g2-standard-12]")
    gpu_type, gpus = keys.text("gpu_type"), keys.whole("gpus", at_least=0, at_most=16)
    if gpus and not gpu_type:
        raise keys.wrong("gpus", "needs gpu_type, as nvidia-tesla-t4; types as g2 and a2 have their GPUs built in")
    return Wares(
        zones=zones,
        regions=regions,
        types=resource.instance_types,
        gpu_type=gpu_type,
        gpus=(1 if gpus is None else gpus) if gpu_type else 0,
    )


def _places(keys: OwnKeys) -> tuple[tuple[str, ...], tuple[str, ...]]:
    resource = keys.resource
    for zone in resource.zones:
        if not _ZONE.match(zone):
            raise keys.wrong("zones", f"{zone[:40]} is no zone; give names as us-central1-a")
    regions = keys.texts("regions") or ((resource.region,) if resource.region else ())
    for region in regions:
        if not _REGION.match(region):
            raise keys.wrong("region", f"{region[:40]} is no region; give a name as us-central1")
    if not resource.zones and not regions:
        raise keys.wrong(
            "zones",
            "is missing; give zones, as [us-central1-a, us-central1-b], or a region, in which Google chooses the zone",
        )
    return resource.zones, () if resource.zones else regions


def _image(keys: OwnKeys, is_needed: bool) -> str | None:
    image, project = keys.resource.image, keys.text("image_project")
    family = keys.text("image_family")
    if image and family:
        raise keys.wrong("image_family", "is given beside image; give one of them")
    name = f"family/{family}" if family else image
    if name is None:
        if is_needed:
            raise keys.wrong(
                "image", "is missing; give an image, or image_family and image_project, as debian-12 of debian-cloud"
            )
        return None
    if name.startswith(("projects/", "https://", "global/")):
        return name
    return f"projects/{project}/global/images/{name}" if project else f"global/images/{name}"


def _scope(keys: OwnKeys, scope: str) -> str:
    if scope.startswith("https://"):
        return scope
    if scope not in SCOPES:
        raise keys.wrong("scopes", f"{scope[:40]} is unknown; give a URI, or one of {', '.join(SCOPES)}")
    return f"https://www.googleapis.com/auth/{SCOPES[scope]}"


def _metadata(keys: OwnKeys) -> Mapping[str, str]:
    metadata = keys.mapping("metadata")
    for ours in ("user-data", "startup-script"):
        if ours in metadata:
            raise keys.wrong(
                "metadata", f"{ours} is fleet's own; what is to run at the first boot stands in init_script"
            )
    return metadata


def _launch_spec(keys: OwnKeys) -> Mapping[str, object]:
    said = keys.section("launch_spec")
    if taken := [name for name in OURS if name in said]:
        raise keys.wrong("launch_spec", f"{taken[0]} is fleet's own; {OURS[taken[0]]}")
    return said


def _shielded(keys: OwnKeys) -> Mapping[str, bool]:
    said = keys.section("shielded")
    for name, value in said.items():
        if name not in SHIELDED or not isinstance(value, bool):
            raise keys.wrong("shielded", f"{name[:40]}: give true or false for {', '.join(SHIELDED)}")
    return {SHIELDED[name]: bool(value) for name, value in said.items()}


def _is_preemptible(keys: OwnKeys) -> bool:
    model = keys.text("provisioning_model") or "spot"
    if model not in ("spot", "preemptible"):
        raise keys.wrong(
            "provisioning_model", "give spot or preemptible (whether it is bought so at all, `market` says)"
        )
    return model == "preemptible"
