"""What `fleet doctor` looks at in a project: nothing is changed, nothing is started."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from fleet.errors import ProviderError
from fleet.model import Market, MarketPolicy, Resource
from fleet.providers.base import Finding
from fleet.providers.gcp.account import Account, all_permissions
from fleet.providers.gcp.catalog import reach
from fleet.providers.gcp.offers import PriceOf, region_of
from fleet.providers.gcp.settings import GcpSettings, settings_of

ROLE = "images/iam/gcp-role.yaml"
PATH = re.compile(r"(?:.*projects/(?P<project>[^/]+)/)?(?P<rest>(?:global|regions/[^/]+)/.*)$")


def findings(resource: Resource, account_of: Callable[[], Account], price_of: PriceOf) -> Sequence[Finding]:
    """Each check as far as the ones before allow."""
    try:
        said, account = settings_of(resource), account_of()
    except ProviderError as error:
        return [Finding(name="account", found="not usable", fix=str(error))]
    checks: list[tuple[str, Callable[[], str]]] = [("permissions", lambda: _permissions(account))]
    if said.image:
        checks.append(("image", lambda: _image(account, str(said.image))))
    if said.template:
        checks.append(("template", lambda: _template(account, str(said.template))))
    regions = sorted({region_of(place) for place in said.zones or said.regions})
    for region in regions:
        if subnet := said.subnet(region):
            checks.append((f"subnet in {region}", lambda s=subnet, r=region: _subnet(account, s, r)))  # type: ignore[misc]
        checks.append((f"quota in {region}", lambda r=region: _quota(account, said, resource, r)))  # type: ignore[misc]
    if said.gpu_type:
        checks.append(("GPU type", lambda: _gpu_type(account, said)))
    checks.append(("price list", lambda: _price_list(account, _unpriced(resource, said, price_of))))
    return [_found(name, look) for name, look in checks]


# What counts GPUs that are built in, by the beginning of a type. `quotas[].metric` of `regions.get` (Compute Engine API v1).
BUILT_IN = {
    "g2-": "NVIDIA_L4_GPUS",
    "a2-highgpu-": "NVIDIA_A100_GPUS",
    "a2-megagpu-": "NVIDIA_A100_GPUS",
    "a2-ultragpu-": "NVIDIA_A100_80GB_GPUS",
    "a3-highgpu-": "NVIDIA_H100_GPUS",
}


class _Wrong(Exception):
    """What was found, and the fix."""

    def __init__(self, found: str, fix: str) -> None:
        super().__init__(found)
        self.found, self.fix = found, fix


def _found(name: str, look: Callable[[], str]) -> Finding:
    try:
        return Finding(name=name, found=look())
    except _Wrong as wrong:
        return Finding(name=name, found=wrong.found, fix=wrong.fix)
    except ProviderError as error:
        return Finding(name=name, found="could not be looked at", fix=str(error))


def _permissions(account: Account) -> str:
    lacking = account.lacking(all_permissions())
    if lacking:
        fix = f"give whom the dispatcher runs as the role of {ROLE}"
        raise _Wrong(f"project {account.project}: lacks {', '.join(sorted(lacking))}", fix)
    return f"project {account.project}: all {len(all_permissions())} that are needed"


def _image(account: Account, image: str) -> str:
    match = PATH.match(image)
    if not match:
        raise _Wrong(f"{image[:80]} is no path", "give projects/PROJECT/global/images/NAME, or .../family/FAMILY")
    rest = match["rest"].removeprefix("global/images/")
    method = "images.getFromFamily" if rest.startswith("family/") else "images.get"
    name = rest.removeprefix("family/")
    body = account.call(method, f"question for image {name}", project=match["project"], name=name)
    if str(body.get("status", "READY")) != "READY":
        raise _Wrong(f"{name} is {body.get('status')}", "wait until it is READY, or give another")
    deprecated = body.get("deprecated")
    state = deprecated.get("state") if isinstance(deprecated, Mapping) else None
    if state in ("OBSOLETE", "DELETED"):
        raise _Wrong(f"{name} is {state}", "give a newer one, or its family")
    return f"{body.get('name') or name}{', deprecated' if state else ''}"


def _template(account: Account, template: str) -> str:
    match = PATH.match(template)
    name = template.rpartition("/")[2]
    project = match["project"] if match else None
    body = account.call("instanceTemplates.get", f"question for template {name}", project=project, name=name)
    return str(body.get("name") or name)


def _unpriced(resource: Resource, said: GcpSettings, price_of: PriceOf) -> list[str]:
    """What has no known price in one of its regions, in neither market."""
    kinds = [*said.types, *([said.gpu_type] if said.gpu_type and said.gpus else ())]
    regions = {region_of(place) for place in said.zones or said.regions}
    return [k for k in kinds for r in regions if all(price_of(resource, k, r, m) is None for m in Market)]


def _price_list(account: Account, unpriced: Sequence[str]) -> str:
    """It is needed for `fleet prices refresh` alone, so its refusal is a fault only where a price is wanted."""
    try:
        reach(account)
    except ProviderError as error:
        if unpriced:
            raise _Wrong(f"may not be read, and nobody knows what {unpriced[0]} costs", str(error)) from error
        return f"may not be read, which only `fleet prices refresh` needs: {error}"
    return "may be read by `fleet prices refresh`"


def _subnet(account: Account, subnet: str, region: str) -> str:
    match = PATH.match(subnet)
    name = subnet.rpartition("/")[2]
    project = match["project"] if match else None
    body = account.call("subnetworks.get", f"question for subnet {name}", project=project, region=region, name=name)
    return f"{name}, {body.get('ipCidrRange') or 'without a range'}"


def _gpu_type(account: Account, said: GcpSettings) -> str:
    kind, lacking, most = str(said.gpu_type), [], 0
    for zone in said.zones:
        answer = account.answer("acceleratorTypes.get", zone=zone, name=kind)
        if answer.status == 404:
            lacking.append(zone)
        elif answer.is_fine:
            count = answer.body.get("maximumCardsPerInstance")
            most = max(most, count if isinstance(count, int) else 0)
    fix = "`gcloud compute accelerator-types list` says what is where"
    if lacking:
        raise _Wrong(f"{kind} is not in {', '.join(lacking)}", fix)
    if most and said.gpus > most:
        raise _Wrong(f"{said.gpus} x {kind}: {most} at most", f"give gpus: {most} or fewer")
    return f"{said.gpus} x {kind}"


def _quota(account: Account, said: GcpSettings, resource: Resource, region: str) -> str:
    """The metrics of the region that a machine of this resource counts against, as far as their names tell."""
    body = account.call("regions.get", f"question for the quotas of {region}", region=region)
    rows = [row for row in _rows(body.get("quotas")) if _is_ours(row, said, resource)]
    full = [row for row in rows if row[2] < 1]
    said_rows = ", ".join(f"{metric} {used:g} of {limit:g}" for metric, used, limit, *_ in _wide(rows))
    if full:
        fix = "ask for more under IAM & Admin > Quotas"
        raise _Wrong(", ".join(f"{metric}: none left" for metric, *_ in full), fix)
    return said_rows or "no metric of this kind"


def _rows(quotas: object) -> Iterator[tuple[str, float, float, float]]:
    """(metric, used, left, limit)."""
    for each in quotas if isinstance(quotas, list) else ():
        metric, used, limit = (
            (each.get(key) for key in ("metric", "usage", "limit")) if isinstance(each, Mapping) else (0, 0, 0)
        )
        if isinstance(metric, str) and isinstance(used, int | float) and isinstance(limit, int | float):
            yield metric, float(used), float(limit) - float(used), float(limit)


def _wide(rows: Sequence[Any]) -> Iterator[tuple[str, float, float]]:
    for metric, used, _, limit in rows:
        yield metric, used, limit


def _is_ours(row: tuple[str, float, float, float], said: GcpSettings, resource: Resource) -> bool:
    """CPUS, or <GPU>_GPUS as NVIDIA_T4_GPUS; PREEMPTIBLE_ before it where only spot is bought. A region without the metric says nothing of it."""
    metric = row[0].removeprefix("PREEMPTIBLE_")
    is_spot = row[0].startswith("PREEMPTIBLE_")
    if is_spot != (resource.market is MarketPolicy.SPOT):
        return False
    if said.gpu_type:
        model = said.gpu_type.removeprefix("nvidia-").removeprefix("tesla-").upper().replace("-", "_")
        return metric == f"NVIDIA_{model}_GPUS"
    return metric in {
        "CPUS",
        *(gpus for start, gpus in BUILT_IN.items() if any(t.startswith(start) for t in said.types)),
    }
