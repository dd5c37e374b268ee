"""Credentials of object storage: from the fleet file through the agents' clearml.conf to the real SDK in a task.

S3 is a moto server, which keeps what the task uploads. The libraries for Google Cloud Storage and Azure are not installed here, and
nothing here answers as those services do: of these the SDK is asked which credentials it would use for an address.
"""

from __future__ import annotations

import hashlib
import importlib.util
import json

import pytest

from fleet.config import parse
from fleet.model import AgentSettings
from fleet.queues.base import TaskStatus
from tests.system import object_store

pytestmark = [
    pytest.mark.system,
    pytest.mark.xdist_group("edge"),
    pytest.mark.skipif(
        any(importlib.util.find_spec(each) is None for each in ("clearml_agent", "clearml", "moto", "boto3")),
        reason="clearml, clearml-agent, moto and boto3 are not all installed",
    ),
]

UPLOADS = """\
from clearml import StorageManager
with open("result.txt", "w") as file:
    file.write("42")
print("uploaded to", StorageManager.upload_file("result.txt", "s3://%s/results/result.txt"))
"""
ASKS = """\
import hashlib, json
from clearml.backend_config.bucket_config import *
from clearml.config import config
known = {"s3": S3BucketConfigurations, "google": GSBucketConfigurations, "azure": AzureContainerConfigurations}
s3 = known["s3"].from_config(config.get("aws.s3"))
google = known["google"].from_config(config.get("google.storage"))
azure = known["azure"].from_config(config.get("azure.storage"))
secrets = {
    "an S3 bucket of its own": s3.get_config_by_uri("s3://data/x").secret,
    "any other S3 bucket": s3.get_config_by_uri("s3://elsewhere/x").secret,
    "a Google bucket of its own": google.get_config_by_uri("gs://data/x").credentials_json,
    "any other Google bucket": google.get_config_by_uri("gs://elsewhere/x").credentials_json,
    "Azure": azure.get_config_by_uri("azure://lab.blob.core.windows.net/data/x").account_key,
}
print("FOUND", json.dumps({name: hashlib.sha256(s.encode()).hexdigest() for name, s in secrets.items()}))
"""


def settings(storage: str) -> AgentSettings:
    """`agent.storage` of a fleet file."""
    agent = f"{{mode: interpreter, storage: {storage}}}"
    text = (
        f"cluster: x\nagent: {agent}\nresources: {{lab: {{provider: local}}}}\nqueues: {{train: {{resources: [lab]}}}}"
    )
    secrets = {name: f"s3cret-{name}" for name in ("A", "B", "C")}
    return parse(text, "fleet.yaml", secrets).agent


def test_a_task_uploads_to_an_object_store_with_the_key_of_the_fleet_file(machine, clearml):
    with object_store.serving() as store:
        store.client().create_bucket(Bucket="results")
        store.keys.clear()
        machine(agent=settings(f"{{s3: {{key: of-the-fleet, secret: '${{A}}', endpoint: 'http://{store.host}'}}}}"))
        task = clearml.submit("train", UPLOADS % store.host, "python3")
        assert clearml.ended(task) == TaskStatus.COMPLETED, clearml.log(task)
        assert set(store.keys) == {"of-the-fleet"}
        assert store.objects("results") == {"result.txt": b"42"}
    assert "s3cret" not in clearml.log(task)


def test_the_sdk_of_a_task_finds_the_credentials_of_each_storage_and_prints_none(machine, clearml):
    s3 = "{key: K, secret: '${A}', buckets: [{bucket: data, key: L, secret: '${B}'}]}"
    google = (
        "{project: p, credentials_json: /keys/all.json, buckets: [{bucket: data, credentials_json: /keys/data.json}]}"
    )
    azure = "{containers: [{account_name: lab, account_key: '${C}', container_name: data}]}"
    here = machine(agent=settings(f"{{s3: {s3}, google: {google}, azure: {azure}}}"))
    task = clearml.submit("train", ASKS, "python3")
    assert clearml.ended(task) == TaskStatus.COMPLETED, clearml.log(task)
    (line,) = [line for line in clearml.log(task).splitlines() if line.startswith("FOUND ")]
    assert json.loads(line.removeprefix("FOUND ")) == {
        name: hashlib.sha256(secret.encode()).hexdigest()
        for name, secret in {
            "an S3 bucket of its own": "s3cret-B",
            "any other S3 bucket": "s3cret-A",
            "a Google bucket of its own": "/keys/data.json",
            "any other Google bucket": "/keys/all.json",
            "Azure": "s3cret-C",
        }.items()
    }
    assert not any(secret in text for secret in ("s3cret-",) for text in (clearml.log(task), here.log.read_text()))
