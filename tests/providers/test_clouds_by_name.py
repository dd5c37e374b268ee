"""Google Cloud and Genesis Cloud as a fleet file names them: found by entry point, with their prices and the user-data of their machines."""

from __future__ import annotations

import importlib
import json
import time
import tomllib
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from fleet.config import Config, parse
from fleet.errors import UnknownProviderFault
from fleet.model import Resource
from fleet.providers.base import FirstBoot, Launched, LaunchOrder, Provider, Surroundings
from tests.providers.compute_engine import ComputeEngine, served
from tests.providers.genesis_cloud import TOKEN, GenesisCloud

ROOT = Path(__file__).parents[2]
POINTS = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["entry-points"]["fleet.providers"]
FLEET_FILE = """\
cluster: lab
state_dir: {place}/state
advertise_url: https://fleet.lab:8765
listen: 0.0.0.0:8765
agent: {{git: {{user: git, token: GIT-SECRET}}, storage: {{s3: {{key: S3-KEY-ID, secret: S3-SECRET}}}}}}
server: {{url: "https://api.lab", access_key: ACCESS-KEY, secret_key: SECRET-KEY}}
resources:
  l4:
    provider: gcp
    project: lab-1
    zones: [us-central1-a]
    instance_types: [g2-standard-24]
    market: spot_then_on_demand
    image: fleet-1
    max_lifetime: 24h
    endpoint_url: {gcp}
  rtx:
    provider: genesis
    region: NORD-NO-KRS-1
    instance_types: [vcpu-4_memory-24g_nvidia-rtx-3090-1]
    image: ubuntu:22.04
    token: {token}
    ssh_keys: [ann-0]
    prices: {{vcpu-4_memory-24g_nvidia-rtx-3090-1: 1.30}}
    endpoint_url: {genesis}
queues:
  train: {{resources: [l4, rtx]}}
"""
SECRETS = ("GIT-SECRET", "S3-KEY-ID", "S3-SECRET", "ACCESS-KEY", "SECRET-KEY", TOKEN)


def made(config: Config, resource: Resource, place: Path) -> Provider:
    """As `fleet.assemble.providers` makes it from the entry point of an installed fleet."""
    module, _, name = POINTS[resource.provider].partition(":")
    provider: Provider = getattr(importlib.import_module(module), name)(
        Surroundings(cluster=config.cluster, directory=place / resource.provider, resources=(resource,))
    )
    return provider


def orders(config: Config, resource: Resource, provider: Provider, count: int = 1) -> list[LaunchOrder]:
    offer = provider.offers(resource, datetime.now(UTC))[0]
    boots = [FirstBoot(centre_url=config.advertise_url, join_token=f"{n:064x}") for n in range(count)]
    return [
        LaunchOrder(instance=f"i{n}", cluster=config.cluster, resource=resource, offer=offer, first_boot=boot)
        for n, boot in enumerate(boots)
    ]


@pytest.mark.parametrize("name", ["l4", "rtx"])
def test_a_fleet_file_is_enough_to_launch_and_no_secret_of_it_reaches_the_cloud(name: str, tmp_path: Path) -> None:
    google, genesis = ComputeEngine(), GenesisCloud()
    with served(google) as gcp_url, served(genesis) as genesis_url:
        text = FLEET_FILE.format(place=tmp_path, gcp=gcp_url, genesis=genesis_url, token=TOKEN)
        config = parse(text, "fleet.yaml", {})
        resource = next(r for r in config.resources if r.name == name)
        provider = made(config, resource, tmp_path)
        (order,) = orders(config, resource, provider)
        assert order.offer.price_usd_per_hour is not None
        (answer,) = provider.launch([order])
        assert isinstance(answer, Launched)
        assert [m.cloud_id for m in provider.list("lab")] == [answer.cloud_id]
        sent = json.dumps(google.bodies + genesis.bodies)
        assert "FLEET_JOIN_TOKEN=" in sent.replace("\\", "")
        assert sent.count(order.first_boot.join_token) == 1
        assert [secret for secret in SECRETS if secret in sent] == []
        assert [f.name for f in provider.check(resource, datetime.now(UTC)) if f.fix] == []
        provider.terminate([answer.cloud_id])
        assert list(provider.list("lab")) == []


@pytest.mark.parametrize("name", ["l4", "rtx"])
def test_a_batch_of_sixty_is_sixty_machines_and_a_batch_that_nobody_answers_ends_in_time(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    google, genesis = ComputeEngine(), GenesisCloud()
    google.page = genesis.page = 25
    with served(google) as gcp_url, served(genesis) as genesis_url:
        text = FLEET_FILE.format(place=tmp_path, gcp=gcp_url, genesis=genesis_url, token=TOKEN)
        config = parse(text, "fleet.yaml", {})
        resource = next(r for r in config.resources if r.name == name)
        provider: Any = made(config, resource, tmp_path)
        batch = orders(config, resource, provider, 60)
        answers = provider.launch(batch)
        assert [a.instance for a in answers] == [o.instance for o in batch]
        assert len({m.cloud_id for m in provider.list("lab")}) == 60
        provider.terminate([a.cloud_id for a in answers])
        assert list(provider.list("lab")) == []

        cloud = google if name == "l4" else genesis
        monkeypatch.setattr(f"fleet.providers.{resource.provider}.provider.TIME_LIMIT_S", 1.5)
        again: Any = made(config, resource, tmp_path / "again")
        again._timeout_s = 0.5  # its own time limit of one call, which is no setting
        late = orders(config, resource, again, 60)
        cloud.hang()
        began = time.monotonic()
        with pytest.raises(UnknownProviderFault):
            again.launch(late)
        assert timedelta(seconds=time.monotonic() - began) < timedelta(seconds=4)
