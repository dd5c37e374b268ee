"""What `fleet doctor` says of resources in clouds: how they reach this host, credentials, prices, each with its fix."""

from __future__ import annotations

import json
import os
import socket
from pathlib import Path

import pytest

from fleet.assemble.check import Check
from fleet.assemble.cloud_checks import clouds
from fleet.config import Config, parse


def fleet(place: Path, extra: str = "", resource: str = "region: us-east-1") -> Config:
    text = f"""
        cluster: lab
        state_dir: {place}
        resources: {{gpu: {{provider: aws, instance_types: [g5.xlarge], {resource}}}}}
        queues: {{train: {{resources: [gpu]}}}}
        """
    return parse(f"{text}{extra}", "fleet.yaml", environment={}, is_for_real=False)


def found(config: Config) -> dict[str, Check]:
    return {check.name: check for check in clouds(config)}


@pytest.fixture(autouse=True)
def nobody(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in ("AWS_ACCESS_KEY_ID", "AWS_PROFILE", "AWS_WEB_IDENTITY_TOKEN_FILE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))


def test_a_fleet_without_clouds_is_asked_none_of_this(tmp_path: Path) -> None:
    config = parse(
        f"cluster: lab\nstate_dir: {tmp_path}\nresources: {{a: {{provider: local}}}}\nqueues: {{train: {{resources: [a]}}}}",
        "f",
        environment={},
    )
    assert list(clouds(config)) == []


@pytest.mark.parametrize(
    ("url", "said", "fix"),
    [
        ("http://192.0.2.7:8765", "is not https", "tokens would travel in the clear"),
        ("https://localhost:8765", "localhost is ", "give the address of this host that they reach"),
        ("https://no-such-name.invalid", "is no name that can be looked up here", "give it a DNS name"),
        ("https://192.0.2.7:8765", "nobody listens yet", ""),
    ],
)
def test_an_address_that_machines_cannot_use_is_named_with_its_fix(
    url: str, said: str, fix: str, tmp_path: Path
) -> None:
    check = found(fleet(tmp_path, f"advertise_url: {url}\n        listen: 0.0.0.0:8765"))["advertise_url"]
    assert said in check.found
    assert fix in check.fix
    assert check.is_fine == (not fix)


def test_an_address_where_nobody_answers_is_wrong_once_the_centre_runs(tmp_path: Path) -> None:
    (tmp_path / "centre.json").write_text(json.dumps({"pid": os.getpid()}))
    with socket.create_server((_own_address(), 0)) as taken:
        port = taken.getsockname()[1]
    check = found(fleet(tmp_path, f"advertise_url: https://{_own_address()}:{port}\n        listen: 0.0.0.0:{port}"))[
        "advertise_url"
    ]
    assert "does not answer" in check.found
    assert "firewall" in check.fix


def _own_address() -> str:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        probe.connect(("192.0.2.1", 9))
        return str(probe.getsockname()[0])


def test_where_credentials_come_from_is_said_never_what_they_are(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    url = "advertise_url: https://192.0.2.7:8765"
    assert "the role of this machine" in found(fleet(tmp_path, url))["aws credentials"].found
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "AKIAHUNTER")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "hunter2")
    assert found(fleet(tmp_path, url))["aws credentials"].found == "the environment (AWS_ACCESS_KEY_ID)"
    own = fleet(tmp_path, url, "region: us-east-1, profile: lab")
    assert found(own)["aws credentials"].found == "as the fleet file says"


@pytest.mark.parametrize(
    ("resource", "budget", "said", "is_fine"),
    [
        ("region: us-east-1", "", "known for 1", True),
        ("region: us-east-1, market: spot", "", "not listed: g5.xlarge (spot)", True),
        ("region: eu-west-1", "budget: {usd_per_day: 9}", "1 unknown", False),
    ],
)
def test_prices_that_a_budget_needs_and_nobody_knows_are_wrong(
    resource: str, budget: str, said: str, is_fine: bool, tmp_path: Path
) -> None:
    check = found(fleet(tmp_path, f"advertise_url: https://192.0.2.7\n        {budget}", resource))["prices"]
    assert said in check.found
    assert check.is_fine == is_fine


def test_a_damaged_file_of_prices_is_a_line(tmp_path: Path) -> None:
    (tmp_path / "aws").mkdir()
    (tmp_path / "aws" / "prices.json").write_text("{")
    check = found(fleet(tmp_path, "advertise_url: https://192.0.2.7\n        budget: {usd_per_day: 9}"))["prices"]
    assert "fleet prices refresh" in check.fix
