"""Which image: an id, the newest of a name with stars, or an SSM parameter."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from fleet.errors import BadRequest
from fleet.providers.aws.access import Access, pages
from fleet.providers.aws.errors import asking
from fleet.providers.aws.settings import Settings

ALIAS = "resolve:ssm:"


def resolve(access: Access, settings: Settings, architectures: Sequence[str] = ()) -> str:
    """The id of the image.

    Raises:
        BadRequest: there is none.
        ProviderError: it could not be looked up.
    """
    image = settings.image
    if image.startswith("ami-"):
        return image
    if image.startswith((ALIAS, "/")):
        return _of_alias(access, image.removeprefix(ALIAS))
    return _newest(access, settings, architectures)


def root_device(access: Access, image_id: str) -> str:
    """The device that the image boots from.

    Raises:
        ProviderError: the image cannot be seen.
    """
    with asking(f"look at image {image_id}"):
        found = access.client("ec2").describe_images(ImageIds=[image_id])["Images"]
        return str(found[0]["RootDeviceName"])


def _of_alias(access: Access, name: str) -> str:
    with asking(f"look up image {ALIAS}{name}"):
        value = str(access.client("ssm").get_parameter(Name=name)["Parameter"]["Value"])
    if not value.startswith("ami-"):
        raise BadRequest(f"image {ALIAS}{name}: the parameter holds {value[:60]!r}, which is no AMI id")
    return value


def _newest(access: Access, settings: Settings, architectures: Sequence[str]) -> str:
    filters = [{"Name": "name", "Values": [settings.image]}, {"Name": "state", "Values": ["available"]}]
    if architectures:
        filters.append({"Name": "architecture", "Values": list(architectures)})
    with asking(f"look up images called {settings.image}"):
        ec2: Any = access.client("ec2")
        found = pages(ec2, "describe_images", "Images", Owners=list(settings.image_owners), Filters=filters)
        ranked = sorted((str(part["CreationDate"]), str(part["ImageId"])) for part in found)
    if not ranked:
        owners = ", ".join(settings.image_owners)
        raise BadRequest(
            f"image: no image of {owners} is called {settings.image} in {settings.place.region}; give an AMI id, "
            "a name with stars, or resolve:ssm:PARAMETER, and image_owners if it is somebody else's"
        )
    return ranked[-1][1]
