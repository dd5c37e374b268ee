"""`fleet bake` without credentials that the cloud takes: one line with the fix, and Packer is not started."""

from __future__ import annotations

import json
import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa

from tests.cli.running import Shell
from tests.providers.aws.ec2 import Answer, Ec2, Fault
from tests.providers.aws.ec2 import served as served_ec2

FLEET_FILE = """\
cluster: lab
advertise_url: https://fleet.lab
resources:
  a10: {provider: aws, region: us-east-1, instance_types: [g5.xlarge], endpoint_url: "URL"OWN}
  l4: {provider: gcp, project: lab-1, zones: [us-central1-a], instance_types: [g2-standard-4]OF_GOOGLE}
queues:
  train: {resources: [a10], gpus: 1}
  big: {resources: [l4], gpus: 1}
"""
# In the place of Packer: it says that it was started, and what its environment has for the cloud.
PACKER = """\
#!/bin/sh
case $1 in version) echo 'Packer v1.6.6'; exit;; esac
[ -z "$GOOGLE_APPLICATION_CREDENTIALS" ] || cat "$GOOGLE_APPLICATION_CREDENTIALS" >>"$PLACE/started"
echo "started: $AWS_ACCESS_KEY_ID $AWS_SECRET_ACCESS_KEY" >>"$PLACE/started"
exit 1
"""
# As STS says it ("Common errors", AWS Security Token Service API Reference).
NOT_TAKEN = (
    b'<ErrorResponse xmlns="https://sts.amazonaws.com/doc/2011-06-15/"><Error><Type>Sender</Type><Code>InvalidClientTokenId</Code>'
    b"<Message>The security token included in the request is invalid.</Message></Error><RequestId>r</RequestId></ErrorResponse>"
)
OF_CLOUDS = ("AWS_", "GOOGLE_", "CLOUDSDK_")


@pytest.fixture(scope="module")
def moto() -> Iterator[Ec2]:
    with served_ec2() as server:
        yield server


@pytest.fixture
def shell(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Shell:
    """Nobody's credentials, and no metadata service to ask for any."""
    for name in [name for name in os.environ if name.startswith(OF_CLOUDS)]:
        monkeypatch.delenv(name)
    programs = tmp_path / "bin"
    programs.mkdir()
    (programs / "packer").write_text(PACKER)
    (programs / "packer").chmod(0o755)
    alone = {"HOME": str(tmp_path), "AWS_EC2_METADATA_DISABLED": "true", "NO_GCE_CHECK": "true", "PLACE": str(tmp_path)}
    return Shell(tmp_path, {**alone, "PATH": f"{programs}:{os.environ['PATH']}"})


def write_fleet_file(shell: Shell, url: str, own: str = "", of_google: str = "") -> None:
    said = FLEET_FILE.replace("URL", url).replace("OWN", own).replace("OF_GOOGLE", of_google)
    (shell.place / "fleet.yaml").write_text(said)


def was_started(shell: Shell) -> bool:
    return (shell.place / "started").exists()


def test_without_credentials_for_aws_packer_is_not_started(shell: Shell, moto: Ec2) -> None:
    write_fleet_file(shell, moto.url)
    assert shell.refusal("bake", "aws") == (
        "fleet: bake an image: Unable to locate credentials; give the dispatcher a role, a profile, "
        "or AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY"
    )
    assert not was_started(shell)


def test_credentials_that_aws_does_not_take_are_a_line_before_packer_is_started(shell: Shell, moto: Ec2) -> None:
    write_fleet_file(shell, moto.url)
    moto.faults.append(Fault(action="GetCallerIdentity", instead=Answer(status=403, body=NOT_TAKEN)))
    said = shell.refusal("bake", "aws", AWS_ACCESS_KEY_ID="k", AWS_SECRET_ACCESS_KEY="s")
    assert "InvalidClientTokenId" in said
    assert not was_started(shell)


def test_a_profile_that_is_not_there_is_a_line_with_the_command_that_makes_it(shell: Shell, moto: Ec2) -> None:
    write_fleet_file(shell, moto.url, ", profile: lab")
    assert "aws configure --profile NAME" in shell.refusal("bake", "aws")
    assert not was_started(shell)


def test_keys_of_the_fleet_file_are_packers_too(shell: Shell, moto: Ec2) -> None:
    write_fleet_file(shell, moto.url, ", access_key: '${OURS}', secret_key: '${THEIRS}'")
    done = shell.fleet("bake", "aws", OURS="AKIAOURS", THEIRS="hunter2")
    assert (done.returncode, "no image was made" in done.stderr) == (1, True)
    assert (shell.place / "started").read_text() == "started: AKIAOURS hunter2\n"


def test_without_credentials_for_google_packer_is_not_started(shell: Shell) -> None:
    write_fleet_file(shell, "http://127.0.0.1:1")
    said = shell.refusal("bake", "gcp")
    assert said.startswith("fleet: no credentials of Google Cloud: ")
    assert "gcloud auth application-default login" in said
    assert not was_started(shell)


@contextmanager
def tokens(status: int, answer: dict[str, Any]) -> Iterator[str]:
    """Google's token endpoint ("Using OAuth 2.0 for server to server applications"), which answers so."""

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            said = json.dumps(answer).encode()
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(said)))
            self.end_headers()
            self.wfile.write(said)

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_port}/token"
    finally:
        server.shutdown()
        server.server_close()


def a_key(url: str) -> str:
    """The JSON of a service account's key."""
    kind, form = serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8
    private = (
        rsa.generate_private_key(public_exponent=65537, key_size=2048)
        .private_bytes(kind, form, serialization.NoEncryption())
        .decode()
    )
    who = {"client_email": "baker@lab-1.iam.gserviceaccount.com", "client_id": "1", "project_id": "lab-1"}
    return json.dumps(
        {"type": "service_account", "private_key_id": "1", "private_key": private, "token_uri": url, **who}
    )


def test_credentials_that_google_does_not_take_are_a_line_before_packer_is_started(shell: Shell) -> None:
    write_fleet_file(shell, "http://127.0.0.1:1")
    with tokens(400, {"error": "invalid_grant", "error_description": "Invalid grant: account not found"}) as url:
        (shell.place / "key.json").write_text(a_key(url))
        said = shell.refusal("bake", "gcp", GOOGLE_APPLICATION_CREDENTIALS=str(shell.place / "key.json"))
    assert "Google Cloud gives no token for these credentials: " in said
    assert "account not found" in said
    assert not was_started(shell)


def test_credentials_that_google_takes_are_packers(shell: Shell) -> None:
    """Those of the environment as they are; those of the fleet file as a file that is gone afterwards."""
    with tokens(200, {"access_token": "ya29.x", "expires_in": 3599, "token_type": "Bearer"}) as url:
        key = a_key(url)
        (shell.place / "key.json").write_text(key)
        for own, place in (("", str(shell.place / "key.json")), (", credentials: 'file:key.json'", "")):
            write_fleet_file(shell, "http://127.0.0.1:1", of_google=own)
            done = shell.fleet("bake", "gcp", **({"GOOGLE_APPLICATION_CREDENTIALS": place} if place else {}))
            assert done.returncode == 1
            assert "no image was made" in done.stderr
            started = (shell.place / "started").read_text()
            (shell.place / "started").unlink()
            assert started == f"{key}started:  \n"
    assert key not in done.stdout + done.stderr
