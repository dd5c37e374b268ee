"""User-data: one text for baked and stock images, small, the same for the same order, with no secret but the join token."""

from __future__ import annotations

import base64
import gzip
import json
import shutil
import subprocess
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from hashlib import sha256
from pathlib import Path

import pytest
import yaml

from fleet.errors import BadRequest
from fleet.model import Market, Offer, Resource
from fleet.providers.base import FirstBoot, LaunchOrder
from fleet.providers.first_boot import LARGEST, user_data
from tests.waiting import PATIENCE

AT = datetime(2026, 1, 1, tzinfo=UTC)
TOKEN, FINGERPRINT = "7" * 64, "ab" * 32


def order(gpus: int = 4, provider: str = "aws", **settings: object) -> LaunchOrder:
    resource = Resource(name="a10", provider=provider, settings=settings)
    offer = Offer(
        resource="a10", provider=provider, type="g5.12xlarge", market=Market.SPOT, price_usd_per_hour=1.0, gpus=gpus,
        gpu_model="A10G" if gpus else None, gpu_memory_gib=24.0 if gpus else None, cpus=48, seen_at=AT,
    )  # fmt: skip
    boot = FirstBoot(centre_url="https://fleet.lab:8765", join_token=TOKEN, certificate_sha256=FINGERPRINT)
    return LaunchOrder(instance="i1", cluster="research", resource=resource, offer=offer, first_boot=boot)


def files(text: str) -> dict[str, str]:
    written = yaml.safe_load(text)["write_files"]
    return {file["path"]: unpacked(file["content"]) if "encoding" in file else file["content"] for file in written}


def unpacked(text: str) -> str:
    return gzip.decompress(base64.b64decode(text)).decode()


def told(text: str) -> dict[str, str]:
    return dict(line.split("=", 1) for line in files(text)["/etc/fleet/supervise.env"].splitlines())


def test_it_holds_where_the_dispatcher_is_how_to_know_it_and_who_the_machine_is():
    assert told(user_data(order())) == {
        "FLEET_CENTRE_URL": "https://fleet.lab:8765",
        "FLEET_CENTRE_CERT_SHA256": FINGERPRINT,
        "FLEET_INSTANCE": "i1",
        "FLEET_JOIN_TOKEN": TOKEN,
        "FLEET_GPUS": "4",
        "FLEET_WAIT_S": str(int(order().resource.boot_timeout.total_seconds() * 2 / 3)),
    }


def test_nobody_but_root_reads_what_it_writes_the_token_into():
    written = {file["path"]: file.get("permissions") for file in yaml.safe_load(user_data(order()))["write_files"]}
    assert written["/etc/fleet/supervise.env"] == "0600"
    assert [path for path, text in files(user_data(order())).items() if TOKEN in text] == ["/etc/fleet/supervise.env"]


def test_a_machine_for_cpu_tasks_is_told_so():
    for each in (order(gpus=0), order(gpus=1, cpu_only=True)):
        said = told(user_data(each))
        assert (said["CUDA_VISIBLE_DEVICES"], said["FLEET_GPUS"], said["FLEET_CPU_ONLY"]) == ("none", "0", "1")


def test_the_same_order_has_the_same_text_and_it_is_small_enough_for_every_cloud():
    assert user_data(order()) == user_data(order())
    assert len(user_data(order()).encode()) < LARGEST / 2


def test_a_secret_of_the_resource_is_not_in_it():
    secret = "S3CR3T-of-an-account"
    text = user_data(order(access_key=secret, secret_key=secret, token=secret))
    assert secret not in text


def test_a_machine_that_does_not_get_to_work_ends_at_its_boot_deadline_and_an_old_one_at_its_longest_life():
    resource = replace(order().resource, boot_timeout=timedelta(minutes=5), max_lifetime=timedelta(hours=24))
    text = files(user_data(replace(order(), resource=resource)))
    assert "TimeoutStartSec=300s" in text["/etc/systemd/system/fleet-first-boot.service"]
    assert "FailureAction=poweroff" in text["/etc/systemd/system/fleet-first-boot.service"]
    assert "FLEET_BOOT_S=900" in text["/etc/systemd/system/fleet-watch.service.d/boot.conf"]
    assert "OnBootSec=88200s" in text["/etc/systemd/system/fleet-lifetime.timer.d/lifetime.conf"]


def test_what_cannot_stand_in_a_file_of_variables_is_refused():
    boot = FirstBoot(centre_url="https://fleet.lab/\nFLEET_POWER=exit", join_token=TOKEN)
    with pytest.raises(BadRequest, match="FLEET_CENTRE_URL"):
        user_data(replace(order(), first_boot=boot))


@pytest.mark.skipif(shutil.which("cloud-init") is None, reason="no cloud-init here (apt-get install cloud-init)")
@pytest.mark.parametrize("each", [order(), order(gpus=0, provider="gcp")], ids=["gpu", "cpu"])
def test_cloud_init_itself_finds_nothing_wrong(each: LaunchOrder, tmp_path: Path):
    (tmp_path / "user-data").write_text(user_data(each))
    done = subprocess.run(
        ["cloud-init", "schema", "--config-file", str(tmp_path / "user-data")],
        capture_output=True, text=True, timeout=60 * PATIENCE, check=False,
    )  # fmt: skip
    assert done.returncode == 0, json.dumps([done.stdout, done.stderr])


def test_the_resources_own_script_runs_before_the_supervisor():
    text = files(user_data(order(init_script="mount /dev/nvme1n1 /scratch")))
    assert text["/etc/fleet/init.sh"] == "#!/bin/bash\nmount /dev/nvme1n1 /scratch\n"
    script = text["/usr/local/sbin/fleet-first-boot"]
    assert script.index("str(INIT)") < script.index("fleet-supervise.service")


def test_a_script_that_does_not_fit_is_refused():
    with pytest.raises(BadRequest, match="init_script"):
        user_data(order(init_script="".join(sha256(str(n).encode()).hexdigest() for n in range(600))))
