"""What `fleet doctor` looks at in an account of Genesis Cloud."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from fleet.errors import ProviderError
from fleet.model import Resource
from fleet.providers.base import Finding
from fleet.providers.genesis.api import Api
from fleet.providers.genesis.request import Names
from fleet.providers.genesis.settings import GenesisSettings, settings_of


def findings(resource: Resource, api_of: Callable[[], Api]) -> Sequence[Finding]:
    """Each check as far as the ones before allow."""
    try:
        said, api = settings_of(resource), api_of()
        count = len(api.everything("instances"))
    except ProviderError as error:
        return [Finding(name="token", found="not usable", fix=str(error))]
    path = f"resources.{resource.name}"
    found = [Finding(name="token", found=f"accepted; the account has {count} instances"), _image(api, said)]
    for kind, wanted in (("ssh_keys", said.ssh_keys), ("security_groups", said.security_groups)):
        found.append(_named(api, kind, wanted, f"{path}.{kind}"))
    return found


def _image(api: Api, said: GenesisSettings) -> Finding:
    try:
        rows = api.everything("images")
    except ProviderError as error:
        return Finding(name="image", found="could not be looked at", fix=str(error))
    slug, _, version = said.image.partition(":")
    for row in rows:
        versions = row.get("versions")
        is_version = not version or not isinstance(versions, list) or version in versions
        if said.image in (row.get("id"), row.get("slug"), row.get("name")) or (row.get("slug") == slug and is_version):
            places = row.get("regions")
            missing = [region for region in said.regions if isinstance(places, list) and region not in places]
            if missing:
                return Finding(
                    name="image",
                    found=f"{said.image} is not in {', '.join(missing)}",
                    fix="give another image or region",
                )
            return Finding(name="image", found=str(row.get("name") or said.image))
    return Finding(
        name="image",
        found=f"there is no {said.image}",
        fix="give a slug as ubuntu:22.04, or an id of the console's images",
    )


def _named(api: Api, kind: str, wanted: tuple[str, ...], path: str) -> Finding:
    name = kind.replace("_", " ")
    if not wanted and kind == "ssh_keys":
        return Finding(
            name=name, found="none", fix=f"give {path}: [NAME]; Genesis Cloud launches no machine without a key"
        )
    try:
        Names(api).ids(kind, wanted, path)
    except ProviderError as error:
        return Finding(name=name, found=", ".join(wanted), fix=str(error))
    return Finding(name=name, found=", ".join(wanted) or "the standard one")
