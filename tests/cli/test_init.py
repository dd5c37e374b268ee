"""`fleet init`: it looks, asks little, writes a file that its own check accepts, and no secret."""

from __future__ import annotations

import os
import pty
import select
import subprocess
import sys
import time
from pathlib import Path

import pytest

from fleet.config import parse
from fleet.providers.detected import Detected, detect
from tests.cli.running import Shell
from tests.waiting import PATIENCE

NOTHING = {name: "" for name in os.environ if name.startswith(("AWS_", "GOOGLE_", "CLOUDSDK_", "GENESIS"))}


@pytest.fixture
def user(tmp_path: Path) -> Shell:
    return Shell(tmp_path, {**NOTHING, "HOME": str(tmp_path)})


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (("--provider", "aws"), ("aws", "us-east-1", "g5.xlarge")),
        (("--provider", "aws", "--type", "p5.48xlarge", "--yes"), ("aws", "us-east-1", "p5.48xlarge")),
        (("--provider", "gcp", "--project", "lab-1"), ("gcp", "us-central1", "g2-standard-4")),
        (("--provider", "genesis"), ("genesis", "NORD-NO-KRS-1", "vcpu-4_memory-12g_nvidia-rtx-3080-1")),
    ],
)
def test_a_file_for_each_cloud_passes_its_own_reading(
    user: Shell, arguments: tuple[str, ...], expected: tuple[str, str, str]
) -> None:
    done = user.fleet("init", *arguments)
    assert done.returncode == 0, done.stderr
    config = parse((user.place / "fleet.yaml").read_text(), "fleet.yaml", {"GENESIS_TOKEN": "t"})
    (resource,) = config.resources
    assert (resource.provider, resource.region, resource.instance_types) == (*expected[:2], (expected[2],))
    assert resource.image
    assert config.advertise_url.startswith("https://")
    assert "127.0.0.1" not in config.advertise_url


def test_what_is_not_there_yet_is_said_with_the_way_to_it(user: Shell) -> None:
    said = user.fleet("init", "--provider", "aws", "--region", "eu-west-1").stdout
    assert "before it can start: give the dispatcher AWS credentials: `aws configure`" in said
    assert "has no price of g5.xlarge in eu-west-1: the limit in dollars is commented out" in said
    assert "# usd_per_hour: 5 " in (user.place / "fleet.yaml").read_text()


def test_a_machine_of_genesis_cloud_needs_a_key_and_a_price_and_both_are_asked_for(user: Shell) -> None:
    said = user.fleet("init", "--provider", "genesis", GENESIS_TOKEN="t").stdout
    assert "name a key of your account under ssh_keys (or with --ssh-key)" in said
    assert "write prices: {vcpu-4_memory-12g_nvidia-rtx-3080-1: DOLLARS} on the resource" in said
    assert "fleet prices refresh" not in said
    said = user.fleet("init", "--provider", "genesis", "--ssh-key", "ann-0", "--force", GENESIS_TOKEN="t").stdout
    config = parse((user.place / "fleet.yaml").read_text(), "fleet.yaml", {"GENESIS_TOKEN": "t"})
    assert config.resources[0].settings["ssh_keys"] == ["ann-0"]
    assert "ssh_keys" not in said


def test_a_file_is_never_overwritten_and_a_wrong_answer_writes_none(user: Shell) -> None:
    assert "expected local, aws, gcp, genesis" in user.refusal("init", "--provider", "azure")
    assert "name it with --project" in user.refusal("init", "--provider", "gcp")
    assert "region 'a b': expected a name" in user.refusal("init", "--provider", "aws", "--region", "a b")
    for usd in ("-1", "nan", "1e9"):
        said = user.refusal("init", "--provider", "aws", "--usd-per-hour", usd)
        assert "must be more than 0, and less than 1,000,000" in said
    assert "ssh-key 'a b'" in user.refusal("init", "--provider", "genesis", "--ssh-key", "a b")
    assert not (user.place / "fleet.yaml").exists()
    (user.place / "fleet.yaml").write_text("mine")
    assert "exists" in user.refusal("init", "--provider", "aws")
    assert (user.place / "fleet.yaml").read_text() == "mine"


def test_no_secret_that_it_finds_is_written_or_said(user: Shell) -> None:
    (user.place / ".aws").mkdir()
    (user.place / ".aws" / "credentials").write_text(
        "[default]\naws_access_key_id = AKIAHUNTER\naws_secret_access_key = hunter2\n"
    )
    (user.place / ".aws" / "config").write_text("[default]\nregion = eu-north-1\n")
    keys = {
        "CLEARML_API_HOST": "https://api.clearml.lab",
        "CLEARML_API_ACCESS_KEY": "A",
        "CLEARML_API_SECRET_KEY": "hunter2",
    }
    done = user.fleet("init", "--provider", "aws", "--yes", **keys)
    text = (user.place / "fleet.yaml").read_text()
    config = parse(text, "fleet.yaml", keys)
    assert config.resources[0].region == "eu-north-1"
    assert "secret_key: ${CLEARML_API_SECRET_KEY}" in text
    for secret in ("hunter2", "AKIAHUNTER"):
        assert secret not in text + done.stdout + done.stderr
    assert "give the dispatcher AWS credentials" not in done.stdout


