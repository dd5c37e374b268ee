"""Which machines have to prove who they are."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from agent_hooks.gpus import simulated
from fleet.assemble.proofs import Proofs, proofs_of
from fleet.assemble.trust_checks import trust
from fleet.config import parse
from fleet.config.settings import Identity, Tls
from fleet.errors import CentreRefused, ConfigError, IdentityError, IdentityUnknown
from fleet.identity.ec2 import Ec2
from fleet.model import Instance
from fleet.pinned import fingerprint
from fleet.supervisor.centre import Centre
from fleet.supervisor.start import _enroll, settings
from fleet.web.renewal import sha256
from fleet.wire import Proof
from tests.agent_hooks.clouds import Ec2 as Cloud
from tests.builders import an_instance
from tests.identity.signed import PEM, a_certificate, a_document, signed
from tests.web import nouns
from tests.web.nouns import Web, at, serving
from tests.web.nouns import settings as web_settings

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


def test_the_doctor_says_whose_machines_enrol_by_their_token_alone(tmp_path: Path) -> None:
    (tmp_path / "aws.pem").write_bytes(a_certificate(0).public_bytes(PEM))
    config = replace(parse(FILE.format(place=tmp_path, more=""), "f"), state_dir=tmp_path)
    certificate, identity, _ = trust(config)
    assert (certificate.found, certificate.fix) == ("none (loopback)", "")
    told = (
        "machines of mute enrol by their token alone; gcp: give them a service_account, which may be one without rights"
    )
    assert (identity.found, identity.fix) == (told, "")
    made = replace(config, tls=Tls(is_own=True))
    certificate, *_ = trust(made)
    assert certificate.found == f"fleet's own, authority {fingerprint((tmp_path / 'authority.pem').read_text())}"
    (tmp_path / "aws.pem").write_text("")
    certificate, identity, _ = trust(replace(config, tls=Tls(certificate=tmp_path / "none", key=tmp_path / "none")))
    assert "cannot be read: No such file" in certificate.fix
    assert "holds no certificates" in identity.fix


@pytest.mark.parametrize(
    ("agent", "found"),
    [
        (
            "{mode: venv}",
            "tasks of east, west can have the rights that the cloud gives their machine; closed by agent: ",
        ),
        ("{mode: docker, image: x}", "no task can have rights in a cloud from its machine"),
        ("{mode: docker, image: x, docker: {network: bridge}}", "no task can have rights in a cloud from its machine"),
    ],
)
def test_the_doctor_says_whose_tasks_have_the_rights_of_their_machine(tmp_path: Path, agent: str, found: str) -> None:
    (tmp_path / "aws.pem").write_bytes(a_certificate(0).public_bytes(PEM))
    text = FILE.format(place=tmp_path, more="") + f"agent: {agent}\n"
    text = text.replace("region: us-east-1", "region: us-east-1, iam_instance_profile: p")
    *_, metadata = trust(replace(parse(text, "f"), state_dir=tmp_path))
    assert (metadata.name, metadata.fix) == ("metadata", "")
    assert metadata.found.startswith(found)


def test_the_doctor_says_which_certificates_to_take_from_where(tmp_path: Path) -> None:
    text = FILE.format(place=tmp_path, more="").replace("region: us-east-1", "region: us-west-2")
    config = replace(parse(text, "f"), state_dir=tmp_path, identity=Identity())
    _, identity, _ = trust(config)
    assert identity.found.startswith(
        "machines of east, mute enrol by their token alone; aws: take those under RSA-2048 "
    )
    assert (
        'instance identity document signatures" of the Amazon EC2 User Guide for us-west-2 into one PEM'
        in identity.found
    )
    _, identity, _ = trust(replace(config, identity=Identity(is_required=False)))
    assert identity.found.endswith("because identity.required is false")


def test_a_machine_of_ec2_enrols_with_the_word_of_its_cloud_and_another_one_with_its_token_does_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    metadata = Cloud()
    monkeypatch.setenv("FLEET_PROVIDER", "aws")
    monkeypatch.setenv("FLEET_METADATA_URL", metadata.url)
    proofs = Proofs({"gpu": Ec2([a_certificate(0)], account="123456789012")})
    began = {"pendingTime": at(30).isoformat()}
    try:
        with serving(Web(settings=web_settings(prove=proofs))) as web:
            intent = nouns.an_instance("i1")
            intent = replace(intent, offer=replace(intent.offer, zone="us-east-1a"))
            web.store.record_intents([intent])
            web.store.expect("i1", sha256("join"), at(900))
            web.store.note_launched("i1", "i-1234567890abcdef0", at(2))
            environ = {"FLEET_CENTRE_URL": web.url, "FLEET_INSTANCE": "i1", "FLEET_JOIN_TOKEN": "join"}
            machine = settings(environ)
            metadata.rsa2048 = signed(a_document(instanceId="i-0f00000000000000f", **began), tmp_path).decode()
            with pytest.raises(CentreRefused, match="its instanceId is 'i-0f00000000000000f'"):
                _enroll(Centre(web.url), machine, simulated("[]", "i1"))
            metadata.rsa2048 = signed(a_document(**began), tmp_path).decode()
            assert _enroll(Centre(web.url), machine, simulated("[]", "i1")).instance == "i1"
    finally:
        metadata.close()
