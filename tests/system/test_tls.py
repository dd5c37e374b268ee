"""A fleet on an address that others reach speaks TLS: machines, commands, and the unmodified SDK and agent."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import requests

from tests.system.ring import MakeRing
from tests.waiting import PATIENCE, wait_for

pytestmark = [pytest.mark.system, pytest.mark.xdist_group("ring")]

SDK = """
from clearml import Task
task = Task.create(project_name="tls", task_name="from a laptop", script="x.py", packages=[])
print("SAW", task.id)
"""


def test_tasks_run_and_people_are_served_over_tls(make_ring: MakeRing, tmp_path: Path) -> None:
    ring = make_ring(gpus=1, host="0.0.0.0").start()
    said = json.loads((ring.state / "centre.json").read_text())
    assert said["url"].startswith("https://127.0.0.1:")
    assert said["server_url"] == said["url"]

    # A task asks its own server with the SDK's library, and a stranger's page with what it trusts besides.
    asks = """python - <<'END'
import os, requests
print("API", requests.get(os.environ["CLEARML_API_HOST"] + "/debug.ping", timeout=9).status_code)
END
grep -c BEGIN "$REQUESTS_CA_BUNDLE"; stat -c %a "$REQUESTS_CA_BUNDLE\""""
    task = ring.bash(asks.replace("python", sys.executable, 1))
    assert ring.ends(task) == ["completed"]
    console = ring.console(task)
    assert "API 200" in console
    assert int(console.split("API 200")[1].split()[0]) > 20, "also whom the machine trusted before"

    # The SDK on a user's machine, by the clearml.conf that fleet writes.
    conf = tmp_path / "clearml.conf"
    ring.fleet("server", "credentials", "-c", "fleet.yaml", "--write", str(conf))
    kept = {k: v for k, v in os.environ.items() if k not in ("REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE")}
    environment = {**kept, "CLEARML_CONFIG_FILE": str(conf), "HOME": str(tmp_path), "TRAINS_CONFIG_FILE": ""}
    done = subprocess.run(
        [sys.executable, "-c", SDK],
        env=environment,
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=90 * PATIENCE,
        check=False,
    )
    assert "SAW " in done.stdout, done.stdout + done.stderr

    # Whoever trusts public authorities alone is not fooled, and the command says what to do.
    with pytest.raises(requests.exceptions.SSLError):
        requests.get(said["url"], timeout=9 * PATIENCE)
    assert ring.fleet("status").returncode == 0
    ring.environment |= {"FLEET_HOME": str(tmp_path / "elsewhere"), "FLEET_TOKEN": said["token"]}
    refused = ring.fleet("status", "--url", said["url"], check=False)
    assert (refused.returncode, refused.stderr.count("\n")) == (1, 1)
    assert "FLEET_CENTRE_CERT_SHA256" in refused.stderr
    printed = (ring.place / "dispatch.log").read_text().split("SHA-256 of its authority ")[1].split()[0]
    ring.environment["FLEET_CENTRE_CERT_SHA256"] = printed
    assert "cluster ring" in ring.fleet("status", "--url", said["url"]).stdout
    ring.environment["FLEET_CENTRE_CERT_SHA256"] = "0" * 64
    refused = ring.fleet("status", "--url", said["url"], check=False)
    assert (refused.returncode, refused.stderr.count("\n")) == (1, 1)
    assert "nothing was sent to it" in refused.stderr
    wait_for(lambda: all(i.gone_at for i in ring.instances()), what="the machine goes")
