"""What the entry point names: the provider with its prices and the user-data of its machines."""

from __future__ import annotations

from fleet.model import Market, Resource
from fleet.providers.base import Surroundings
from fleet.providers.first_boot import user_data
from fleet.providers.gcp.provider import GcpProvider
from fleet.providers.prices import price_of


def make(surroundings: Surroundings) -> GcpProvider:
    """
    Raises:
        ImportError: google-auth is not installed.
    """

    def price(resource: Resource, kind: str, region: str, market: Market) -> float | None:
        return price_of("gcp", kind, region, market, resource=resource, directory=surroundings.directory)

    return GcpProvider(surroundings, price_of=price, user_data=user_data)