def answered(user: Shell, answers: list[str]) -> str:
    """What a person at a terminal sees who types these, each after the next question."""
    ours, theirs = pty.openpty()
    command = [sys.executable, "-m", "fleet", "init"]
    process = subprocess.Popen(
        command, cwd=user.place, env=user.environment, stdin=theirs, stdout=theirs, stderr=theirs
    )
    os.close(theirs)
    seen, deadline = "", time.monotonic() + 30 * PATIENCE
    try:
        while time.monotonic() < deadline:
            if not select.select([ours], [], [], 0.5)[0]:
                continue
            try:
                part = os.read(ours, 4096).decode()
            except OSError:
                break  # it has ended
            if not part:
                break
            seen += part
            if seen.rstrip().endswith((":", "]:")) and seen.endswith(": ") and answers:
                os.write(ours, (answers.pop(0) + "\n").encode())
        process.wait(10 * PATIENCE)
    finally:
        process.kill()
        process.wait()
        os.close(ours)
    assert process.returncode == 0, seen
    assert answers == [], seen
    return seen


def test_a_person_is_asked_for_what_cannot_be_seen(user: Shell) -> None:
    (user.place / "clearml.conf").write_text("api {\n  api_server: https://api.clearml.lab\n}\n")
    dollars = ["-5", "nan", "0", "a lot", "$7.50"]
    seen = answered(user, ["cloud", "awz", "aws", "y", "us-west-2", "", "https://fleet.lab:8765", *dollars])
    assert "no cloud is called 'cloud' here; there are local, aws, gcp, genesis" in seen
    assert "no cloud is called 'awz' here; did you mean aws?" in seen
    assert seen.count("expected US dollars, more than 0, as 5 or 2.50") == 4
    assert "Use the ClearML server of your clearml.conf (https://api.clearml.lab)?" in seen
    keys = dict.fromkeys(("CLEARML_API_ACCESS_KEY", "CLEARML_API_SECRET_KEY"), "x")
    config = parse((user.place / "fleet.yaml").read_text(), "fleet.yaml", keys)
    assert (config.resources[0].region, config.resources[0].instance_types) == ("us-west-2", ("g5.xlarge",))
    assert config.advertise_url == "https://fleet.lab:8765"
    assert "# usd_per_hour: 7.5 " in (user.place / "fleet.yaml").read_text(), "no price of that region is known yet"
    assert config.server.api_url == "https://api.clearml.lab"  # type: ignore[union-attr]


def test_credentials_are_found_where_the_clouds_own_tools_keep_them(tmp_path: Path) -> None:
    assert detect("aws", {}, tmp_path) == detect("gcp", {}, tmp_path) == detect("genesis", {}, tmp_path) == Detected()
    (tmp_path / ".aws").mkdir()
    (tmp_path / ".aws" / "config").write_text("[profile lab]\nsso_session = x\nregion = eu-west-3\n")
    assert detect("aws", {"AWS_PROFILE": "lab"}, tmp_path) == Detected(
        credentials="~/.aws/config, profile lab", region="eu-west-3"
    )
    keys = {"AWS_ACCESS_KEY_ID": "a", "AWS_SECRET_ACCESS_KEY": "b", "AWS_REGION": "us-east-2"}
    assert detect("aws", keys, tmp_path) == Detected(
        credentials="the environment (AWS_ACCESS_KEY_ID)", region="us-east-2"
    )
    cloud = tmp_path / ".config" / "gcloud"
    (cloud / "configurations").mkdir(parents=True)
    (cloud / "configurations" / "config_default").write_text(
        "[core]\nproject = lab-1\n[compute]\nregion = europe-west4\n"
    )
    (cloud / "application_default_credentials.json").write_text('{"type": "authorized_user", "refresh_token": "x"}')
    assert detect("gcp", {}, tmp_path) == Detected(
        credentials="gcloud auth application-default login", region="europe-west4", project="lab-1"
    )
    (tmp_path / "key.json").write_text('{"project_id": "lab-2"}')
    found = detect("gcp", {"GOOGLE_APPLICATION_CREDENTIALS": str(tmp_path / "key.json")}, tmp_path)
    assert found.project == "lab-1"
    assert "GOOGLE_APPLICATION_CREDENTIALS" in str(found.credentials)
    assert detect("genesis", {"GENESIS_TOKEN": "t"}, tmp_path).credentials == "the environment (GENESIS_TOKEN)"


@pytest.mark.parametrize("text", ["\x00\xff", "[default", "a = 1", "[default]\nregion"])
def test_damaged_files_of_those_tools_are_not_there(text: str, tmp_path: Path) -> None:
    (tmp_path / ".aws").mkdir()
    for name in ("config", "credentials"):
        (tmp_path / ".aws" / name).write_text(text, encoding="latin-1")
    assert detect("aws", {}, tmp_path).region is None
