"""Which machines have to prove who they are."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from fleet.assemble.proofs import proofs_of
from fleet.config import parse
from fleet.errors import ConfigError, IdentityError, IdentityUnknown
from fleet.model import Instance
from fleet.wire import Proof
from tests.builders import an_instance
from tests.identity.signed import PEM, a_certificate, a_document, signed
from tests.web.nouns import at

FILE = """\
cluster: c
advertise_url: https://fleet.example.org
identity: {{aws_certificates: {place}/aws.pem{more}}}
resources:
  east: {{provider: aws, region: us-east-1}}
  west: {{provider: gcp, service_account: robot@lab}}
  mute: {{provider: gcp}}
  here: {{provider: local}}
queues:
  train: {{resources: [east, west, mute, here]}}
"""


def of(resource: str) -> Instance:
    instance = an_instance("i1")
    return replace(instance, offer=replace(instance.offer, resource=resource))


def test_machines_prove_who_they_are_where_their_cloud_can_say_so(tmp_path: Path) -> None:
    (tmp_path / "aws.pem").write_bytes(a_certificate(0).public_bytes(PEM))
    proofs = proofs_of(parse(FILE.format(place=tmp_path, more=""), "f"))
    machines = {name: of(name) for name in ("east", "west", "mute", "here")}
    for name in ("mute", "here"):
        proofs(machines[name], None, at(0))
    for name in ("east", "west"):
        with pytest.raises(IdentityError, match="it brings no proof of its cloud"):
            proofs(machines[name], None, at(0))
    east = replace(machines["east"], cloud_id=None)
    proof = Proof(kind="ec2", text=signed(a_document(), tmp_path).decode())
    with pytest.raises(IdentityUnknown):
        proofs(east, proof, at(0))
    launched = replace(east, cloud_id="i-1234567890abcdef0", requested_at=at(0))
    proofs(replace(launched, offer=replace(east.offer, zone="us-east-1a")), proof, at(60))
    with pytest.raises(IdentityError, match="its instanceId is"):
        proofs(replace(launched, cloud_id="i-other"), proof, at(60))


def test_an_operator_may_do_without(tmp_path: Path) -> None:
    proofs = proofs_of(parse(FILE.format(place=tmp_path, more=", required: false"), "f"))
    for name in ("east", "west"):
        proofs(of(name), None, at(0))


def test_a_file_of_certificates_that_is_not_there_is_said_before_anything_is_launched(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"identity\.aws_certificates: .*No such file"):
        proofs_of(parse(FILE.format(place=tmp_path, more=""), "f"))
