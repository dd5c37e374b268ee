"""Whether Packer will be let into the cloud: asked before it is started, because what it says of missing credentials is a page long.

Packer takes them where the cloud's own tools do: environment, profile, role. Those that only the fleet file has are handed to it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from fleet.errors import ConfigError
from fleet.model import Resource

# Where each of the fleet file's own keys is looked for by Packer.
OF_AWS = {
    "access_key": "AWS_ACCESS_KEY_ID",
    "secret_key": "AWS_SECRET_ACCESS_KEY",
    "session_token": "AWS_SESSION_TOKEN",
}
KEY_OF_GOOGLE = "GOOGLE_APPLICATION_CREDENTIALS"


def let_in(cloud: str, resource: Resource, place: Path) -> Mapping[str, str]:
    """What Packer's environment needs beside ours; a key that has to be a file is written into `place`, for this user alone.

    Raises:
        NotAuthorised: there are no credentials, or the cloud does not take them; the text says the fix.
        ProviderError: the cloud cannot be asked.
        ConfigError: what asks this cloud is not installed.
    """
    of: dict[str, Callable[[Resource, Path], Mapping[str, str]]] = {"aws": _aws, "gcp": _gcp}
    try:
        return of[cloud](resource, place)
    except ImportError as error:
        raise ConfigError(
            f"the credentials for {cloud} are looked at with {error.name}; install it with: pip install 'fleet[{cloud}]'"
        ) from error


def _aws(resource: Resource, place: Path) -> Mapping[str, str]:
    """As whoever bakes, not as the role that the dispatcher takes on: the two have policies of their own."""
    from fleet.providers.aws.access import Access
    from fleet.providers.aws.errors import asking
    from fleet.providers.aws.settings import Place

    said = {key: value for key in OF_AWS if isinstance(value := resource.settings.get(key), str)}
    where: dict[str, Any] = {k: resource.settings.get(k) for k in ("profile", "endpoint_url")}
    access = Access(Place(region=str(resource.region), **where, **said))
    with asking("bake an image"):
        access.client("sts").get_caller_identity()
    return {OF_AWS[key]: value for key, value in said.items()}


def _gcp(resource: Resource, place: Path) -> Mapping[str, str]:
    from fleet.providers.gcp.account import obtain_token

    key = resource.settings.get("credentials")
    obtain_token(key if isinstance(key, str) else None)
    if not isinstance(key, str):
        return {}
    file = place / "key.json"
    file.touch(mode=0o600)
    file.write_text(key)
    return {KEY_OF_GOOGLE: str(file)}
