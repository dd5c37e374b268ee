"""The provider `box`: a plugin such as anyone may write, named by an entry point of a distribution of its own."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import requests
import yaml

from fleet.errors import UnknownProviderFault
from fleet.model import Market, Offer, Resource
from fleet.providers import first_boot
from fleet.providers.base import Finding, Launched, LaunchFailed, LaunchOrder, Machine, Surroundings
from tests.waiting import PATIENCE

URL = "FLEET_BOX_URL"  # in the environment: where the cloud's API is


class Box:
    """Keeps the contract of `Provider`."""

    list_lag = timedelta(0)

    def __init__(self, url: str) -> None:
        self._url = url

    def offers(self, resource: Resource, at: datetime) -> Sequence[Offer]:
        gpus = int(str(resource.settings.get("gpus", 0)))
        offer = Offer(
            resource=resource.name,
            provider="box",
            type="box.small",
            market=Market.ON_DEMAND,
            price_usd_per_hour=1.0,
            gpus=gpus,
            gpu_model="Simulated GPU" if gpus else None,
            gpu_memory_gib=16.0 if gpus else None,
            cpus=1,
            seen_at=at,
        )
        return [offer]

    def launch(self, orders: Sequence[LaunchOrder]) -> Sequence[Launched | LaunchFailed]:
        return [self._launch_one(order) for order in orders]

    def list(self, cluster: str) -> Sequence[Machine]:
        return [
            Machine(
                cloud_id=each["id"],
                cluster=each["tags"]["cluster"],
                instance=each["tags"]["instance"],
                resource=each["tags"]["resource"],
                launched_at=datetime.fromtimestamp(each["launched_at"], UTC),
            )
            for each in self._call("list")
            if each["tags"]["cluster"] == cluster
        ]

    def terminate(self, cloud_ids: Sequence[str]) -> None:
        self._call("terminate", ids=list(cloud_ids))

    def check(self, resource: Resource, at: datetime) -> Sequence[Finding]:
        return [Finding(name="box", found=f"{self._url} lists {len(self._call('list'))} machines")]

    def _launch_one(self, order: LaunchOrder) -> Launched:
        tags = {"cluster": order.cluster, "instance": order.instance, "resource": order.resource.name}
        cloud_id = self._call("launch", token=order.instance, tags=tags, user_data=user_data(order))
        return Launched(instance=order.instance, cloud_id=cloud_id)

    def _call(self, verb: str, **asked: object) -> Any:
        try:
            answer = requests.post(f"{self._url}/{verb}", json=asked, timeout=10 * PATIENCE)
            answer.raise_for_status()
            return answer.json()
        except requests.RequestException as error:
            raise UnknownProviderFault(f"the box did not answer: {error}") from error


def user_data(order: LaunchOrder) -> str:
    """What cloud-init does at the first boot. The only secret is the join token, which works once.

    With `first_boot: baked` or `stock` it is fleet's own; GPUs are simulated, and a stock image has nothing of fleet yet.
    """
    if image := order.resource.settings.get("first_boot"):
        text = yaml.safe_load(first_boot.user_data(order))
        text["write_files"][0]["content"] += f"FLEET_SIM_GPUS='{json.dumps({'count': order.offer.gpus})}'\n"
        if image == "stock":
            text["bootcmd"] = ["rm -rf /opt/fleet"]
        return "#cloud-config\n" + json.dumps(text)
    environment = {
        "FLEET_CENTRE_URL": order.first_boot.centre_url,
        "FLEET_INSTANCE": order.instance,
        "FLEET_JOIN_TOKEN": order.first_boot.join_token,
    }
    if order.first_boot.certificate_sha256:
        environment["FLEET_CENTRE_CERT_SHA256"] = order.first_boot.certificate_sha256
    if order.offer.gpus:
        simulated = {"count": order.offer.gpus, "model": order.offer.gpu_model, "memory_gib": 16.0}
        environment["FLEET_SIM_GPUS"] = f"'{json.dumps(simulated)}'"
    files = {"/etc/fleet/supervise.env": "".join(f"{name}={value}\n" for name, value in environment.items())}
    files |= dict(order.resource.settings.get("files", {}))  # type: ignore[call-overload]
    commands = [
        "systemctl daemon-reload",
        "systemctl restart fleet-lifetime.timer fleet-watch.timer",
        *list(order.resource.settings.get("commands", ())),  # type: ignore[call-overload]
        "systemctl enable --now --no-block fleet-supervise.service",
    ]
    written = [{"path": path, "content": text, "permissions": "0600"} for path, text in files.items()]
    return "#cloud-config\n" + json.dumps({"write_files": written, "runcmd": commands})  # JSON is YAML


def make(surroundings: Surroundings) -> Box:
    return Box(os.environ[URL])


def install(place: Path) -> None:
    """A distribution that names the entry point; whoever has `place` on its path has the plugin."""
    facts = place / "fleet_box-0.dist-info"
    facts.mkdir(parents=True)
    (facts / "METADATA").write_text("Metadata-Version: 2.1\nName: fleet-box\nVersion: 0\n")
    (facts / "entry_points.txt").write_text(f"[fleet.providers]\nbox = {__name__}:make\n")
