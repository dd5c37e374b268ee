"""What types are made of and cost without a price file: as the fleet file says, else as the cloud said at the last `fleet prices
refresh`, else by the list that comes with fleet. The same that a dispatcher believes."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from fleet.model import Market, Resource
from fleet.providers import prices
from fleet.providers.genesis.settings import shape_of as shape_at_genesis


@dataclass(frozen=True, slots=True, kw_only=True)
class Shape:
    """What a type is made of and costs in a region: a row of a price file, or what fleet knows itself."""

    cloud: str  # "" = of any
    type: str
    region: str  # "" = of any
    gpus: float
    gpu_model: str | None
    gpu_memory_gib: float | None = None  # of each; a price file does not say it
    cpus: int
    memory_gib: float | None
    usd_per_hour: Mapping[Market, float]  # only those that are known


def known_shapes(resource: Resource, directory: Path | None) -> Iterator[Shape]:
    """One for each of its types and each region that a price is known of; what the fleet file says of a price holds in all.

    `directory`: the provider's own, where a refresh keeps what it learned.

    Raises:
        UnknownProviderFault: what was refreshed is damaged.
    """
    for kind in resource.instance_types:
        made = _made_of(resource, kind)
        if made is None:
            continue
        for region in _regions(resource, kind, directory):
            usd = {m: usd for m in Market if (usd := _usd(resource, kind, region, m, directory)) is not None}
            if usd:
                yield replace(made, region=region, usd_per_hour=usd)


def is_known(resource: Resource, kind: str) -> bool:
    """Whether fleet knows what this type is made of."""
    return _made_of(resource, kind) is not None


def _made_of(resource: Resource, kind: str) -> Shape | None:
    """Its shape, with the GPUs that are attached to it, or without those that are not to be used; nothing of its price."""
    provider = resource.provider
    found = shape_at_genesis(kind) if provider == "genesis" else prices.shape_of(provider, kind)
    if found is None:
        return None
    gpus, model, memory = found.gpus, found.gpu_model, found.gpu_memory_gib
    if attached := _attached(resource):
        gpus = attached[1]
        model, memory = prices.attached_gpu(provider, attached[0])
    if resource.settings.get("cpu_only") is True:
        gpus = 0
    return Shape(
        cloud=provider,
        type=kind,
        region="",
        gpus=gpus,
        gpu_model=model if gpus else None,
        gpu_memory_gib=memory if gpus else None,
        cpus=found.cpus,
        memory_gib=found.memory_gib,
        usd_per_hour={},
    )


def _attached(resource: Resource) -> tuple[str, int] | None:
    """GPUs that Google Cloud attaches to a machine, and how many: they have a price of their own."""
    kind, count = resource.settings.get("gpu_type"), resource.settings.get("gpus", 1)
    if resource.provider != "gcp" or not isinstance(kind, str) or not isinstance(count, int) or count < 1:
        return None
    return kind, count


def _regions(resource: Resource, kind: str, directory: Path | None) -> list[str]:
    """Where a price of it is known; the resource's own first, and last that of nowhere, for what the fleet file says."""
    known = {*prices.list_prices(), *(price.place for price in (prices.refreshed(directory) if directory else ()))}
    listed = {region for provider, each, region, _ in known if (provider, each) == (resource.provider, kind)}
    own = [resource.region] if resource.region else []
    return list(dict.fromkeys([*own, *sorted(listed), ""]))


def _usd(resource: Resource, kind: str, region: str, market: Market, directory: Path | None) -> float | None:
    def of(each: str) -> float | None:
        return prices.price_of(resource.provider, each, region, market, resource=resource, directory=directory)

    machine, attached = of(kind), _attached(resource)
    if machine is None or attached is None:
        return machine
    each = of(attached[0])
    return None if each is None else machine + attached[1] * each
