"""Instance identity documents, signed by openssl as Amazon signs them."""

from __future__ import annotations

import base64
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import dsa, rsa
from cryptography.x509.oid import NameOID
from hypothesis import given, settings
from hypothesis import strategies as st

from fleet.errors import ConfigError, IdentityError
from fleet.identity.cms import signed_content
from fleet.identity.ec2 import Ec2, read_signers
from fleet.wire import Proof
from tests.identity.signed import PEM, a_certificate, a_document, a_key, signed
from tests.web.nouns import an_instance, at

ID = "i-1234567890abcdef0"
EC2 = Ec2([a_certificate(7), a_certificate(0)], account="123456789012")
INSTANCE = replace(an_instance("i1"), offer=replace(an_instance("i1").offer, zone="us-east-1a"))


def check(text: bytes, ec2: Ec2 = EC2, cloud_id: str = ID) -> None:
    ec2.check(Proof(kind="ec2", text=text.decode()), INSTANCE, cloud_id, at(60))


@pytest.mark.parametrize("options", [(), ("-stream",)], ids=["DER", "BER"])
def test_the_machine_that_was_launched_is_let_in(tmp_path: Path, options: tuple[str, ...]) -> None:
    check(signed(a_document(), tmp_path, 0, *options))
    check(signed(a_document(availabilityZone="us-east-1b"), tmp_path, 0, *options))


def test_openssl_agrees_on_what_was_signed(tmp_path: Path) -> None:
    message = base64.b64decode(signed(a_document(), tmp_path, 0, "-stream"))
    assert signed_content(message, [a_certificate(0)]) == a_document()


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        ({"instanceId": "i-0fffffffffffffff0"}, "its instanceId is 'i-0fffffffffffffff0', not 'i-1234567890abcdef0'"),
        ({"accountId": "999999999999"}, "its accountId is '999999999999', not '123456789012'"),
        ({"region": "eu-west-1"}, "it is in 'eu-west-1', not where us-east-1a is"),
        ({"pendingTime": "2026-03-01T09:00:00Z"}, "it began at 2026-03-01T09:00:00Z, long before"),
        ({"pendingTime": "2026-03-02T12:00:00Z"}, "it began at 2026-03-02"),
        ({"pendingTime": "noon"}, "whose pendingTime is 'noon'"),
        ({"pendingTime": "2026-03-01T12:00:30"}, "has no offset"),
        ({"instanceId": None}, "its instanceId is 'None'"),
    ],
)
def test_another_machine_is_not_let_in(tmp_path: Path, changes: dict[str, object], why: str) -> None:
    with pytest.raises(IdentityError) as refused:
        check(signed(a_document(**changes), tmp_path))
    assert why in str(refused.value)


def test_a_document_that_somebody_else_signed_is_worth_nothing(tmp_path: Path) -> None:
    with pytest.raises(IdentityError, match="not of any of the certificates"):
        check(signed(a_document(), tmp_path, 3))


def test_a_short_key_is_worth_nothing(tmp_path: Path) -> None:
    weak = Ec2([a_certificate(4, 1024)], account=None)
    with pytest.raises(IdentityError, match="not of any of the certificates"):
        check(signed(a_document(), tmp_path, 4, bits=1024), weak)


def test_a_document_that_was_changed_is_worth_nothing(tmp_path: Path) -> None:
    message = base64.b64decode(signed(a_document(instanceId="i-aaaaaaaaaaaaaaaa0"), tmp_path))
    forged = message.replace(b"i-aaaaaaaaaaaaaaaa0", ID.encode())
    assert forged != message
    with pytest.raises(IdentityError, match="not of any of the certificates"):
        check(base64.b64encode(forged))


def test_a_document_signed_without_attributes_or_without_its_content_is_refused(tmp_path: Path) -> None:
    with pytest.raises(IdentityError, match="cannot be read"):
        check(signed(a_document(), tmp_path, 0, "-noattr"))
    with pytest.raises(IdentityError, match="cannot be read"):
        check(base64.b64encode(base64.b64decode(signed(a_document(), tmp_path))[:-40]))


def test_proofs_of_other_clouds_and_no_base64_are_refused() -> None:
    for proof in (Proof(kind="gce", text="x"), Proof(kind="ec2", text="?"), Proof(kind="ec2", text="")):
        with pytest.raises(IdentityError):
            EC2.check(proof, INSTANCE, ID, at(60))


@settings(max_examples=300, deadline=None)
@given(place=st.integers(0, 2000), byte=st.integers(0, 255), cut=st.integers(0, 2000))
def test_no_broken_message_is_let_in_or_breaks_us(message: bytes, place: int, byte: int, cut: int) -> None:
    broken = bytearray(message)
    broken[place % len(broken)] = byte
    for each in (bytes(broken), message[: cut % len(message)]):
        try:
            content = signed_content(each, [a_certificate(0)])
        except IdentityError:
            continue
        assert content == a_document()  # a byte that nobody signed: the issuer's name, say


@given(st.binary(max_size=300))
def test_no_stranger_s_bytes_break_us(message: bytes) -> None:
    with pytest.raises(IdentityError):
        signed_content(message, [a_certificate(0)])


def test_a_message_nested_without_end_is_refused() -> None:
    for message in (b"\x30\x80" * 30_000, b"\x30\x82\xff\xff" * 10_000, b"\x30" + b"\xff" * 100, b"\x30\x80" * 40_000):
        with pytest.raises(IdentityError):
            signed_content(message, [a_certificate(0)])


def test_certificates_are_read_from_one_file_and_what_is_wrong_with_it_is_said(tmp_path: Path) -> None:
    file = tmp_path / "regions.pem"
    file.write_bytes(b"us-east-1\n" + b"\n".join(a_certificate(n).public_bytes(PEM) for n in (0, 7)))
    assert read_signers(file) == (a_certificate(0), a_certificate(7))
    with pytest.raises(ConfigError, match=r"^identity\.aws_certificates: .*cannot be read: No such file"):
        read_signers(tmp_path / "none")
    file.write_text("hello")
    with pytest.raises(ConfigError, match="holds no certificates"):
        read_signers(file)


def test_a_certificate_of_another_kind_which_the_page_has_too_is_refused_at_once(tmp_path: Path) -> None:
    file, good = tmp_path / "regions.pem", a_certificate(0).public_bytes(PEM)
    useless = {
        r"is of RSA with 1024 bits; take those under RSA-2048 from the page": a_certificate(1, 1024),
        r"is not of RSA \(DSA\); take": made_of(dsa.generate_private_key(2048)),
        r"ended on 2020-01-02; take": made_of(a_key(2), until=datetime(2020, 1, 2, tzinfo=UTC)),
    }
    for why, certificate in useless.items():
        file.write_bytes(good + certificate.public_bytes(PEM))
        with pytest.raises(ConfigError, match=rf"identity\.aws_certificates: certificate 2 in {file} {why}"):
            read_signers(file)


def made_of(
    key: dsa.DSAPrivateKey | rsa.RSAPrivateKey, until: datetime = datetime(2195, 1, 17, tzinfo=UTC)
) -> x509.Certificate:
    name = x509.Name([x509.NameAttribute(NameOID.ORGANIZATION_NAME, "Amazon Web Services LLC")])
    made = x509.CertificateBuilder(name, name, key.public_key(), 5).not_valid_before(datetime(2012, 1, 5, tzinfo=UTC))
    return made.not_valid_after(until).sign(key, hashes.SHA256())


@pytest.fixture(scope="module")
def message(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    return base64.b64decode(signed(a_document(), tmp_path_factory.mktemp("cms")))
