"""The user-data of a machine: what cloud-init does at its first boot, on a baked image and on a stock Debian or Ubuntu alike.

It holds the dispatcher's address, the fingerprint of its certificate, a join token that works once, and facts. No other secret.
The same order gives the same text, so that a repeated launch is the same request.
"""

from __future__ import annotations

import base64
import gzip
import json
import re
from datetime import timedelta
from functools import cache
from pathlib import Path

from fleet.errors import BadRequest
from fleet.providers.base import LaunchOrder

LARGEST = 16 * 1024  # bytes that EC2 takes, before they are written in base64
IMAGES = Path(__file__).parents[1] / "images"  # a part of the installed package; in a clone a link
# The dispatcher and the supervisor come first; the timer is for a machine where neither of them lives.
GRACE = timedelta(minutes=30)
# The supervisor ends itself by then; the watch is for one that never came to work.
WATCH_GRACE = timedelta(minutes=10)
LONGEST_LIFE = timedelta(days=7)  # where the fleet file says never


def user_data(order: LaunchOrder) -> str:
    """A cloud-config.

    Raises:
        BadRequest: it would be larger than the clouds take, or a value cannot stand in a file of variables.
    """
    life = (order.resource.max_lifetime or LONGEST_LIFE) + GRACE
    boot_s = int(order.resource.boot_timeout.total_seconds())
    text = _template("user-data.yaml")
    for name, value in (
        ("ENVIRONMENT", _lines(environment(order))),
        ("LIFETIME", f"[Timer]\nOnBootSec=\nOnBootSec={int(life.total_seconds())}s\n"),
        ("WATCH", f"[Service]\nEnvironment=FLEET_BOOT_S={boot_s + int(WATCH_GRACE.total_seconds())}\n"),
        ("UNIT", _template("fleet-first-boot.service").replace("@@BOOT_S@@", f"{boot_s}s")),
        ("FIRST_BOOT", _packed(_template("first-boot.py"))),
    ):
        text = text.replace(f"@@{name}@@", json.dumps(value))  # a string of JSON is one of YAML
    text = text.replace("@@INIT@@", _init_script(order))
    if len(text.encode()) > LARGEST:
        raise BadRequest(
            f"{order.resource.name}: the user-data would have {len(text.encode())} bytes, and clouds take {LARGEST}; "
            "shorten advertise_url or init_script"
        )
    return text


def environment(order: LaunchOrder) -> dict[str, str]:
    """What the supervisor and the scripts of the image are told: `/etc/fleet/supervise.env`, root's, mode 0600."""
    boot, gpus = order.first_boot, order.offer.gpus
    told = {
        "FLEET_CENTRE_URL": boot.centre_url,
        "FLEET_INSTANCE": order.instance,
        "FLEET_JOIN_TOKEN": boot.join_token,
        "FLEET_GPUS": str(gpus),
        # Beginning with the deadline less what a first boot needs beside; then the machine says what is missing.
        "FLEET_WAIT_S": str(max(30, int(order.resource.boot_timeout.total_seconds() * 2 / 3))),
    }
    if boot.certificate_sha256:
        told["FLEET_CENTRE_CERT_SHA256"] = boot.certificate_sha256
    if not gpus or order.resource.settings.get("cpu_only"):
        # No GPU software is installed; and none of a task's frameworks looks for a GPU.
        told |= {"FLEET_CPU_ONLY": "1", "FLEET_GPUS": "0", "CUDA_VISIBLE_DEVICES": "none"}
    if order.resource.provider == "gcp":
        told["FLEET_POWER"] = "delete-self"  # an instance that is only off still exists
    return told


def _lines(values: dict[str, str]) -> str:
    """As systemd reads an EnvironmentFile."""
    for name, value in values.items():
        if not re.fullmatch(r"[^\s'\"\\$`#]*", value):
            raise BadRequest(f"{name}: {value!r} has a space or a quote in it; it comes from the fleet file")
    return "".join(f"{name}={value}\n" for name, value in values.items())


def _init_script(order: LaunchOrder) -> str:
    """The resource's own script, which runs before the supervisor starts."""
    script = str(order.resource.settings.get("init_script") or "")
    if not script:
        return ""
    script = script if script.startswith("#!") else f"#!/bin/bash\n{script}\n"
    content = json.dumps(_packed(script))
    return f'  - path: /etc/fleet/init.sh\n    permissions: "0700"\n    encoding: gzip+base64\n    content: {content}\n'


def _packed(text: str) -> str:
    """Without a date: the same text gives the same."""
    return base64.b64encode(gzip.compress(text.encode(), mtime=0)).decode()


@cache
def _template(name: str) -> str:
    return (IMAGES / "cloud-init" / name).read_text(encoding="utf-8")
