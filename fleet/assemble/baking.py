"""`fleet bake`: Packer with the right variables, and the image that it made."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import tempfile
import tomllib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from fleet.assemble.package import IMAGES, write_package
from fleet.config import Config
from fleet.errors import ConfigError, FleetError
from fleet.model import Resource

IMAGE_NAME = re.compile(r"[\w./:@-]*")


class BakeFailed(FleetError):
    """Packer made no image; what it said was shown."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Bake:
    """One image to make: what Packer is told."""

    cloud: str
    variables: Mapping[str, object]


def bake_of(cloud: str, config: Config, resource: Resource, at: datetime, **wanted: str | None) -> Bake:
    """What the fleet file says of this resource, as Packer's variables; `wanted` are the flags, which go before it.

    Raises:
        ConfigError: the fleet file does not say where to bake.
    """
    image = config.agent_of(resource.name).image or ""
    if not IMAGE_NAME.fullmatch(image):
        raise ConfigError(f"agent.image {image!r} is no name of a container image; correct it in the fleet file")
    told = {
        "name": re.sub(r"[^a-z0-9-]", "-", f"fleet-{config.cluster}-{resource.name}".lower())[:45]
        + f"-{at:%Y%m%d-%H%M%S}",
        "image": image if config.agent_of(resource.name).mode == "docker" else "",
        "gpu": "" if resource.settings.get("cpu_only") else "1",
    }
    own = _aws if cloud == "aws" else _gcp
    return Bake(cloud=cloud, variables=told | {k: v for k, v in own(config, resource, wanted).items() if v})


def run_packer(bake: Bake, let_in: Callable[[Path], Mapping[str, str]]) -> str:
    """The id of the new image. Packer's output goes to this process's own.

    `let_in` is asked before Packer is started, with a directory that is gone afterwards: it says what Packer's environment needs.

    Raises:
        ConfigError: Packer is not here. BakeFailed: it made no image.
        ProviderError: the cloud does not let it in.
    """
    packer = shutil.which("packer")
    if packer is None:
        raise ConfigError(
            "packer is not on this machine's PATH, and makes images; install it (Debian: apt-get install packer)"
        )
    with tempfile.TemporaryDirectory(prefix="fleet-bake-") as name:
        place = Path(name)
        environment = {**os.environ, "CHECKPOINT_DISABLE": "1", **let_in(place)}
        write_package(place / "package")
        shutil.copy(IMAGES / "packer" / f"{bake.cloud}.pkr.hcl", place)
        told = {**bake.variables, "package": str(place / "package"), "manifest": str(place / "manifest.json")}
        (place / "bake.auto.pkrvars.json").write_text(
            json.dumps(told)
        )  # not as arguments: whoever lists processes sees those
        if _has_plugins(packer):
            (place / "plugins.pkr.hcl").write_text(plugins(bake.cloud))
            _run([packer, "init", "."], place, environment)
        _run([packer, "build", "-color=false", "-on-error=cleanup", "."], place, environment)
        return image_of(place / "manifest.json")


def image_of(manifest: Path) -> str:
    """The id that Packer's manifest names: `us-east-1:ami-1` is `ami-1`, an image of Google its name.

    Raises:
        BakeFailed: it names none.
    """
    try:
        found = json.loads(manifest.read_text())
        artifact = str(found["builds"][-1]["artifact_id"])
    except (OSError, ValueError, KeyError, IndexError, TypeError) as error:
        raise BakeFailed("packer ended well, but named no image; look at its output above") from error
    return artifact.split(",")[0].rpartition(":")[2]


def plugins(cloud: str) -> str:
    """The file that Packer 1.7 and newer want, and older ones refuse."""
    name = {"aws": "amazon", "gcp": "googlecompute"}[cloud]
    wanted = versions()["packer"][name]
    return (
        f'packer {{\n  required_plugins {{\n    {name} = {{\n      version = "{wanted}"\n'
        f'      source  = "github.com/hashicorp/{name}"\n    }}\n  }}\n}}\n'
    )


def versions() -> dict[str, dict[str, str]]:
    """`images/versions.toml`."""
    found: dict[str, dict[str, str]] = tomllib.loads((IMAGES / "versions.toml").read_text())
    return found


def _aws(config: Config, resource: Resource, wanted: Mapping[str, str | None]) -> dict[str, object]:
    settings, source = resource.settings, wanted.get("source")
    if not resource.region:
        raise ConfigError(f"resources.{resource.name}.region is missing; an AMI is made in one region")
    newest = {"virtualization-type": "hvm", "root-device-type": "ebs", "name": versions()["aws"]["source_name"]}
    subnets = settings.get("subnets")
    return {
        "region": resource.region,
        "profile": settings.get("profile"),
        "endpoint_url": settings.get("endpoint_url"),
        "subnet_id": subnets[0] if isinstance(subnets, list) and subnets else None,
        "instance_type": wanted.get("builder"),
        "source_ami": source,
        "source_filters": None if source else newest,
        "source_owners": None if source else [versions()["aws"]["source_owner"]],
        "ssh_username": wanted.get("ssh_user"),
        "disk_gib": settings.get("disk_gib"),
        "tags": {"fleet:cluster": config.cluster, "fleet:resource": resource.name},
    }


def _gcp(config: Config, resource: Resource, wanted: Mapping[str, str | None]) -> dict[str, object]:
    settings, source = resource.settings, wanted.get("source")
    for key, value in (("project", settings.get("project")), ("zones", resource.zones)):
        if not value:
            raise ConfigError(f"resources.{resource.name}.{key} is missing; Packer makes a machine there")
    subnets = settings.get("subnets")
    return {
        "project": settings.get("project"),
        "zone": resource.zones[0],
        "network": settings.get("network"),
        "subnetwork": subnets[0] if isinstance(subnets, list) and subnets else None,
        "machine_type": wanted.get("builder"),
        "source_image": source,
        "source_family": None if source else versions()["gcp"]["source_family"],
        "source_projects": None if source else [versions()["gcp"]["source_project"]],
        "family": re.sub(r"[^a-z0-9-]", "-", f"fleet-{config.cluster}-{resource.name}".lower())[:60],
        "disk_gib": settings.get("disk_gib"),
        "labels": {"fleet-cluster": re.sub(r"[^a-z0-9_-]", "-", config.cluster.lower())[:60]},
    }


def _has_plugins(packer: str) -> bool:
    """From 1.7 on clouds are plugins."""
    environment = {**os.environ, "CHECKPOINT_DISABLE": "1"}
    said = subprocess.run([packer, "version"], capture_output=True, text=True, check=False, env=environment).stdout
    found = re.search(r"v(\d+)\.(\d+)", said)
    return found is not None and (int(found[1]), int(found[2])) >= (1, 7)


def _run(command: list[str], place: Path, environment: Mapping[str, str]) -> None:
    done = subprocess.run(command, cwd=place, env=environment, check=False)
    if done.returncode != 0:
        raise BakeFailed(
            f"packer {command[1]} ended with {done.returncode}; no image was made, and what it said is above"
        )
