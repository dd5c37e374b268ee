"""Providers by entry point: the built-in ones and any installed plugin are found in the same way."""

from __future__ import annotations

from importlib.metadata import entry_points

from fleet.assemble.state import StateDir
from fleet.config import Config
from fleet.errors import ConfigError
from fleet.providers.base import Provider, Surroundings

GROUP = "fleet.providers"


def providers_of(config: Config, state: StateDir) -> dict[str, Provider]:
    """One provider for each name that the fleet file uses.

    Raises:
        ConfigError: a provider is not in this version, or its packages are not installed.
    """
    installed = {point.name: point for point in entry_points(group=GROUP)}
    made: dict[str, Provider] = {}
    for resource in config.resources:
        name = resource.provider
        if name in made:
            continue
        if name not in installed:
            raise ConfigError(
                f"resources.{resource.name}.provider: {name} cannot launch machines in this version of fleet; "
                f"it can use {', '.join(sorted(installed))}"
            )
        try:
            factory = installed[name].load()
        except ImportError as error:
            raise ConfigError(
                f"provider {name} needs {error.name}; install it with: pip install 'fleet[{name}]'"
            ) from error
        mine = tuple(r for r in config.resources if r.provider == name)
        made[name] = factory(Surroundings(cluster=config.cluster, directory=state.directory / name, resources=mine))
    return made
