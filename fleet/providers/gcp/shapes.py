"""What a machine type is made of in a zone, asked for once an hour and remembered; a zone that does not have it is skipped."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

from fleet.errors import BadRequest, ProviderError, UnknownProviderFault
from fleet.providers.gcp.account import Account
from fleet.providers.gcp.errors import refusal

FRESH_FOR = timedelta(hours=1)
# After a question that failed: so long the answer from before counts on, or there is none. A pass must not wait for the network.
ASK_AGAIN_AFTER = timedelta(minutes=1)
# Document: "GPU machine types" and "GPUs on Compute Engine": memory of one GPU in GB. As NVML calls them, without "NVIDIA".
GPUS = {
    "nvidia-tesla-k80": ("Tesla K80", 12.0),
    "nvidia-tesla-p4": ("Tesla P4", 8.0),
    "nvidia-tesla-p100": ("Tesla P100", 16.0),
    "nvidia-tesla-v100": ("Tesla V100", 16.0),
    "nvidia-tesla-t4": ("Tesla T4", 16.0),
    "nvidia-tesla-a100": ("A100", 40.0),
    "nvidia-a100-80gb": ("A100", 80.0),
    "nvidia-l4": ("L4", 24.0),
    "nvidia-h100-80gb": ("H100", 80.0),
    "nvidia-h100-mega-80gb": ("H100", 80.0),
    "nvidia-h200-141gb": ("H200", 141.0),
    "nvidia-b200": ("B200", 180.0),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Shape:
    """One machine type, with the GPUs that are built in."""

    cpus: int
    memory_gib: float
    gpus: int
    gpu_kind: str | None  # "nvidia-l4"
    local_ssds: int | None = None  # that are built in; None: not said
    is_shared: bool = False  # its cores are parts of cores


@dataclass(slots=True)
class Shapes:
    """The shapes of one project. None as a shape: the zone does not have this type."""

    account: Account
    _known: dict[tuple[str, str], tuple[datetime, Shape | None]] = field(default_factory=dict)
    _failed: dict[tuple[str, str], tuple[datetime, ProviderError]] = field(default_factory=dict)

    def of(self, kind: str, place: str, at: datetime) -> Shape | None:
        """`place`: a zone, or a region, where any of its zones will do.

        Raises:
            ProviderError: it was never known, and Google Cloud does not say.
        """
        key = (kind, place)
        seen_at, shape = self._known.get(key, (None, None))
        if seen_at and at - seen_at < FRESH_FOR:
            return shape
        failed_at, error = self._failed.get(key, (None, None))
        if failed_at is None or at - failed_at >= ASK_AGAIN_AFTER:
            try:
                shape = self._ask(kind, place)
            except ProviderError as caught:
                self._failed[key], error = (at, caught), caught
            else:
                self._known[key] = (at, shape)
                self._failed.pop(key, None)
                return shape
        if seen_at is None and error:
            raise error
        return shape

    def _ask(self, kind: str, place: str) -> Shape | None:
        what = f"question for machine type {kind} in {place}"
        if place.count("-") == 1:
            return self._in_region(kind, place, what)
        answer = self.account.answer("machineTypes.get", zone=place, name=kind)
        if answer.status == 404:
            return None
        if not answer.is_fine:
            raise refusal(answer, what)
        return shape_from(answer.body, what)

    def _in_region(self, kind: str, region: str, what: str) -> Shape | None:
        query = {"filter": f"name={kind}"}
        for page in self.account.pages("machineTypes.aggregatedList", what, query):
            items = page.get("items")
            for zone, part in items.items() if isinstance(items, Mapping) else ():
                if str(zone).startswith(f"zones/{region}-"):
                    for each in part.get("machineTypes") or () if isinstance(part, Mapping) else ():
                        return shape_from(each, what)
        return None


def shape_from(body: object, what: str) -> Shape:
    """
    Raises:
        UnknownProviderFault: it is not what the API documents.
    """
    try:
        assert isinstance(body, Mapping)
        built_in: list[Any] = body.get("accelerators") or []
        return Shape(
            cpus=_above_zero(body["guestCpus"]),
            memory_gib=_above_zero(body["memoryMb"]) / 1024,
            gpus=sum(_above_zero(each["guestAcceleratorCount"]) for each in built_in),
            gpu_kind=str(built_in[0]["guestAcceleratorType"]) if built_in else None,
            local_ssds=_local_ssds(body),
            is_shared=body.get("isSharedCpu") is True,
        )
    except (AssertionError, KeyError, TypeError, ValueError, IndexError, AttributeError) as error:
        raise UnknownProviderFault(
            f"Google Cloud answered the {what} with what cannot be read: {error!r:.80}"
        ) from error


def _local_ssds(body: Mapping[str, Any]) -> int | None:
    """As the API counts them, else as its description does: "1 NVIDIA A100 80GB GPU, 12 vCPUs, 170GB RAM, 1 local SSD"."""
    if bundled := body.get("bundledLocalSsds"):
        return _above_zero(bundled["partitionCount"])
    described = re.search(r"(\d+) local SSDs?\b", str(body.get("description")))
    return int(described[1]) if described else None


def _above_zero(value: object) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or not 0 < value < 10**9:
        raise ValueError(f"{value!r:.30} is no count")
    return value


def model_of(gpu_kind: str) -> tuple[str, float | None]:
    """(model, memory in GiB of each) of an accelerator type; a new one goes by its own name."""
    plain = gpu_kind.removesuffix("-vws")
    return GPUS.get(plain, (plain.removeprefix("nvidia-").upper().replace("-", " "), None))


def missing(resource: str, types: tuple[str, ...], places: tuple[str, ...]) -> BadRequest:
    """No place has any of the types."""
    return BadRequest(
        f"resources.{resource}.instance_types: none of {', '.join(types)[:120]} is in {', '.join(places)[:120]}; "
        "`gcloud compute machine-types list` says what is where"
    )
