"""`fleet prices` as somebody types it: a cloud that tells, one whose list may not be read, one that has none."""

from __future__ import annotations

import json

from tests.cli.running import Shell
from tests.providers.compute_engine import ComputeEngine, Refused, served
from tests.providers.price_list import americas

FLEET_FILE = """\
cluster: lab
advertise_url: https://fleet.lab
resources:
  l4: {provider: gcp, project: lab-1, zones: [us-central1-a], instance_types: [g2-standard-24], image: i, endpoint_url: "URL"}
  cpu: {provider: genesis, region: NORD-NO-KRS-1, instance_types: [vcpu-2_memory-4g], token: t}
queues:
  train: {resources: [l4], gpus: 1}
  prep: {resources: [cpu], gpus: 0}
"""
GENESIS = (
    "note: resource cpu: the API of genesis has no prices; nobody says what vcpu-2_memory-4g costs; "
    "set them with prices: {vcpu-2_memory-4g: DOLLARS_AN_HOUR} on the resource"
)


def test_a_refresh_counts_what_was_learned_and_the_list_says_who_says_it(shell: Shell) -> None:
    cloud = ComputeEngine()
    cloud.price_list, cloud.page = americas(), 10
    with served(cloud) as url:
        (shell.place / "fleet.yaml").write_text(FLEET_FILE.replace("URL", url))
        done = shell.fleet("prices", "refresh")
        assert (done.returncode, done.stdout, done.stderr) == (0, "gcp: 2 prices\n", f"{GENESIS}\n")
        listed = json.loads(shell.fleet("prices", "list", "--json").stdout)
        assert [p["source"].split(",")[0] for p in listed] == ["Cloud Billing Catalog API", ""]
        assert [p["usd_per_hour"] for p in listed] == [2.000784, None]


def test_a_price_list_that_may_not_be_read_is_a_failure_with_its_fix(shell: Shell) -> None:
    cloud = ComputeEngine()

    def refuse(verb: str, path: str) -> None:
        raise Refused(403, "accessNotConfigured", "Cloud Billing API has not been used in project 7 before")

    cloud.before = refuse
    with served(cloud) as url:
        (shell.place / "fleet.yaml").write_text(FLEET_FILE.replace("URL", url))
        done = shell.fleet("prices", "refresh")
    google, genesis = done.stderr.splitlines()
    assert (done.returncode, done.stdout, genesis) == (1, "gcp: 0 prices\n", GENESIS)
    assert google.endswith("enable it: gcloud services enable cloudbilling.googleapis.com --project=lab-1")
